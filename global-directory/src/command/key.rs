//! The keys that a node signs access tokens with: their public halves, for every node to verify by.

use super::{Answer, Failure};
use crate::{bounds, rows::Rows};
use serde::{Deserialize, Serialize};
use types::{Home, Retirement, VerifyingKey};

/// A key of a node in its present boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// Whose.
    pub node: Home,
    /// Its public half.
    pub key: VerifyingKey,
}

/// A key is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The node has booted since, was bumped, or has left.
    #[error("node {node} does not run in incarnation {incarnation}", node = .0.node, incarnation = .0.incarnation)]
    NotLive(Home),
    /// Another key has this id.
    #[error("node {node} has another key {id}", node = .0.node, id = .1)]
    Used(Home, u64),
}

/// Adds a key to its node's; the oldest goes where there are too many, and what it has signed is refused then.
pub(super) fn publish(rows: &mut Rows<'_>, new: &NewKey) -> Result<Answer, Failure> {
    let is_it = |row: &types::NodeRow| {
        row.live && row.incarnation == new.node.incarnation && row.retirement != Retirement::Retired
    };
    let Some(mut row) = rows.node(&new.node.node)?.filter(is_it) else {
        return Err(KeyError::NotLive(new.node.clone()).into());
    };
    match row.keys.iter().find(|key| key.id == new.key.id) {
        Some(known) if *known == new.key => return Ok(Answer::Done),
        Some(_) => return Err(KeyError::Used(new.node.clone(), new.key.id).into()),
        None => row.keys.push(new.key.clone()),
    }
    let surplus = row.keys.len().saturating_sub(bounds::KEYS_PER_NODE);
    row.keys.drain(..surplus);
    rows.put_node(row)?;
    Ok(Answer::Done)
}
