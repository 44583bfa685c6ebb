//! What stands in the stores in the end.

use super::directory::Rows;
use crate::history::{BodySum, Kind, Log, LogSum, Message, Recorder, Region};
use futures_util::FutureExt as _;
use log_store::{Archive, LogStore, Scan, memory::MemoryStore};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    LogId, NodeId, Offset, PartitionId, PartitionPosition, PinSegment, Placement, Position, Record, RegionId,
    UserId,
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
        // A partition keeps its SEALs under a name of its own.
        logs.retain(|log| *log != LogId::partition());
        logs
    }

    /// How far it knows each user to have read a log.
    fn marks(&self, partition: PartitionId, log: LogId) -> BTreeMap<UserId, Offset> {
        let Ok(Some(state)) = now(self.store.log_state(partition, log)) else { return BTreeMap::new() };
        let users: BTreeSet<&UserId> = state.cursors.iter().map(|(user, ..)| user).collect();
        users.into_iter().map(|user| (user.clone(), state.cursors.of(user).read.offset)).collect()
    }

    /// The entries of one stretch of a log.
    fn entries(&self, log: LogId, stretch: &PinSegment) -> Vec<Record> {
        let PinSegment { generation, partition, first_offset } = *stretch;
        let mut entries: Vec<Record> = Vec::new();
        let mut after = Offset::new(first_offset.get() - 1);
        while let Ok(page) =
            now(self.store.read_log(partition, log, Scan::After(after), 1_000, 16 * 1024 * 1024, 0))
            && let Some(offset) = page.last().and_then(Record::position).map(|at| at.offset)
        {
            entries.extend(page);
            after = offset;
        }
        // A log may come back to a partition where it was written before.
        entries.retain(|record| record.generation == generation);
        entries
    }
}

/// Whether every copy of every partition ends alike, at a home that nobody is about to change.
pub(super) fn agree(copies: &[Copy<'_>], rows: &Rows) -> bool {
    rows.is_settled()
        && rows.placement.partitions().all(|row| {
            let mut ends = copies
                .iter()
                .filter(|copy| copy.holds(&rows.placement, row.partition))
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

/// The logs of all copies, with where each is written.
fn pins(copies: &[Copy<'_>], rows: &Rows) -> BTreeMap<LogId, Vec<PinSegment>> {
    let mut logs = BTreeSet::new();
    for row in rows.placement.partitions() {
        for copy in copies.iter().filter(|copy| copy.holds(&rows.placement, row.partition)) {
            logs.extend(copy.logs(row.partition));
        }
    }
    logs.into_iter().map(|log| (log, rows.pin(log))).collect()
}

/// The last position of each log, as a copy of the partition has it where it is written now.
pub(super) fn ends(copies: &[Copy<'_>], rows: &Rows, recorder: &Recorder) -> BTreeMap<Log, Position> {
    let mut ends = BTreeMap::new();
    for (id, pin) in pins(copies, rows) {
        let Some(partition) = pin.last().map(|segment| segment.partition) else { continue };
        let Some(copy) = copies.iter().find(|copy| copy.holds(&rows.placement, partition)) else { continue };
        if let Ok(Some(state)) = now(copy.store.log_state(partition, id)) {
            ends.insert(recorder.log(id), state.head);
        }
    }
    ends
}

/// How far each user is known to have read each log, as a copy of the partition knows it where the log is written now.
pub(super) fn marks(
    copies: &[Copy<'_>],
    rows: &Rows,
    recorder: &Recorder,
) -> BTreeMap<Log, BTreeMap<UserId, Offset>> {
    let mut marks = BTreeMap::new();
    for (id, pin) in pins(copies, rows) {
        let Some(partition) = pin.last().map(|segment| segment.partition) else { continue };
        let Some(copy) = copies.iter().find(|copy| copy.holds(&rows.placement, partition)) else { continue };
        marks.insert(recorder.log(id), copy.marks(partition, id));
    }
    marks
}

/// Notes the final state of all copies.
pub(super) fn record(copies: &[Copy<'_>], rows: &Rows, recorder: &Recorder) {
    recorder.record(Kind::Healed);
    for copy in copies {
        let node = recorder.node(copy.node, copy.region);
        for row in rows.placement.partitions().filter(|row| copy.holds(&rows.placement, row.partition)) {
            let partition = row.partition;
            recorder.record(Kind::FinalPartition { node, partition, last: copy.last(partition) });
        }
    }
    for (id, pin) in pins(copies, rows) {
        let log = recorder.log(id);
        for PinSegment { generation, partition, first_offset } in &pin {
            let (generation, first_offset) = (generation.get(), first_offset.get());
            recorder.record(Kind::Pinned { log, generation, partition: *partition, first_offset });
        }
        let holds_any = |copy: &&Copy<'_>| pin.iter().any(|at| copy.holds(&rows.placement, at.partition));
        for copy in copies.iter().filter(holds_any) {
            let last = pin.last().filter(|at| copy.holds(&rows.placement, at.partition));
            if let Some(PinSegment { partition, .. }) = last {
                let (node, read) = (recorder.node(copy.node, copy.region), copy.marks(*partition, id));
                recorder.record(Kind::FinalMarks { node, log, read });
            }
            record_log(copy, copies, rows, (id, log), &pin, recorder);
        }
    }
}

/// Notes a log as a node tells it: each stretch from its own copy; where it holds none, from somebody else's.
fn record_log(
    copy: &Copy<'_>,
    copies: &[Copy<'_>],
    rows: &Rows,
    (id, log): (LogId, Log),
    pin: &[PinSegment],
    recorder: &Recorder,
) {
    let (node, region) = (recorder.node(copy.node, copy.region), recorder.region(copy.region));
    let mut records = Vec::new();
    for stretch in pin {
        let holds = |copy: &&Copy<'_>| copy.holds(&rows.placement, stretch.partition);
        let Some(holder) = Some(copy).filter(holds).or_else(|| copies.iter().find(holds)) else { continue };
        records.extend(holder.entries(id, stretch));
    }
    let held = held(recorder, region, log, records);
    let mut sum = LogSum::default();
    for (at, message, body) in &held {
        sum.add(*at, *message, *body);
    }
    recorder.record(Kind::FinalLog { node, log, entries: sum.entries(), sum: sum.sum() });
    for (at, message, body) in held {
        recorder.record(Kind::Held { node, log, at, message, body });
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
            types::EntryBody::Created { .. } => BodySum::CREATED,
            types::EntryBody::Erased { .. } => BodySum::ERASED,
            _ => BodySum::CHANGE,
        };
        Some((at, message, body))
    };
    records.iter().filter_map(entry).collect()
}
