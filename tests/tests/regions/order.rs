//! One order per chat, whoever writes from wherever.

use crate::PROGRAM;
use std::collections::{BTreeSet, HashMap};
use tests::{
    deployment::{REGIONS, options, patience, start},
    eventually,
    session::{connect, follow, message, open_group, receive, send, text, user},
};

const MESSAGES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn three_regions_write_at_once_and_all_read_one_interleaving() {
    let lab = start(options(PROGRAM)).await;
    let names = ["ann", "ben", "cem"];
    let edges: Vec<String> = REGIONS.iter().map(|region| lab.edge(region).expect("a region")).collect();

    let mut founder = connect(&edges[0], names[0]).await.expect("connects");
    let log = open_group(&mut founder, &names[1..]).await.expect("opens");

    let mut readers = Vec::new();
    for (edge, name) in edges.iter().zip(names) {
        let reader = eventually("following", patience(), async || {
            let mut reader =
                client::bare::Connection::open(edge, &user(name), types::DeviceId::new(2), vec![]).await?;
            follow(&mut reader, &log, "").await?;
            Ok(reader)
        });
        readers.push(reader.await);
    }

    let writers: Vec<_> = edges
        .iter()
        .zip(names)
        .map(|(edge, name)| {
            let (edge, log) = (edge.clone(), log.clone());
            tokio::spawn(async move {
                let mut session = connect(&edge, name).await.expect("connects");
                for number in 0..MESSAGES {
                    send(&mut session, message(&log, &format!("{name} {number}"))).await.expect("is acked");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writes");
    }

    let mut histories = Vec::new();
    for mut reader in readers {
        // The chat's creation is its first entry.
        histories
            .push(receive(&mut reader, names.len() * MESSAGES + 1, patience()).await.expect("receives all"));
    }
    let positions = |history: &[proto::client::Entry]| -> Vec<String> {
        history.iter().map(|entry| entry.position.clone()).collect()
    };
    assert_eq!(positions(&histories[0]), positions(&histories[1]));
    assert_eq!(positions(&histories[0]), positions(&histories[2]));
    assert!(
        histories[0].iter().map(|entry| entry.offset).eq(1..=histories[0].len() as u64),
        "offsets are dense"
    );

    let texts: Vec<String> = histories[0].iter().filter_map(text).collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for text in &texts {
        let (name, number) = text.split_once(' ').expect("a name and a number");
        let next = seen.entry(name).or_default();
        assert_eq!(number.parse(), Ok(*next), "{name}'s messages keep their order");
        *next += 1;
    }
    // Interleaved, not one after the other: before anyone has finished, everyone has begun.
    let first_done = texts.iter().position(|text| text.ends_with(&format!(" {}", MESSAGES - 1)));
    let begun: BTreeSet<&str> = texts[..first_done.expect("someone finishes")]
        .iter()
        .filter_map(|text| text.split(' ').next())
        .collect();
    assert_eq!(begun.len(), names.len(), "the senders alternate: {texts:?}");
    lab.stop().await.expect("stops");
}
