//! C13: what a user has read on one device, all replicas know in the end.
//!
//! A session tells how far its user has read; nobody acks that, and the session tells it again until it is known. What
//! it told last counts, where it was not undone, and the session lives to the end.

use super::{Checker, Found, Violation};
use crate::history::{History, Kind, Log, Session, Told};
use std::collections::{BTreeMap, BTreeSet};
use types::Offset;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C13);
    let mut told: BTreeMap<(Session, Log), (Offset, usize)> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::Marked { session, log, at } => drop(told.insert((*session, *log), (at.offset, event))),
            Kind::Told { session, log, told: Told::Diverged { common } }
                if told.get(&(*session, *log)).is_some_and(|(at, _)| at.get() > *common) =>
            {
                told.remove(&(*session, *log));
            }
            Kind::Ended { session } => drop(ended.insert(*session)),
            _ => {}
        }
    }
    told.retain(|(session, _), _| !ended.contains(session));
    for (event, happened) in history.events().iter().enumerate() {
        let Kind::FinalMarks { node, log: of, read } = &happened.kind else { continue };
        for ((session, _), (at, said)) in told.iter().filter(|((_, log), _)| log == of) {
            let device = history.names().sessions()[session.index()].device;
            let user = &history.names().device(device).user;
            let known = read.get(user).copied().unwrap_or(Offset::ZERO);
            if known < *at {
                found.add([*said, event], || {
                    format!("{user} has read {of} up to offset {at}, and {node} knows of {known}")
                });
            }
        }
    }
    found.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Header, Recorder};
    use types::{DeviceId, Epoch, Generation, LogId, NodeId, Position, RegionId, UserId};

    /// Ann reads up to offset 7; then this happens; in the end a replica knows that she has read up to `known`.
    fn wrong(then: impl FnOnce(Session, Log) -> Option<Kind>, known: Option<u64>) -> usize {
        let recorder = Recorder::in_memory(Header::new("hand-made", 0, true), || 0);
        let here = RegionId::new("here").expect("a name");
        let node = recorder.node(&NodeId::new("here-1").expect("a name"), &here);
        let log = recorder.log(LogId::group([1; 16]));
        let ann = UserId::new("ann").expect("a name");
        let session = recorder.session(recorder.device(&ann, DeviceId::new(1), &here));
        let at = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(7));
        recorder.record(Kind::Marked { session, log, at });
        if let Some(kind) = then(session, log) {
            recorder.record(kind);
        }
        let read = known.map(|known| (ann, Offset::new(known))).into_iter().collect();
        recorder.record(Kind::FinalMarks { node, log, read });
        check(&recorder.finish().expect("a history")).len()
    }

    #[test]
    fn a_replica_that_has_missed_what_was_read_is_found() {
        assert_eq!(wrong(|_, _| None, Some(7)), 0);
        assert_eq!(wrong(|_, _| None, Some(9)), 0, "another device has read more");
        assert_eq!(wrong(|_, _| None, Some(6)), 1);
        assert_eq!(wrong(|_, _| None, None), 1);
    }

    #[test]
    fn what_was_undone_or_told_by_a_device_that_is_gone_may_be_lost() {
        let diverged =
            |common| move |session, log| Some(Kind::Told { session, log, told: Told::Diverged { common } });
        assert_eq!(wrong(diverged(6), None), 0);
        assert_eq!(wrong(diverged(7), None), 1, "it was not undone");
        assert_eq!(wrong(|session, _| Some(Kind::Ended { session }), None), 0);
    }
}
