//! Who is no member of a chat any more while sessions follow it: they get the entry that says so, and nothing behind it.
//!
//! Invariants:
//! - A session is handed entries that its user may read. What the bus tells shows by itself whom it takes out; what is read
//!   is read on behalf of one user, and handed only to sessions of users of whom the page says nothing.
//! - Whoever joins a feed has been found to be a member at the position where it joins, or to read up to behind it.

use super::{Hub, SessionId, say, token};
use proto::client::{self, server_frame::Frame};
use types::{
    EntryBody, LogId, Position, Record, UserId,
    chat::{ChatChange, MemberChange},
};

/// Whom entries that follow each other take out of their chat, and which of them does: an index.
#[derive(Debug, Default)]
pub(super) struct Removals<'a>(Vec<(&'a UserId, usize)>);

impl<'a> Removals<'a> {
    pub(super) fn of(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut removals = Self::default();
        for (at, record) in records.enumerate() {
            let Some(entry) = record.entry() else { continue };
            let EntryBody::Chat(change) = &entry.body else { continue };
            match &**change {
                ChatChange::Members(changes) => {
                    changes.iter().for_each(|change| removals.take(change, at));
                }
                ChatChange::Joined(_) => removals.0.retain(|(user, _)| **user != entry.sender),
                ChatChange::Settings(_) | ChatChange::InviteMade(_) | ChatChange::InviteRevoked(_) => {}
            }
        }
        removals
    }

    fn take(&mut self, MemberChange { user, role }: &'a MemberChange, at: usize) {
        match role {
            Some(_) => self.0.retain(|(other, _)| *other != user),
            None => self.0.push((user, at)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry by which a user is out.
    pub(super) fn get(&self, user: &UserId) -> Option<usize> {
        self.0.iter().find(|(removed, _)| *removed == user).map(|(_, at)| *at)
    }
}

/// Tells a session that its user is no member since the entry at a position.
pub(super) fn tell(hub: &Hub, session: SessionId, log: LogId, position: Position) {
    let removed = client::Removed {
        log: log.to_string(),
        position: token(log, position),
        offset: position.offset.get(),
    };
    say(hub, session, Frame::Removed(removed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{
        Body, DeviceId, Entry, Epoch, Generation, Lsn, MemberRole, MessageId, Offset, chat::InviteHash,
    };

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    fn record(sender: &str, change: ChatChange) -> Record {
        Record {
            lsn: Lsn::FIRST,
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            log: LogId::group([1; 16]),
            accepted_at_ms: 0,
            body: Body::Entry(Entry {
                offset: Offset::FIRST,
                sender: user(sender),
                device: DeviceId::new(1),
                message_id: MessageId::from_bytes([1; 16]),
                expires_at_ms: None,
                salvaged: false,
                about: None,
                body: EntryBody::Chat(Box::new(change)),
            }),
        }
    }

    fn change(name: &str, role: Option<MemberRole>) -> Record {
        record("ann", ChatChange::Members(vec![MemberChange { user: user(name), role }]))
    }

    #[test]
    fn who_comes_back_in_the_same_breath_was_not_out() {
        let member = Some(MemberRole::Member);
        let joined = record("cem", ChatChange::Joined(InviteHash([1; 32])));
        let records =
            [change("ben", None), change("cem", None), change("ben", member), joined, change("dan", None)];
        let removals = Removals::of(records.iter());
        let at = |name| removals.get(&user(name));
        assert_eq!((at("ben"), at("cem"), at("dan"), at("ann")), (None, None, Some(4), None));
        assert!(Removals::of(records[2..4].iter()).is_empty());
    }
}
