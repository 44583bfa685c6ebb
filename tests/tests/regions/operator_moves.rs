//! Drains, moves and re-homings from the command line, with what they say, how they end, and who did them.

use crate::PROGRAM;
use anyhow::ensure;
use lab::{LinkChange, placement};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    operator::Operator,
    placing::{home_of, pin_of, row},
    session::{connect, message, open_group, send},
};
use types::{PartitionId, PartitionState};

/// One way, on the link over which a move is to take long.
const SLOW: Duration = Duration::from_millis(600);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_drained_and_a_partition_and_a_chat_are_moved_and_the_trail_says_by_whom() {
    let [from, near, far] = REGIONS;
    let mut options = options(PROGRAM);
    options.overlay.directory.insert("failback-cooldown-ms".to_owned(), 1_000.into());
    let lab = start(options).await;
    let operator = Operator::new(PROGRAM, &lab);
    let homes = async |region: &str| {
        let node = lab.node_id(region).expect("a region");
        let rows = placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await.expect("rows");
        let homed =
            rows.partitions.iter().filter(|row| row.home.as_ref().is_some_and(|home| home.node == node));
        homed.map(|row| row.partition).collect::<Vec<PartitionId>>()
    };
    operator.ann(&["failback", "off"]).await;

    let plan = operator.ok(&["drain", from, "--dry-run"]).await;
    assert!(plan.starts_with(&format!("region {from}: 4 homes would move\n")), "{plan}");
    assert_eq!(homes(from).await.len(), 4, "nothing has moved");
    let nowhere = operator.refused(&["drain", "mars"]).await;
    assert!(nowhere.contains("mars") && nowhere.contains(near), "it names what there is: {nowhere}");
    operator.misused(&["drain", from, "--dry-run", "--wait"]).await;
    let drained = operator.ann(&["drain", from, "--wait"]).await;
    assert!(drained.contains("safe to power off"), "{drained}");
    assert_eq!(homes(from).await, []);
    let to_drained = operator.refused(&["move", "0", from]).await;
    assert!(to_drained.contains("takes no homes"), "{to_drained}");
    operator.ann(&["undrain", from]).await;

    let partition = homes(near).await[0];
    let number = partition.to_string();
    for (args, why) in [
        (["move", "99", far], "partition 99"),
        (["move", &number, "mars"], "there is no region mars"),
        (["move", &number, near], "homed there"),
        (["move", &number, "--abort"], "not being moved"),
    ] {
        let said = operator.refused(&args).await;
        assert!(said.contains(why), "{args:?} is told {said}");
    }
    let moved = operator.ann(&["move", &number, far]).await;
    assert!(moved.ends_with(&format!("partition {number} is homed in {far}\n")), "{moved}");

    // What ends the move takes a while to get there, so that it is under way when it is given up.
    let slow = LinkChange { delay: Some(SLOW), ..LinkChange::default() };
    lab.change_link(far, near, false, slow).expect("is slow");
    let begun = eventually("the move begins", patience(), async || {
        operator.asks(&["move", &number, near, "--no-wait", "--by", "ann"]).await
    })
    .await;
    assert!(begun.contains("has begun"), "{begun}");
    let said = operator.ann(&["move", &number, "--abort"]).await;
    assert!(said.contains("is given up"), "{said}");
    lab.heal();
    let back = eventually("it goes on where it was", patience(), async || {
        let row = row(&lab, partition.get()).await?;
        ensure!(row.state == PartitionState::Homed && row.moving.is_none(), "{row:?}");
        Ok(row)
    })
    .await;
    assert_eq!(*home_of(&back), lab.node_id(far).expect("a region"));

    let mut ann = connect(&lab.edge(near).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    send(&mut ann, message(&log, "before")).await.expect("is acked");
    let idle = operator.ok(&["rehome"]).await;
    assert!(idle.contains("no chat is being re-homed"), "{idle}");
    let nowhere = operator.refused(&["rehome", &log, "mars"]).await;
    assert!(nowhere.contains("mars"), "{nowhere}");
    let none = operator.refused(&["rehome", &log, "--abort"]).await;
    assert!(none.contains("not"), "{none}");
    let rehomed = operator.ann(&["rehome", &log, far, "--wait"]).await;
    assert!(rehomed.contains(&format!("{log} is homed in {far} from offset")), "{rehomed}");
    let pin = pin_of(&lab, &log).await.expect("is pinned");
    assert!(homes(far).await.contains(&PartitionId::new(pin.partition)));
    send(&mut ann, message(&log, "after")).await.expect("is acked there");

    operator.ann(&["following", "off"]).await;
    operator.ann(&["failback", "on"]).await;
    eventually("homes come back", patience(), async || {
        let back = homes(from).await.len();
        ensure!(back == 4, "{back} are back");
        Ok(())
    })
    .await;
    for what in [
        &format!("failback to region {from} is off"),
        &format!("region {from} is drained"),
        &format!("region {from} takes homes again"),
        &format!("of partition {number}@"),
        &format!("log {log} is re-homed to {far}"),
        &format!("of partition {number} to {near}-1 is given up"),
        "chats follow nobody",
        &format!("failback to region {from} is on"),
    ] {
        operator.sees("ann", what).await;
    }
    let nobody = Operator::at(PROGRAM, "http://127.0.0.1:1".to_owned());
    let said = nobody.refused(&["moves"]).await;
    assert!(said.contains("127.0.0.1:1"), "{said}");
    lab.stop().await.expect("stops");
}
