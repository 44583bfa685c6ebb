//! What became of each write, as its device saw it.

use crate::history::{Ack, BodySum, History, Kind, Message, Resends};
use types::Position;

/// One ack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    /// The event that says so.
    pub(super) event: usize,
    /// When the device heard it.
    pub(super) at_us: u64,
    /// Where the message stood then.
    pub(super) at: Position,
}

/// One write; most fields are empty for a message that was only seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Write {
    pub(super) invoked: Option<Invoked>,
    /// The first ack, of either level.
    pub(super) first: Option<Acked>,
    /// The last one.
    pub(super) last: Option<Acked>,
    /// The first ack at `replicated`.
    pub(super) replicated: Option<Acked>,
    /// The event of a refusal that proves it is not written.
    pub(super) failed: Option<usize>,
}

/// How it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Invoked {
    pub(super) event: usize,
    pub(super) at_us: u64,
    pub(super) body: BodySum,
    pub(super) resends: Resends,
}

/// All messages of a history, by number.
pub(super) struct Writes(Vec<Write>);

impl Writes {
    pub(super) fn of(history: &History) -> Self {
        let mut writes = vec![Write::default(); history.names().messages().len()];
        for (event, happened) in history.events().iter().enumerate() {
            let at_us = happened.at_us;
            match &happened.kind {
                Kind::Invoke { message, body, resends, .. } => {
                    let (body, resends) = (*body, *resends);
                    writes[message.index()].invoked = Some(Invoked { event, at_us, body, resends });
                }
                Kind::Ok { message, at, ack, .. } => {
                    let write = &mut writes[message.index()];
                    let acked = Acked { event, at_us, at: *at };
                    write.first.get_or_insert(acked);
                    write.last = Some(acked);
                    if *ack == Ack::Replicated {
                        write.replicated.get_or_insert(acked);
                    }
                }
                Kind::Fail { message, .. } => {
                    writes[message.index()].failed.get_or_insert(event);
                }
                _ => {}
            }
        }
        Self(writes)
    }

    pub(super) fn get(&self, message: Message) -> &Write {
        &self.0[message.index()]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Message, &Write)> {
        self.0.iter().enumerate().map(|(number, write)| (Message(number as u32), write))
    }
}
