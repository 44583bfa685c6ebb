//! What waits for the connection of one `Fetch` stream.

use proto::{node as wire, outbox::Queue};
use std::collections::VecDeque;
use tonic::Status;

/// Bytes of replies that may wait for one stream's connection; the batches on their way in may pass it.
const OUTBOX_BYTES: usize = 2 * 1024 * 1024;
/// Beyond it no reports are taken either: each may have to be answered.
const OUTBOX_MAX_BYTES: usize = 2 * OUTBOX_BYTES;
/// What a reply counts for beside its records.
const REPLY_BYTES: usize = 256;

/// Replies that the connection has not taken.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<(Result<wire::FetchReply, Status>, usize)>,
    bytes: usize,
}

impl Replies {
    pub(super) const fn has_room(&self) -> bool {
        self.bytes < OUTBOX_BYTES
    }

    pub(super) const fn has_room_for_answers(&self) -> bool {
        self.bytes < OUTBOX_MAX_BYTES
    }

    pub(super) fn push(&mut self, reply: wire::FetchReply, record_bytes: usize) {
        let bytes = REPLY_BYTES + record_bytes;
        self.bytes += bytes;
        self.queue.push_back((Ok(reply), bytes));
    }

    /// The last word of a stream.
    pub(super) fn fail(&mut self, status: Status) {
        self.queue.push_back((Err(status), 0));
    }
}

impl Queue for Replies {
    type Item = Result<wire::FetchReply, Status>;

    fn pop(&mut self) -> Option<Self::Item> {
        let (reply, bytes) = self.queue.pop_front()?;
        self.bytes -= bytes;
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_without_records_fill_the_outbox_too() {
        let mut replies = Replies::default();
        let most = OUTBOX_MAX_BYTES / REPLY_BYTES;
        for _ in 0..most {
            assert!(replies.has_room_for_answers());
            replies.push(wire::FetchReply::default(), 0);
        }
        assert!(!replies.has_room_for_answers() && !replies.has_room());
        while replies.pop().is_some() {}
        assert_eq!(replies.bytes, 0);
        assert!(replies.has_room());
    }
}
