//! A deletion that is put back from an archive: it deletes what its targets are now.

use super::{
    Context, Core, Output,
    log::{Log, Need},
    recent::Known,
    rules::too_much_pending,
    sequence::Step,
};
use crate::service::{Beside, Salvaged, Target, Write};
use std::collections::BTreeSet;
use types::{AckPolicy, Code, DedupKey, EntryBody, Generation, Refusal};

impl Core {
    /// A deletion that is put back deletes what its targets are now.
    pub(super) fn restore(&self, write: &Write, log: &mut Log, due: AckPolicy) -> Step {
        let Some(salvaged) = &write.salvage else { return Step::Need(Need::default()) };
        let looked_up =
            salvaged.targets.iter().map(|target| (target, self.lookup(write.log, &target.key, log)));
        let (mut keys, mut found) = (Vec::new(), Vec::new());
        for (target, known) in looked_up {
            match known {
                Some(known) => found.push(known),
                None => keys.push(target.key.clone()),
            }
        }
        if !keys.is_empty() {
            return Step::Need(Need { keys, ..Need::default() });
        }
        match self.next_record(log, due) {
            Step::Append(generation, due) => Step::Delete(generation, due, found),
            other => other,
        }
    }

    /// Gives a deletion the offsets that its targets have now. A target that is not there yet gets its place
    /// at once, erased: when it comes, it finds that it is there already.
    pub(super) fn write_targets(
        &mut self,
        cx: Context,
        mut write: Write,
        found: Vec<Option<Known>>,
        generation: Generation,
        log: &mut Log,
        out: &mut Vec<Output>,
    ) -> Result<Write, Refusal> {
        let mut offsets = BTreeSet::new();
        let targets = std::mem::take(&mut write.salvage).unwrap_or_default().targets;
        for (target, known) in targets.into_iter().zip(found) {
            if (&target.key.sender, target.key.device, target.key.message_id)
                == (&write.sender, write.device, write.message_id)
            {
                continue;
            }
            // A target that is named twice has its place by the second time.
            let known = match known.or_else(|| self.recent.get(write.log, &target.key)) {
                Some(known) => known,
                None if !log.has_member(&target.key.sender) => continue,
                None => {
                    let Target { key: DedupKey { sender, device, message_id }, hash } = target;
                    let body = EntryBody::Erased { hash };
                    let salvage = Some(Salvaged::default());
                    let beside = Beside::default();
                    let erased = Write { sender, device, message_id, body, salvage, beside, ..write.clone() };
                    self.sequence(cx, erased, generation, log, out)?.0
                }
            };
            offsets.insert(known.position.offset);
        }
        if offsets.is_empty() {
            let message =
                format!("nothing that message {} deletes can be in chat {}", write.message_id, write.log);
            return Err(Refusal::new(Code::Forbidden, message));
        }
        let offsets: Vec<_> = offsets.into_iter().collect();
        let state = log.state.as_ref().and_then(Option::as_ref);
        if state.is_some_and(|state| !state.has_room_to_erase(write.log, &offsets)) {
            return Err(too_much_pending(write.log));
        }
        write.salvage = Some(Salvaged::default());
        write.body = EntryBody::Deleted { offsets };
        Ok(write)
    }
}

/// What it deletes may stand at other offsets by now, and so its body has another hash.
pub(super) fn is_restored_deletion(write: &Write) -> bool {
    write.salvage.is_some() && matches!(write.body, EntryBody::Deleted { .. })
}
