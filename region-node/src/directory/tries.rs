//! Asks the directory until one of its replicas answers, for a while.

use super::client::{Directory, is_answer};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep};
use tonic::{Response, Status, transport::Channel};
use types::{Code, Refusal};

/// How often a call that got no answer is repeated at once, at each replica of the directory.
const TRIES: usize = 3;
/// The pause in which several replicas may agree on a leader.
const AGAIN: Duration = Duration::from_millis(200);
/// After this long it is not repeated any more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a call has no reply.
#[derive(Debug, Clone)]
pub(super) enum NoReply {
    /// The directory refuses it.
    Refused(Status),
    /// Nobody answered; repeating it is safe.
    Unavailable(Refusal),
}

impl Directory {
    /// Makes a call that may be repeated, at one replica after the other.
    pub(super) async fn ask<T, F>(&self, call: impl Fn(Channel) -> F + Send + Sync) -> Result<T, NoReply>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
        T: Send,
    {
        let mut tries = Tries::of(self.replicas());
        let mut last = None;
        while tries.next().await {
            match self.call_on(&call).await {
                Ok(reply) => return Ok(reply),
                Err(status) if is_answer(&status) => return Err(NoReply::Refused(status)),
                Err(status) => last = Some(status),
            }
        }
        Err(NoReply::Unavailable(unavailable(last.as_ref())))
    }
}

/// Counts tries, and waits between them where another replica may answer the next one.
struct Tries {
    left: usize,
    pause: Option<Duration>,
    until: Instant,
    is_first: bool,
}

impl Tries {
    fn of(replicas: usize) -> Self {
        Self {
            left: TRIES * if replicas > 1 { 2 * replicas } else { 1 },
            pause: (replicas > 1).then_some(AGAIN),
            until: Instant::now() + PATIENCE,
            is_first: true,
        }
    }

    async fn next(&mut self) -> bool {
        if self.left == 0 || (!self.is_first && Instant::now() >= self.until) {
            return false;
        }
        if let Some(pause) = self.pause.filter(|_| !self.is_first) {
            sleep(pause).await;
        }
        self.left -= 1;
        self.is_first = false;
        true
    }
}

fn unavailable(status: Option<&Status>) -> Refusal {
    let why = status.map_or("no answer", Status::message);
    Refusal::new(Code::DirectoryUnavailable, format!("the directory cannot be reached: {why}"))
        .retry_after_ms(1_000)
}
