//! One group: what the queue held, checked, framed, and not yet durable.

use super::{
    core::Core,
    errors::closed,
    frame::{self, Header, Kind, Location},
    index,
    queue::{Reply, Request},
    rows,
    staged::StagedLogs,
    view::{LogKey, Placed, View},
};
use crate::{
    Append, AppendError, Durable, PartitionEnd, StoreError,
    check::{Checker, Ends},
    fold::Standing,
};
use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use types::{DedupKey, Epoch, LogId, PartitionId, PartitionPosition};

/// A fence or a canary takes this much room in a segment.
pub(crate) const SMALL_FRAME_BYTES: usize = frame::stride(8);

/// What to say once the group is durable.
#[derive(Debug)]
enum Answer {
    Append(Reply<Durable, AppendError>, Durable),
    Fence(Reply<PartitionEnd, StoreError>, PartitionEnd),
    Canary(Reply<(), StoreError>),
}

/// A group under construction. Its memory is used again for the next one.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    last_frame: Option<usize>,
    segment: u32,
    begin: u32,
    number: u64,
    pub(crate) records: Vec<Placed>,
    pub(crate) fences: Vec<(PartitionId, Epoch)>,
    pub(crate) logs: StagedLogs,
    answers: Vec<Answer>,
    keys: HashSet<u128>,
    /// Of the batch being checked: the hash of each entry's dedup row.
    batch_keys: Vec<u128>,
    /// Of the batch being staged: the place of each record's log.
    batch_logs: Vec<usize>,
    ends: HashMap<PartitionId, PartitionEnd>,
}

impl Group {
    /// Empties it for a group that will be written at a place.
    pub(crate) fn begin(&mut self, segment: u32, begin: u32, number: u64) {
        (self.segment, self.begin, self.number) = (segment, begin, number);
        self.bytes.clear();
        self.last_frame = None;
        self.records.clear();
        self.fences.clear();
        self.logs.clear();
        self.keys.clear();
        self.ends.clear();
    }

    /// Adds what is asked for, or refuses it at once.
    pub(crate) fn stage(&mut self, core: &Core, view: &View, checker: &mut Checker, request: Request) {
        match request {
            Request::Append { append, encoded, reply, .. } => {
                match self.append(core, view, checker, append, &encoded) {
                    Ok(durable) => self.answers.push(Answer::Append(reply, durable)),
                    Err(refusal) => drop(reply.send(Err(refusal))),
                }
            }
            Request::Fence { partition, epoch, reply } => {
                let end = self.end_mut(view, partition);
                let rises = epoch > end.fence;
                end.fence = end.fence.max(epoch);
                let end = end.clone();
                if rises {
                    self.push(Kind::Fence, partition, &epoch.get().to_le_bytes());
                    self.fences.push((partition, epoch));
                }
                self.answers.push(Answer::Fence(reply, end));
            }
            Request::Canary { reply } => {
                self.push(Kind::Canary, PartitionId::new(0), &[]);
                self.answers.push(Answer::Canary(reply));
            }
            alone => alone.refuse(closed("the request needs a group of its own")),
        }
    }

    /// Adds one frame.
    pub(crate) fn push(&mut self, kind: Kind, partition: PartitionId, payload: &[u8]) -> Location {
        let at = self.bytes.len();
        let location = Location { segment: self.segment, origin: self.begin + at as u32 };
        let header = Header {
            location,
            group: self.number,
            kind,
            ends_group: false,
            partition,
            payload_bytes: payload.len(),
        };
        frame::put(&mut self.bytes, &header, payload);
        self.last_frame = Some(at);
        location
    }

    /// Ends the group; whether there is anything to write.
    pub(crate) fn seal(&mut self) -> bool {
        if let Some(at) = self.last_frame {
            frame::end_group(&mut self.bytes, at);
        }
        self.last_frame.is_some()
    }

    /// Says what has become durable, in order.
    pub(crate) fn acknowledge(&mut self) {
        for answer in self.answers.drain(..) {
            match answer {
                Answer::Append(reply, durable) => drop(reply.send(Ok(durable))),
                Answer::Fence(reply, end) => drop(reply.send(Ok(end))),
                Answer::Canary(reply) => drop(reply.send(Ok(()))),
            }
        }
    }

    /// Says that nothing of it is known to be durable.
    pub(crate) fn refuse(&mut self, error: &StoreError) {
        for answer in self.answers.drain(..) {
            match answer {
                Answer::Append(reply, _) => drop(reply.send(Err(error.clone().into()))),
                Answer::Fence(reply, _) => drop(reply.send(Err(error.clone()))),
                Answer::Canary(reply) => drop(reply.send(Err(error.clone()))),
            }
        }
    }

    fn append(
        &mut self,
        core: &Core,
        view: &View,
        checker: &mut Checker,
        append: Append,
        encoded: &[Bytes],
    ) -> Result<Durable, AppendError> {
        let partition = append.partition;
        let (fence, last) = {
            let end = self.end_mut(view, partition);
            (end.fence, end.last)
        };
        self.batch_keys.clear();
        checker.follows(&append, &mut Staged { core, view, group: self, partition, fence, last })?;
        self.batch_logs.clear();
        for record in &append.records {
            let place = self.log(core, view, &(partition, record.log))?;
            self.batch_logs.push(place);
        }
        let mut entries = 0;
        for (at, (record, payload)) in append.records.into_iter().zip(encoded).enumerate() {
            let location = self.push(Kind::Record, partition, payload);
            let (log, mut dedup) = (self.batch_logs[at], None);
            let followed = self.logs.at(log).standing.follow(&record);
            debug_assert!(followed.is_ok(), "the check lets only records pass that follow");
            if record.entry().is_some() {
                let hash = self.batch_keys[entries];
                entries += 1;
                dedup = Some(hash);
                self.keys.insert(hash);
            }
            self.records.push(Placed { partition, location, record, log, dedup });
        }
        let from = self.records.len() - self.batch_logs.len();
        let (records, ends) = (&self.records[from..], &mut self.ends);
        let end = ends.entry(partition).or_default();
        records.iter().for_each(|placed| end.follow(&placed.record));
        Ok(end.last)
    }

    fn end_mut(&mut self, view: &View, partition: PartitionId) -> &mut PartitionEnd {
        self.ends.entry(partition).or_insert_with(|| {
            view.partitions.get(&partition).map(|state| state.end.clone()).unwrap_or_default()
        })
    }

    /// The place of a log among those of the group.
    fn log(&mut self, core: &Core, view: &View, key: &LogKey) -> Result<usize, StoreError> {
        self.logs.place(key, || Ok(core.state(view, key)?.unwrap_or_default()))
    }
}

/// What a partition holds, the batches staged before included.
struct Staged<'a> {
    core: &'a Core,
    view: &'a View,
    group: &'a mut Group,
    partition: PartitionId,
    fence: Epoch,
    last: PartitionPosition,
}

impl Ends for Staged<'_> {
    fn fence(&self) -> Epoch {
        self.fence
    }

    fn last(&self) -> PartitionPosition {
        self.last
    }

    fn standing(&mut self, log: &LogId) -> Result<Standing, StoreError> {
        let place = self.group.log(self.core, self.view, &(self.partition, *log))?;
        Ok(self.group.logs.at(place).standing)
    }

    fn holds(&mut self, log: &LogId, key: &DedupKey) -> Result<bool, StoreError> {
        let hash = rows::dedup_hash(self.core.store, self.partition, log, key);
        self.group.batch_keys.push(hash);
        if self.group.keys.contains(&hash) {
            return Ok(true);
        }
        let place = self.group.log(self.core, self.view, &(self.partition, *log))?;
        let base = &self.group.logs.at(place).base;
        let devices = base.as_ref().map(|base| &base.devices);
        if devices.is_some_and(|devices| devices.is_new(&key.sender, key.device, key.message_id)) {
            return Ok(false);
        }
        if index::unfolded_dedup(self.view, hash).is_some() {
            return Ok(true);
        }
        Ok(self.core.index.folded_dedup(hash)?.is_some())
    }
}
