//! C11: who is removed from a chat is given nothing that comes after.
//!
//! Whoever gives an entry out knows all entries before it, and so who was removed by one of them. An entry behind a
//! removal is given to the removed user only by somebody who knows that the user is back: by an entry behind the
//! removal, which was sent before the user was given anything. What a failover has undone is not judged.

use super::{
    Checker, Found, Violation,
    finals::{Finals, Held},
    writes::Writes,
};
use crate::history::{History, Kind, Log, Message};
use std::collections::{HashMap, HashSet};
use types::{Offset, Position, UserId};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C11);
    let chats = Chats::of(history);
    for (event, happened) in history.events().iter().enumerate() {
        let (device, log, at) = match &happened.kind {
            Kind::Seen { session, log, at, .. } => {
                (history.names().sessions()[session.index()].device, *log, *at)
            }
            Kind::Paged { device, log, at, .. } => (*device, *log, *at),
            _ => continue,
        };
        let user = &history.names().device(device).user;
        if let Some(removed) = chats.removed(log, user, at, event) {
            found.add([removed.event, event], || {
                format!("{user} was removed from {log} at offset {}, and is given {at}", removed.offset)
            });
        }
    }
    found.done()
}

/// Who came to a chat or left it by one of its entries.
struct Change {
    /// Where the entry stands.
    offset: Offset,
    is_member: bool,
    /// When it was sent; none where nobody has noted that.
    sent: Option<usize>,
    /// The event that tells of the entry in the end.
    event: usize,
}

/// A chat in which somebody came or left.
#[derive(Default)]
struct Chat {
    stands: HashSet<Position>,
    /// By user, in the order of the log.
    changes: HashMap<UserId, Vec<Change>>,
}

struct Chats(HashMap<Log, Chat>);

impl Chats {
    fn of(history: &History) -> Self {
        let mut by_message: HashMap<Message, Vec<(&UserId, bool)>> = HashMap::new();
        for happened in history.events() {
            if let Kind::Membership { message, user, is_member } = &happened.kind {
                by_message.entry(*message).or_default().push((user, *is_member));
            }
        }
        let logs: HashSet<Log> =
            by_message.keys().map(|message| history.names().message(*message).log).collect();
        let (writes, finals) = (Writes::of(history), Finals::of(history));
        let mut chats = HashMap::new();
        for log in logs {
            // All copies are alike, or that is found elsewhere.
            let Some((_, copy)) = finals.of_log(log).next() else { continue };
            chats.insert(log, Chat::of(copy, &by_message, &writes));
        }
        Self(chats)
    }

    /// The removal before an entry that a user was given at an event, if the user cannot have been back.
    fn removed(&self, log: Log, user: &UserId, at: Position, event: usize) -> Option<&Change> {
        let chat = self.0.get(&log)?;
        if !chat.stands.contains(&at) {
            return None;
        }
        let changes = chat.changes.get(user)?;
        let behind = changes.partition_point(|change| change.offset < at.offset);
        let last = changes[..behind].last().filter(|change| !change.is_member)?;
        let is_back = |change: &Change| change.is_member && change.sent.is_none_or(|sent| sent < event);
        (!changes[behind..].iter().any(is_back)).then_some(last)
    }
}

impl Chat {
    fn of(copy: &[Held], by_message: &HashMap<Message, Vec<(&UserId, bool)>>, writes: &Writes) -> Self {
        let mut chat = Self { stands: copy.iter().map(|held| held.at).collect(), ..Self::default() };
        for held in copy {
            for (user, is_member) in by_message.get(&held.message).into_iter().flatten() {
                let sent = writes.get(held.message).invoked.map(|invoked| invoked.event);
                let change =
                    Change { offset: held.at.offset, is_member: *is_member, sent, event: held.event };
                chat.changes.entry((*user).clone()).or_default().push(change);
            }
        }
        chat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{BodySum, Device, Header, Recorder, Resends, Session};
    use types::{DeviceId, Epoch, Generation, LogId, MessageId, NodeId, RegionId};

    /// A chat in which ann writes, and ben comes and goes.
    struct Story {
        recorder: Recorder,
        log: Log,
        ann: Device,
        ben: Session,
        messages: Vec<Message>,
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a name")
    }

    fn at(offset: usize) -> Position {
        Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset as u64))
    }

    impl Story {
        fn new() -> Self {
            let recorder = Recorder::in_memory(Header::new("hand-made", 0, true), || 0);
            let region = RegionId::new("here").expect("a name");
            let log = recorder.log(LogId::group([1; 16]));
            let ann = recorder.device(&user("ann"), DeviceId::new(1), &region);
            let ben = recorder.device(&user("ben"), DeviceId::new(1), &region);
            let ben = recorder.session(ben);
            Self { recorder, log, ann, ben, messages: Vec::new() }
        }

        /// Writes the next entry: a message, or that ben comes or goes.
        fn write(&mut self, ben: Option<bool>) {
            let id = MessageId::from_bytes([self.messages.len() as u8; 16]);
            let message = self.recorder.message(self.log, self.ann, id);
            if let Some(is_member) = ben {
                let user = user("ben");
                self.recorder.record(Kind::Membership { message, user, is_member });
            }
            let (body, resends) = (BodySum::CHANGE, Resends::Never);
            self.recorder.record(Kind::Invoke { message, body, after: None, resends });
            self.messages.push(message);
        }

        fn write_all(&mut self, entries: &[Option<bool>]) {
            entries.iter().for_each(|ben| self.write(*ben));
        }

        /// Ben is given an entry.
        fn seen(&self, offset: usize) {
            let (session, log, message) = (self.ben, self.log, self.messages[offset - 1]);
            let (at, body, salvaged) = (at(offset), BodySum::CHANGE, false);
            self.recorder.record(Kind::Seen { session, log, at, message, body, salvaged });
        }

        fn wrong(self) -> usize {
            let here = RegionId::new("here").expect("a name");
            let node = self.recorder.node(&NodeId::new("here-1").expect("a name"), &here);
            for (before, message) in self.messages.iter().enumerate() {
                let (log, body) = (self.log, BodySum::CHANGE);
                let held = Kind::Held { node, log, at: at(before + 1), message: *message, body };
                self.recorder.record(held);
            }
            check(&self.recorder.finish().expect("a history")).len()
        }
    }

    #[test]
    fn who_is_removed_is_given_the_removal_and_nothing_behind_it() {
        let mut story = Story::new();
        story.write_all(&[None, Some(false), None]);
        story.seen(1);
        story.seen(2);
        assert_eq!(story.wrong(), 0);

        let mut story = Story::new();
        story.write_all(&[None, Some(false), None]);
        story.seen(3);
        assert_eq!(story.wrong(), 1);
    }

    #[test]
    fn who_is_back_is_given_all_but_not_before() {
        let mut story = Story::new();
        story.write_all(&[None, Some(false), None, Some(true), None]);
        story.seen(3);
        story.seen(5);
        assert_eq!(story.wrong(), 0);

        let mut story = Story::new();
        story.write_all(&[None, Some(false), None]);
        story.seen(3);
        story.write(Some(true));
        assert_eq!(story.wrong(), 1, "nobody knew that ben would be back");
    }
}
