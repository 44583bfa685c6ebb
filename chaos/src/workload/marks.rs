//! How far users have told to have read.

use crate::history::{Log, Session};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use types::{Offset, UserId};

/// What each session has told last of each log, where it was not undone.
#[derive(Debug, Default)]
pub struct Marks(Mutex<HashMap<(Session, Log), (UserId, Offset)>>);

impl Marks {
    pub(super) fn set(&self, session: Session, log: Log, user: UserId, read: Offset) {
        self.0.lock().insert((session, log), (user, read));
    }

    /// What a session holds behind an offset was undone.
    pub(super) fn cut(&self, session: Session, log: Log, common: u64) {
        self.0.lock().retain(|of, (_, read)| *of != (session, log) || read.get() <= common);
    }

    pub(super) fn forget(&self, session: Session) {
        self.0.lock().retain(|(of, _), _| *of != session);
    }

    /// Those that are not known yet, as far as `known` tells of a log.
    pub fn unknown(&self, known: &BTreeMap<Log, BTreeMap<UserId, Offset>>) -> Vec<(Session, Log, Offset)> {
        let marks = self.0.lock();
        let is_known = |log: &Log, user: &UserId, read: Offset| {
            known.get(log).is_none_or(|known| known.get(user).is_some_and(|known| *known >= read))
        };
        let unknown = marks.iter().filter(|((_, log), (user, read))| !is_known(log, user, *read));
        let mut unknown: Vec<_> =
            unknown.map(|((session, log), (_, read))| (*session, *log, *read)).collect();
        unknown.sort();
        unknown
    }
}
