//! Linearizable reads: one round to a majority for all that come together. A round does not wait for the one before.

use super::types::Raft;
use crate::{bounds, engine::SubmitError};
use openraft::error::{CheckIsLeaderError, ForwardToLeader, RaftError};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

type Reply = oneshot::Sender<Result<(), SubmitError>>;

/// Where readers wait. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Queue(mpsc::Sender<Reply>);

impl Queue {
    /// Starts the task; it ends when every handle is gone.
    pub(super) fn start(raft: Raft) -> Self {
        let (sender, queue) = mpsc::channel(bounds::QUEUE_MAX);
        tokio::spawn(serve(raft, queue));
        Self(sender)
    }

    /// Waits until the rows hold all that was acknowledged before this call.
    pub(super) async fn barrier(&self) -> Result<(), SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(reply).map_err(|_| SubmitError::Overloaded)?;
        answer.await.unwrap_or_else(|_| Err(SubmitError::Indeterminate("it has stopped".into())))
    }
}

async fn serve(raft: Raft, mut queue: mpsc::Receiver<Reply>) {
    let mut rounds = JoinSet::new();
    loop {
        let mut waiting = Vec::with_capacity(bounds::GROUP_MAX);
        tokio::select! {
            Some(_) = rounds.join_next(), if !rounds.is_empty() => continue,
            taken = queue.recv_many(&mut waiting, bounds::GROUP_MAX),
                if rounds.len() < bounds::READS_UNDER_WAY =>
            {
                if taken == 0 {
                    return;
                }
            }
        }
        let raft = raft.clone();
        rounds.spawn(async move {
            let outcome = confirm(&raft).await;
            for reply in waiting {
                let _gone = reply.send(outcome.clone());
            }
        });
    }
}

/// Asks a majority whether this replica still leads, and again where too few answered in time.
async fn confirm(raft: &Raft) -> Result<(), SubmitError> {
    let deadline = Instant::now() + Duration::from_millis(bounds::COMMIT_TIMEOUT_MS);
    loop {
        match timeout_at(deadline, raft.ensure_linearizable()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(ForwardToLeader {
                leader_id,
                ..
            })))) => return Err(SubmitError::NotLeader(leader_id)),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) => {
                if Instant::now() >= deadline {
                    return Err(SubmitError::NotLeader(None));
                }
                tokio::time::sleep(Duration::from_millis(bounds::TICK_MS)).await;
            }
            Ok(Err(RaftError::Fatal(fatal))) => return Err(SubmitError::Indeterminate(fatal.to_string())),
            Err(_) => return Err(SubmitError::NotLeader(None)),
        }
    }
}
