//! Planned moves lose nothing and fail nothing, while people write.

use crate::PROGRAM;
use anyhow::{Context as _, ensure};
use client::bare::Connection;
use lab::Lab;
use proto::directory::{
    DrainRequest, MoveRequest, MovesRequest, RegionDrain, UndrainRequest, directory_client::DirectoryClient,
};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, patience, start, whole},
    eventually,
    history::same_everywhere,
    load::{Load, Report},
    placing::{home_of, pin_of, row},
    session::{connect, open_group, user},
};
use tonic::transport::Channel;
use types::{DeviceId, PartitionState};
use uuid::Uuid;

/// What it takes between two writes of one session.
const EVERY: Duration = Duration::from_millis(20);
/// Writes that a load has to see acked before a test goes on.
const MORE: usize = 30;

fn id() -> Vec<u8> {
    Uuid::new_v4().as_bytes().to_vec()
}

async fn directory(lab: &Lab) -> DirectoryClient<Channel> {
    DirectoryClient::connect(lab.directory_address()).await.expect("the directory answers")
}

async fn drain(lab: &Lab, region: &str) {
    let request =
        DrainRequest { request_id: id().into(), region: region.into(), by: "ann".into(), dry_run: false };
    directory(lab).await.drain(request).await.expect("it is drained");
}

async fn undrain(lab: &Lab, region: &str) {
    let request = UndrainRequest { request_id: id().into(), region: region.into(), by: "ann".into() };
    directory(lab).await.undrain(request).await.expect("it is not drained any more");
}

async fn begin_move(lab: &Lab, partition: u32, region: &str) -> anyhow::Result<u64> {
    let request = MoveRequest { request_id: id().into(), partition, region: region.into(), by: "ann".into() };
    Ok(directory(lab).await.r#move(request).await?.into_inner().move_id)
}

async fn region_drain(lab: &Lab, region: &str) -> anyhow::Result<RegionDrain> {
    let moves = directory(lab).await.moves(MovesRequest {}).await?.into_inner();
    moves.regions.into_iter().find(|row| row.region == region).context("no such region")
}

/// A load from a region's edge on a chat, each as a device of its own.
async fn load(lab: &Lab, region: &str, log: &str, every: Duration) -> Load {
    let edge = lab.edge(region).expect("a region");
    let device = DeviceId::new(u64::from(Uuid::new_v4().as_fields().0) + 2);
    let session = Connection::open(&edge, &user("ben"), device, vec![]).await.expect("connects");
    Load::start(session, log, every)
}

/// Waits until each load has seen so many acks more.
async fn acked_more(loads: &[Load], more: usize) {
    for load in loads {
        let enough = load.acked() + more;
        eventually("writes are acked", patience(), async || {
            ensure!(load.acked() >= enough, "{} of {enough}", load.acked());
            Ok(())
        })
        .await;
    }
}

fn nothing_failed(report: &Report, whose: &str) {
    assert_eq!(report.failed, Vec::<String>::new(), "{whose}: {} were acked", report.ids.len());
    assert_eq!(report.unanswered, 0, "{whose}: {} were acked", report.ids.len());
    assert!(!report.ids.is_empty(), "{whose} wrote nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_drained_switched_off_and_gets_its_homes_back_without_a_failed_write() {
    let [drained, near, far] = REGIONS;
    let mut options = whole(PROGRAM);
    options.overlay.directory.insert("failback-cooldown-ms".to_owned(), 1_000.into());
    let lab = start(options).await;
    let mut ann = connect(&lab.edge(drained).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let mut loads = Vec::new();
    for region in REGIONS {
        loads.push(load(&lab, region, &log, EVERY).await);
    }
    acked_more(&loads, MORE).await;
    drain(&lab, drained).await;
    eventually("safe to power off", patience(), async || {
        let drain = region_drain(&lab, drained).await?;
        ensure!(drain.safe_to_power_off, "{drain:?}");
        Ok(())
    })
    .await;
    let there = loads.remove(0);
    let there = there.stop().await;
    nothing_failed(&there, drained);
    lab.kill(drained).await.expect("it is switched off");
    acked_more(&loads, MORE).await;
    lab.restart(drained).await.expect("it is switched on");
    lab.wait_in_sync(patience()).await.expect("its copies are in sync again");
    undrain(&lab, drained).await;
    eventually("homes come back", patience(), async || {
        let homes = region_drain(&lab, drained).await?.homes.len();
        ensure!(homes == 4, "{homes} homes are back");
        Ok(())
    })
    .await;
    let mut acked = there.ids;
    for (region, load) in [near, far].into_iter().zip(loads) {
        let report = load.stop().await;
        nothing_failed(&report, region);
        acked.extend(report.ids);
    }
    let told = same_everywhere(&lab, &[drained, near, far], "ben", &log).await;
    for id in &acked {
        assert!(told.iter().any(|entry| entry.message_id == *id), "message {id} was acked and is lost");
    }
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_target_dies_leaves_the_home_where_it_was_and_loses_nothing() {
    let [source, target, other] = REGIONS;
    let lab = start(options(PROGRAM)).await;
    let mut ann = connect(&lab.edge(source).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut ann, &["ben"]).await.expect("opens");
    let partition = pin_of(&lab, &log).await.expect("is pinned").partition;
    let before = row(&lab, partition).await.expect("a row");
    let loads = [load(&lab, source, &log, EVERY).await, load(&lab, other, &log, EVERY).await];
    // Its copies get nothing more, so that the move cannot come to its end before the target dies.
    lab.pause(&format!("{target}-1")).await.expect("it stands still");
    let begun = begin_move(&lab, partition, target).await;
    lab.kill(target).await.expect("it dies");
    if let Err(refused) = begun {
        println!("the target told nothing, so the move was not begun: {refused:#}");
    }
    let after = eventually("the partition is served", patience(), async || {
        let row = row(&lab, partition).await?;
        ensure!(row.state == PartitionState::Homed && row.moving.is_none(), "{row:?}");
        Ok(row)
    })
    .await;
    assert_eq!(home_of(&after), home_of(&before));
    acked_more(&loads, MORE).await;
    let mut acked = Vec::new();
    for load in loads {
        let report = load.stop().await;
        nothing_failed(&report, "a load");
        acked.extend(report.ids);
    }
    let told = same_everywhere(&lab, &[source, other], "ben", &log).await;
    assert!(acked.iter().all(|id| told.iter().any(|entry| entry.message_id == *id)), "nothing is lost");
    lab.stop().await.expect("stops");
}
