//! What erasing a body means, for every engine.
//!
//! Only the body of a message is ever erased, and what an account said before it ended: what control entries say is
//! folded, and a log must fold to the same state however often its bodies were taken away. An account that has ended
//! folds to its end, whatever came before.

use std::borrow::Cow;
use types::{Body, EffectAct, EntryBody, Offset, Record, StateUpdate, account::AccountChange};

/// Whether the record is a message, or a change of an account, whose body is still there and can be taken away.
pub const fn has_body(record: &Record) -> bool {
    match &record.body {
        Body::Entry(entry) => is_erasable(&entry.body),
        Body::Update(_) => false,
    }
}

const fn is_erasable(body: &EntryBody) -> bool {
    match body {
        EntryBody::Message { .. } => true,
        EntryBody::Account(change) => !matches!(**change, AccountChange::Voided | AccountChange::Closed),
        EntryBody::Created { .. }
        | EntryBody::Chat(_)
        | EntryBody::Deleted { .. }
        | EntryBody::Erased { .. } => false,
    }
}

/// Whether the record is one whose body was taken away.
pub const fn is_erased(record: &Record) -> bool {
    match &record.body {
        Body::Entry(entry) => matches!(entry.body, EntryBody::Erased { .. }),
        Body::Update(_) => false,
    }
}

/// The offsets of its log whose bodies the record erases: a deletion here, the effect of one elsewhere, or the end of
/// an account, which erases all before it.
pub fn erased_by(record: &Record) -> Cow<'_, [Offset]> {
    match &record.body {
        Body::Entry(entry) => match &entry.body {
            EntryBody::Deleted { offsets } => offsets.into(),
            EntryBody::Account(change) if **change == AccountChange::Closed => {
                (1..entry.offset.get()).map(Offset::new).collect()
            }
            EntryBody::Created { .. }
            | EntryBody::Account(_)
            | EntryBody::Chat(_)
            | EntryBody::Message { .. }
            | EntryBody::Erased { .. } => Cow::default(),
        },
        Body::Update(StateUpdate::Effect(effect)) => match &effect.act {
            EffectAct::Erase { offsets } => offsets.into(),
            EffectAct::Joined
            | EffectAct::Left
            | EffectAct::Gone
            | EffectAct::Blocked
            | EffectAct::Unblocked => Cow::default(),
        },
        Body::Update(_) => Cow::default(),
    }
}

/// Whether the record is a message whose time is over.
pub const fn is_expired(record: &Record, now_ms: u64) -> bool {
    match &record.body {
        Body::Entry(entry) => match entry.expires_at_ms {
            Some(expires_at_ms) => has_body(record) && expires_at_ms <= now_ms,
            None => false,
        },
        Body::Update(_) => false,
    }
}

/// Takes a body away that can be; its hash stays. Answers whether there was one to take.
pub fn erase(record: &mut Record) -> bool {
    if !has_body(record) {
        return false;
    }
    let Body::Entry(entry) = &mut record.body else { return false };
    entry.body = EntryBody::Erased { hash: entry.body.hash() };
    true
}
