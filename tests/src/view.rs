//! What an app shows that believes every event of the SDK.

use client::{Entry, Event, Events};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use types::MessageId;

/// One chat on a screen.
#[derive(Debug, Default)]
pub struct View {
    /// The chat, from its first entry.
    pub entries: Vec<Entry>,
    /// Each time that something was undone: up to where history stands, and how many entries were taken back.
    pub diverged: Vec<(u64, usize)>,
    /// Own messages that were acked at `home`, and where.
    pub home: BTreeMap<MessageId, u64>,
    /// Own messages that are replicated, and where.
    pub replicated: BTreeMap<MessageId, u64>,
}

impl View {
    /// Follows the events until `done`.
    ///
    /// # Panics
    /// When that takes too long, or an event contradicts what was told before.
    pub async fn until(
        &mut self,
        what: &str,
        events: &mut Events,
        patience: Duration,
        done: impl Fn(&Self) -> bool,
    ) {
        let reading = async {
            while !done(self) {
                let event = events.next().await.expect("the client goes on");
                self.take(event);
            }
        };
        if timeout(patience, reading).await.is_err() {
            panic!("{what}: not within {patience:?}, but {self:?}");
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Entry { entry, .. } | Event::Moved { entry, .. } => {
                assert_eq!(entry.offset, self.entries.len() as u64 + 1, "entries come in offset order");
                self.entries.push(entry);
            }
            Event::Diverged { common_offset, undone, .. } => {
                let kept = usize::try_from(common_offset).expect("a small chat");
                let taken: Vec<MessageId> =
                    self.entries.drain(kept..).map(|entry| entry.message_id).collect();
                assert_eq!(taken, undone, "what stood behind the common part is undone");
                self.diverged.push((common_offset, undone.len()));
            }
            Event::Home { message_id, offset, .. } => drop(self.home.insert(message_id, offset)),
            Event::Replicated { message_id, offset, .. } => {
                self.replicated.insert(message_id, offset);
            }
            Event::Failed { error, .. } => panic!("a message was refused for good: {error}"),
            Event::Unfollowed { error, .. } | Event::Ended { error } => {
                panic!("the session gave up: {error}")
            }
            _ => {}
        }
    }

    /// The positions on the screen.
    pub fn positions(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.position.as_str()).collect()
    }
}
