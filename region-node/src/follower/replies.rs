//! The answers of followed partitions to one stream, until its connection takes them.
//!
//! A partition's answer is put in without waiting, so a stream that does not read holds up no partition;
//! nothing more is taken from such a stream once [`REPLIES_MAX`] answers wait. Of `done`s in a row the
//! newest is enough: what a partition has reported and nobody has read yet becomes one report.

use super::{Outcome, actor::Reply};
use proto::outbox::{Outbox, Outgoing, Queue, outbox};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use types::PartitionId;

/// Answers that may wait while more requests are taken.
const REPLIES_MAX: usize = 4_096;

/// Where answers go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replies(Arc<Outbox<Answers>>);

/// What the stream takes answers from.
pub type Answered = Outgoing<Answers>;

/// Answers to the requests of one stream.
pub fn replies() -> (Replies, Answered) {
    let (replies, answered) = outbox(Answers::default());
    (Replies(Arc::new(replies)), answered)
}

impl Replies {
    pub(super) fn put(&self, reply: Reply) {
        self.0.with(|answers| answers.push(reply));
    }

    /// Waits until few enough answers wait; `false` once nobody takes them. One task at a time.
    pub async fn have_room(&self) -> bool {
        self.0.has_room(|answers| answers.queue.len() < REPLIES_MAX).await
    }
}

/// The answers that wait.
#[derive(Debug, Default)]
pub struct Answers {
    queue: VecDeque<Reply>,
    /// How many have left.
    taken: u64,
    /// Which one, counted from the first ever, is the newest of a partition.
    newest: HashMap<PartitionId, u64>,
}

impl Answers {
    fn push(&mut self, reply: Reply) {
        let behind = self.taken + self.queue.len() as u64;
        let newest = self.newest.entry(reply.partition).or_insert(behind);
        let waiting =
            newest.checked_sub(self.taken).and_then(|at| self.queue.get_mut(usize::try_from(at).ok()?));
        match waiting {
            Some(waiting) if waiting.is_done() && reply.is_done() && waiting.fence == reply.fence => {
                *waiting = reply;
            }
            _ => {
                *newest = behind;
                self.queue.push_back(reply);
            }
        }
    }
}

impl Reply {
    fn is_done(&self) -> bool {
        self.outcome == Ok(Outcome::Done)
    }
}

impl Queue for Answers {
    type Item = Reply;

    fn pop(&mut self) -> Option<Reply> {
        let reply = self.queue.pop_front()?;
        if self.newest.get(&reply.partition) == Some(&self.taken) {
            self.newest.remove(&reply.partition);
        }
        self.taken += 1;
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Lsn, PartitionPosition};

    fn reply(partition: u32, fence: u64, lsn: u64, outcome: Outcome) -> Reply {
        Reply {
            partition: PartitionId::new(partition),
            fence: Epoch::new(fence),
            last: PartitionPosition::new(Epoch::FIRST, Lsn::new(lsn)),
            outcome: Ok(outcome),
        }
    }

    #[test]
    fn of_dones_in_a_row_the_newest_is_told() {
        let mut answers = Answers::default();
        answers.push(reply(1, 1, 5, Outcome::Done));
        answers.push(reply(2, 1, 7, Outcome::Done));
        answers.push(reply(1, 1, 6, Outcome::Done));
        answers.push(reply(1, 1, 6, Outcome::Gap));
        answers.push(reply(1, 1, 6, Outcome::Done));
        answers.push(reply(1, 2, 6, Outcome::Done));
        let said: Vec<_> = std::iter::from_fn(|| answers.pop())
            .map(|reply| (reply.partition.get(), reply.fence.get(), reply.last.lsn.get(), reply.is_done()))
            .collect();
        let expected = [(1, 1, 6, true), (2, 1, 7, true), (1, 1, 6, false), (1, 1, 6, true), (1, 2, 6, true)];
        assert_eq!(said, expected);
        assert!(answers.newest.is_empty());
        answers.push(reply(1, 2, 8, Outcome::Done));
        assert_eq!(answers.pop().map(|reply| reply.last.lsn.get()), Some(8));
    }
}
