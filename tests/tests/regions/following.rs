//! A chat goes where its users are, by itself, while they write.

use crate::{
    PROGRAM,
    rehoming::{Writer, homed_in},
};
use lab::{Lab, Options, toml::toml};
use proto::directory::{AuditRequest, directory_client::DirectoryClient};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, options, start},
    history::{place_of, same_everywhere},
    placing::pin_of,
    session::{connect, message, open_group, send},
};

/// A chat is judged by what was written within seconds.
fn impatient(mut options: Options) -> Options {
    options.overlay.node.extend(toml! {
        following-half-life-ms = 3_000
        following-hold-ms = 1_500
        following-weight-min = 8
    });
    options
}

async fn audit(lab: &Lab) -> Vec<String> {
    let mut directory = DirectoryClient::connect(lab.directory_address()).await.expect("a directory");
    let events = directory.audit(AuditRequest { limit: 100 }).await.expect("answers").into_inner().events;
    events.into_iter().filter(|event| event.who == "following").map(|event| event.what).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_whose_users_are_in_another_region_comes_to_be_homed_there_and_stays() {
    let lab = start(impatient(options(PROGRAM))).await;
    let [one, two, three] = REGIONS;
    let mut founder = connect(&lab.edge(one).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben", "cem"]).await.expect("opens");
    let own = open_group(&mut founder, &["ben", "cem"]).await.expect("opens");
    let first = message(&log, "the first");
    send(&mut founder, first.clone()).await.expect("is acked");

    let ben = Writer::start(&lab, two, "ben", &log).await;
    let cem = Writer::start(&lab, two, "cem", &log).await;
    let ann = Writer::start(&lab, one, "ann", &own).await;
    assert_eq!(homed_in(&lab, &log, 2).await, two, "where those are who write it");
    // Others may write now and then, from wherever they are.
    let mut guest = connect(&lab.edge(three).expect("a region"), "ann").await.expect("connects");
    let mut said = vec![first];
    for number in 0..20 {
        let next = message(&log, &format!("a guest {number}"));
        send(&mut guest, next.clone()).await.expect("no write fails");
        said.push(next);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for writer in [ben, cem] {
        let (more, longest) = writer.stop().await;
        println!("{} messages; the longest took {longest:?}", more.len());
        said.extend(more);
    }
    ann.stop().await;
    assert_eq!(pin_of(&lab, &log).await.expect("is pinned").generation, 2, "it stays there");
    assert_eq!(pin_of(&lab, &own).await.expect("is pinned").generation, 1, "a chat at home stays at home");
    let history = same_everywhere(&lab, &REGIONS, "cem", &log).await;
    assert_eq!(history.len(), said.len() + 1, "each message once, behind the creation");
    said.iter().for_each(|message| drop(place_of(&history, &message.message_id).clone()));
    let audit = audit(&lab).await;
    assert!(matches!(&audit[..], [begun] if begun.contains(two)), "{audit:?}");
    lab.stop().await.expect("stops");
}
