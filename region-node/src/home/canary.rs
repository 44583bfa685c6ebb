//! A canary's way through the homes: every shard answers, and one of them writes.

use super::homes::{Command, NodeHomes};
use log_store::StoreError;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// What a canary has found here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sung {
    /// Partitions homed here, as far as is known here.
    pub homes: u32,
    /// Those of them whose home is not open.
    pub unopened: u32,
}

/// Where a canary could not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SingError {
    /// A shard has gone, or gave no answer.
    #[error("the homes here do not answer")]
    Unanswered,
    /// The store did not write.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a shard answers.
pub(super) type SingReply = oneshot::Sender<Result<Sung, SingError>>;

/// Whose turn it is to write.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicUsize);

impl NodeHomes {
    /// Goes the way of a write through every shard, and through the store with one of them, in turn.
    ///
    /// # Errors
    /// Where it could not go on. A shard that is stuck never answers: the caller's patience ends that.
    pub async fn sing(&self) -> Result<Sung, SingError> {
        let turn = self.canary_turn.0.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let mut answers = Vec::with_capacity(self.shards.len());
        for (index, shard) in self.shards.iter().enumerate() {
            let (reply, answer) = oneshot::channel();
            let command = Command::Sing { writes: index == turn, reply };
            shard.send(command).await.map_err(|_| SingError::Unanswered)?;
            answers.push(answer);
        }
        let mut sung = Sung::default();
        for answer in answers {
            let part = answer.await.unwrap_or(Err(SingError::Unanswered))?;
            sung = Sung { homes: sung.homes + part.homes, unopened: sung.unopened + part.unopened };
        }
        Ok(sung)
    }
}
