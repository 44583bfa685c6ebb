//! Boots whose lease has certainly ended need not be waited for any more.

use super::{Answer, Failure};
use crate::rows::Rows;
use types::Home;

pub(super) fn clear(rows: &mut Rows<'_>, boots: &[Home]) -> Result<Answer, Failure> {
    let nodes = rows.nodes()?;
    // Only a boot that is over can have been waited out.
    let is_over =
        |boot: &&Home| nodes.get(&boot.node).is_some_and(|node| node.incarnation > boot.incarnation);
    let over: Vec<&Home> = boots.iter().filter(is_over).collect();
    let mut applied = 0;
    for mut row in rows.partitions()? {
        let before = row.waiting.len();
        row.waiting.retain(|boot| !over.contains(&boot));
        if row.waiting.len() != before {
            applied += 1;
            rows.put_partition(row)?;
        }
    }
    Ok(Answer::Applied(applied))
}
