//! Who follows which log of one partition.

use crate::bus::{BusEvent, BusSink, SinkId};
use host::HashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use types::LogId;

/// See the module. Most logs have one sink: that of this node's own sessions.
#[derive(Debug, Default)]
pub(super) struct Sinks(HashMap<LogId, SmallVec<[BusSink; 1]>>);

impl Sinks {
    /// Adds a follower of a log; once is enough.
    pub(super) fn insert(&mut self, log: LogId, sink: BusSink) {
        let sinks = self.0.entry(log).or_default();
        sinks.retain(|known| !known.is_closed());
        if !sinks.iter().any(|known| known.id() == sink.id()) {
            sinks.push(sink);
        }
    }

    /// Takes a follower away; `true` when nobody follows the log any more.
    pub(super) fn remove(&mut self, log: LogId, sink: SinkId) -> bool {
        let Some(sinks) = self.0.get_mut(&log) else { return false };
        sinks.retain(|known| known.id() != sink);
        let nobody = sinks.is_empty();
        if nobody {
            self.0.remove(&log);
        }
        nobody
    }

    /// Takes all followers away that are gone without a word, and answers the logs that nobody follows any more.
    pub(super) fn sweep(&mut self) -> Vec<LogId> {
        let mut deserted = Vec::new();
        self.0.retain(|log, sinks| {
            sinks.retain(|sink| !sink.is_closed());
            deserted.extend(sinks.is_empty().then_some(*log));
            !sinks.is_empty()
        });
        deserted
    }

    /// Takes all followers of a log away.
    pub(super) fn forget(&mut self, log: LogId) {
        self.0.remove(&log);
    }

    /// Whether anybody follows a log.
    pub(super) fn follows(&self, log: LogId) -> bool {
        self.0.contains_key(&log)
    }

    /// Hands an event to the followers of a log; `false` when nobody follows it any more.
    pub(super) fn offer(&mut self, log: LogId, event: &BusEvent) -> bool {
        let Some(sinks) = self.0.get_mut(&log) else { return false };
        sinks.retain(|sink| sink.offer(event.clone()));
        let somebody = !sinks.is_empty();
        if !somebody {
            self.0.remove(&log);
        }
        somebody
    }

    /// Hands an event to each follower of any log, once.
    pub(super) fn offer_all(&self, event: &BusEvent) {
        let distinct: BTreeMap<SinkId, &BusSink> =
            self.0.values().flatten().map(|sink| (sink.id(), sink)).collect();
        for sink in distinct.into_values() {
            sink.offer(event.clone());
        }
    }
}
