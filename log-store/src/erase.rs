//! What erasing a body means, for every engine.
//!
//! Only the body of a message is ever erased: what control entries say is folded, and a log must fold to
//! the same state however often its bodies were taken away.

use types::{Body, EffectAct, EntryBody, Offset, Record, StateUpdate};

/// Whether the record is a message whose body is still there.
pub const fn has_body(record: &Record) -> bool {
    match &record.body {
        Body::Entry(entry) => matches!(entry.body, EntryBody::Message { .. }),
        Body::Update(_) => false,
    }
}

/// Whether the record is a message whose body was taken away.
pub const fn is_erased(record: &Record) -> bool {
    match &record.body {
        Body::Entry(entry) => matches!(entry.body, EntryBody::Erased { .. }),
        Body::Update(_) => false,
    }
}

/// The offsets of its log whose bodies the record erases: a deletion here, or the effect of one elsewhere.
pub fn erased_by(record: &Record) -> &[Offset] {
    match &record.body {
        Body::Entry(entry) => match &entry.body {
            EntryBody::Deleted { offsets } => offsets,
            EntryBody::Created { .. }
            | EntryBody::Account(_)
            | EntryBody::Message { .. }
            | EntryBody::Erased { .. } => &[],
        },
        Body::Update(StateUpdate::Effect(effect)) => match &effect.act {
            EffectAct::Erase { offsets } => offsets,
        },
        Body::Update(_) => &[],
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

/// Takes a message's body away; its hash stays. Answers whether there was one to take.
pub fn erase(record: &mut Record) -> bool {
    let Body::Entry(entry) = &mut record.body else { return false };
    let EntryBody::Message { .. } = entry.body else { return false };
    entry.body = EntryBody::Erased { hash: entry.body.hash() };
    true
}
