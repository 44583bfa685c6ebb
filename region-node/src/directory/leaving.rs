//! A node that is about to end gives its homes away first, by planned moves, so that nobody waits for its lease.

use super::client::Directory;
use crate::{Config, ready::Identity};
use proto::directory as wire;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

/// How often the directory is told, and asked what is left.
const LEAVE_EVERY: Duration = Duration::from_millis(100);
/// How long one replica of the directory may take to answer before the next one is asked.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node whose store is damaged waits before it tries again to give its homes away.
const STEP_DOWN_AGAIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Who decides where its homes go.
    pub directory: Directory,
    /// Who the node is.
    pub identity: Arc<Identity>,
}

impl HandOver {
    /// Returns when the node is home of nothing that somebody else could take now, when no replica of the directory
    /// answers, or when the time for it is over. What is left then fails over. Answers whether nothing is.
    pub async fn run(&self) -> bool {
        let began = Instant::now();
        let deadline = began + Duration::from_millis(self.config.hand_over_ms);
        if self.config.hand_over_ms == 0 || self.identity.incarnation().get() == 0 {
            return false;
        }
        let homes = timeout_at(deadline, self.until_given_away()).await;
        let (node, took_ms) = (&self.config.node, began.elapsed().as_millis());
        match homes {
            Ok(Some(0)) => tracing::info!(%node, took_ms, "its homes are given away"),
            Ok(Some(homes)) => {
                tracing::warn!(%node, took_ms, homes, "nobody takes its homes: they fail over")
            }
            Ok(None) => tracing::warn!(%node, took_ms, "the directory does not answer: its homes fail over"),
            Err(_) => tracing::warn!(%node, took_ms, "its homes were not given away in time: they fail over"),
        }
        homes == Ok(Some(0))
    }

    /// Parts with a store that is damaged: returns once everything that this node is home of has another home. While
    /// nobody can take it, what is whole is served on: a damaged copy is better than none.
    pub async fn step_down(&self) {
        while self.config.hand_over_ms > 0 && !self.run().await {
            let node = &self.config.node;
            tracing::error!(%node, "THE STORE IS DAMAGED, and nobody can take all of its homes: it serves what is whole");
            sleep(STEP_DOWN_AGAIN).await;
        }
    }

    /// How many homes are left once nothing can be done about them; `None`: nobody answers.
    async fn until_given_away(&self) -> Option<u32> {
        let home = self.identity.home();
        let home = wire::Home { node: home.node.to_string(), incarnation: home.incarnation.get() };
        let mut unanswered = 0;
        while unanswered <= self.directory.replicas() {
            match self.directory.leave(wire::LeaveRequest { home: Some(home.clone()) }, LEAVE_TIMEOUT).await {
                Ok(reply) if reply.movable == 0 => return Some(reply.homes),
                Ok(_) => unanswered = 0,
                Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                    tracing::debug!(%status, "the directory was not told that this node ends");
                    unanswered += 1;
                }
                Err(status) => {
                    tracing::info!(%status, "this node is home of nothing");
                    return Some(0);
                }
            }
            sleep(LEAVE_EVERY).await;
        }
        None
    }
}
