//! One chat as every region tells it.

use crate::{
    deployment::patience,
    eventually,
    session::{connect, history},
};
use anyhow::ensure;
use lab::Lab;
use proto::client as wire;

/// Waits until every region tells the same history of a chat; answers it.
///
/// # Panics
/// When they do not agree in time, or offsets are not dense, or a message is in it twice.
pub async fn same_everywhere(lab: &Lab, regions: &[&str], reader: &str, log: &str) -> Vec<wire::Entry> {
    let agreed = eventually("one history in all regions", patience(), async || {
        let mut told: Vec<(&str, Vec<wire::Entry>)> = Vec::new();
        for region in regions {
            let mut session = connect(&lab.edge(region)?, reader).await?;
            told.push((region, history(&mut session, log).await?));
        }
        let (first, known) = &told[0];
        for (region, other) in &told[1..] {
            let same = known.iter().zip(other).take_while(|(one, other)| one == other).count();
            ensure!(
                same == known.len() && same == other.len(),
                "{first} tells {} entries, {region} {}, and {same} are common",
                known.len(),
                other.len()
            );
        }
        Ok(told.swap_remove(0).1)
    })
    .await;
    assert!(agreed.iter().map(|entry| entry.offset).eq(1..=agreed.len() as u64), "offsets are dense");
    for (at, entry) in agreed.iter().enumerate() {
        let again = agreed[..at].iter().find(|earlier| earlier.message_id == entry.message_id);
        assert_eq!(again, None, "a message is in the log twice, again as {entry:?}");
    }
    agreed
}

/// Where a message stands in a history.
///
/// # Panics
/// When it is not in it.
pub fn place_of<'a>(history: &'a [wire::Entry], message_id: &str) -> &'a wire::Entry {
    history
        .iter()
        .find(|entry| entry.message_id == message_id)
        .unwrap_or_else(|| panic!("message {message_id} is not among {} entries", history.len()))
}
