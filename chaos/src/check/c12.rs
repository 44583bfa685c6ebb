//! C12: what was deleted is gone in the end.
//!
//! A deletion that was acked at `replicated` stands in every copy, and no copy gives out the body of what it deletes.
//! Where a deletion stands that nobody has acked, the body is gone as well.

use super::{Checker, Found, Violation, finals::Finals, writes::Writes};
use crate::history::{BodySum, History, Kind, Message};
use std::collections::{BTreeMap, HashMap};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C12);
    let mut deletions: BTreeMap<_, Vec<(Message, Message)>> = BTreeMap::new();
    for happened in history.events() {
        if let Kind::Deletion { message, deleted } = &happened.kind {
            let log = history.names().message(*message).log;
            deletions.entry(log).or_default().push((*message, *deleted));
        }
    }
    let (writes, finals) = (Writes::of(history), Finals::of(history));
    for (log, deletions) in deletions {
        for (node, copy) in finals.of_log(log) {
            let held: HashMap<Message, _> = copy.iter().map(|held| (held.message, held)).collect();
            for (message, deleted) in &deletions {
                let acked = writes.get(*message).replicated.map(|ok| ok.event);
                let stands = held.get(message).map(|held| held.event);
                let Some(by) = stands.or(acked) else { continue };
                if let Some(target) = held.get(deleted)
                    && target.body != BodySum::ERASED
                {
                    found.add([by, target.event], || {
                        format!("{deleted} was deleted by {message}, and {node} gives out its body")
                    });
                }
            }
        }
    }
    found.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ack, Header, Recorder, Resends};
    use types::{DeviceId, Epoch, Generation, LogId, MessageId, NodeId, Offset, Position, RegionId, UserId};

    /// A message and its deletion, acked or not, and what a replica holds of both in the end.
    fn wrong(is_acked: bool, body: BodySum, deletion_stands: bool) -> usize {
        let recorder = Recorder::in_memory(Header::new("hand-made", 0, true), || 0);
        let here = RegionId::new("here").expect("a name");
        let node = recorder.node(&NodeId::new("here-1").expect("a name"), &here);
        let log = recorder.log(LogId::group([1; 16]));
        let device = recorder.device(&UserId::new("ann").expect("a name"), DeviceId::new(1), &here);
        let [deleted, message] =
            [1, 2].map(|number| recorder.message(log, device, MessageId::from_bytes([number; 16])));
        let at = |offset| Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset));
        recorder.record(Kind::Deletion { message, deleted });
        let (sum, resends) = (BodySum::CHANGE, Resends::UntilReplicated);
        recorder.record(Kind::Invoke { message, body: sum, after: None, resends });
        if is_acked {
            let (ack, epoch, passed_us, accepted_at_ms) = (Ack::Replicated, None, None, 0);
            recorder.record(Kind::Ok { message, at: at(2), ack, epoch, passed_us, accepted_at_ms });
        }
        recorder.record(Kind::Held { node, log, at: at(1), message: deleted, body });
        if deletion_stands {
            recorder.record(Kind::Held { node, log, at: at(2), message, body: sum });
        }
        check(&recorder.finish().expect("a history")).len()
    }

    #[test]
    fn a_body_that_outlives_its_deletion_is_found() {
        let body = BodySum::of(b"still here");
        assert_eq!(wrong(true, BodySum::ERASED, true), 0);
        assert_eq!(wrong(true, body, true), 1);
        assert_eq!(wrong(true, body, false), 1, "the deletion itself is missed elsewhere");
        assert_eq!(wrong(false, body, true), 1);
        assert_eq!(wrong(false, body, false), 0, "it never was in the log");
    }
}
