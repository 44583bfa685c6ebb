//! What stands in the stores in the end.

use crate::history::{BodySum, Kind, Log, LogSum, Message, Recorder, Region};
use futures_util::FutureExt as _;
use log_store::{Archive, LogStore, Scan, memory::MemoryStore};
use std::collections::BTreeMap;
use types::{
    Generation, LogId, NodeId, Offset, PartitionId, PartitionPosition, Placement, Position, Record, RegionId,
};

/// A replica's store.
pub(super) struct Copy<'a> {
    pub(super) node: &'a NodeId,
    pub(super) region: &'a RegionId,
    pub(super) store: &'a MemoryStore,
}

/// The memory engine answers reads at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the memory engine reads without waiting")
}

impl Copy<'_> {
    fn holds(&self, placement: &Placement, partition: PartitionId) -> bool {
        placement.partition(partition).is_some_and(|row| row.replicas.iter().any(|it| it.node == *self.node))
    }

    /// Its last record of a partition.
    pub(super) fn last(&self, partition: PartitionId) -> PartitionPosition {
        now(self.store.end(partition)).map_or(PartitionPosition::ZERO, |end| end.last)
    }

    fn logs(&self, partition: PartitionId) -> Vec<LogId> {
        let mut logs: Vec<LogId> = Vec::new();
        while let Ok(page) = now(self.store.logs(partition, logs.last().copied(), 1_000))
            && !page.is_empty()
        {
            logs.extend(page);
        }
        logs
    }

    fn entries(&self, partition: PartitionId, log: LogId) -> Vec<Record> {
        let mut entries: Vec<Record> = Vec::new();
        let mut after = Offset::ZERO;
        while let Ok(page) =
            now(self.store.read_log(partition, log, Scan::After(after), 1_000, 16 * 1024 * 1024, 0))
            && let Some(offset) = page.last().and_then(Record::position).map(|at| at.offset)
        {
            entries.extend(page);
            after = offset;
        }
        entries
    }
}

/// Whether every copy of every partition ends alike.
pub(super) fn agree(copies: &[Copy<'_>], placement: &Placement) -> bool {
    placement.partitions().all(|row| {
        let mut ends = copies
            .iter()
            .filter(|copy| copy.holds(placement, row.partition))
            .map(|copy| copy.last(row.partition));
        let first = ends.next();
        first.is_some() && ends.all(|end| Some(end) == first)
    })
}

/// Whether every copy's archives are settled: back in their logs, or listed as refused.
pub(super) fn are_salvaged(copies: &[Copy<'_>]) -> bool {
    let is_done = |copy: &Copy<'_>| {
        now(copy.store.archives()).is_ok_and(|archives| archives.iter().all(Archive::is_settled))
    };
    copies.iter().all(is_done)
}

/// The last position of each log, as its first copy has it.
pub(super) fn ends(
    copies: &[Copy<'_>],
    placement: &Placement,
    recorder: &Recorder,
) -> BTreeMap<Log, Position> {
    let mut ends = BTreeMap::new();
    for row in placement.partitions() {
        let Some(copy) = copies.iter().find(|copy| copy.holds(placement, row.partition)) else { continue };
        for id in copy.logs(row.partition) {
            if let Ok(Some(state)) = now(copy.store.log_state(row.partition, id)) {
                ends.insert(recorder.log(id), state.head);
            }
        }
    }
    ends
}

/// Notes the final state of all copies.
pub(super) fn record(copies: &[Copy<'_>], placement: &Placement, recorder: &Recorder) {
    recorder.record(Kind::Healed);
    let mut pins = BTreeMap::new();
    for copy in copies {
        let node = recorder.node(copy.node, copy.region);
        let region = recorder.region(copy.region);
        for row in placement.partitions().filter(|row| copy.holds(placement, row.partition)) {
            let partition = row.partition;
            recorder.record(Kind::FinalPartition { node, partition, last: copy.last(partition) });
            for id in copy.logs(partition) {
                let log = recorder.log(id);
                pins.entry(log).or_insert(partition);
                let held = held(recorder, region, log, copy.entries(partition, id));
                let mut sum = LogSum::default();
                for (at, message, body) in &held {
                    sum.add(*at, *message, *body);
                }
                recorder.record(Kind::FinalLog { node, log, entries: sum.entries(), sum: sum.sum() });
                for (at, message, body) in held {
                    recorder.record(Kind::Held { node, log, at, message, body });
                }
            }
        }
    }
    for (log, partition) in pins {
        let generation = Generation::FIRST.get();
        recorder.record(Kind::Pinned { log, generation, partition, first_offset: 1 });
    }
}

fn held(
    recorder: &Recorder,
    region: Region,
    log: Log,
    records: Vec<Record>,
) -> Vec<(Position, Message, BodySum)> {
    let entry = |record: &Record| {
        let (at, entry) = (record.position()?, record.entry()?);
        let message = recorder.message_of(log, &entry.sender, entry.device, entry.message_id, region);
        let body = match &entry.body {
            types::EntryBody::Message { ciphertext } => BodySum::of(ciphertext),
            types::EntryBody::Created { .. } => BodySum(0),
            _ => BodySum(1),
        };
        Some((at, message, body))
    };
    records.iter().filter_map(entry).collect()
}
