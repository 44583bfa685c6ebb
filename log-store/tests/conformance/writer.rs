//! Writes records that follow each other, as a home would.

use bytes::Bytes;
use log_store::{Append, AppendError, Durable, LogStore};
use std::collections::HashMap;
use types::{
    AckPolicy, Body, DeviceCursor, DeviceId, Entry, EntryBody, Epoch, Generation, Import, LogId, Lsn,
    MemberRole, MessageId, MoveId, Offset, PartitionId, Record, RehomeId, StateUpdate, UserId,
};

pub(crate) const PARTITION: PartitionId = PartitionId::new(3);

pub(crate) fn log(number: u8) -> LogId {
    LogId::group([number; 16])
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// Knows what comes next in one partition.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) generation: Generation,
    lsn: Lsn,
    heads: HashMap<LogId, Offset>,
    /// Told apart by who draws them, so that no two writers draw the same message id.
    ids: u128,
}

impl Writer {
    pub(crate) fn new(partition: PartitionId) -> Self {
        let ids = u128::from(partition.get()) << 64;
        let (epoch, generation) = (Epoch::FIRST, Generation::FIRST);
        Self { partition, epoch, generation, lsn: Lsn::ZERO, heads: HashMap::new(), ids }
    }

    /// Goes on as a later home that took this writer's records over.
    pub(crate) fn at_epoch(&self, epoch: u64) -> Self {
        Self { epoch: Epoch::new(epoch), ids: self.ids + (u128::from(epoch) << 96), ..self.clone() }
    }

    pub(crate) fn message(&mut self, log: LogId) -> Record {
        let body = Bytes::from(format!("message {}", self.ids));
        self.entry(log, EntryBody::Message { ciphertext: body })
    }

    pub(crate) fn message_of(&mut self, log: LogId, body_bytes: usize) -> Record {
        let body: Vec<u8> = (0..body_bytes).map(|at| (at * 31 % 251) as u8).collect();
        self.entry(log, EntryBody::Message { ciphertext: body.into() })
    }

    pub(crate) fn expiring(&mut self, log: LogId, expires_at_ms: u64) -> Record {
        let mut record = self.message(log);
        if let Body::Entry(entry) = &mut record.body {
            entry.expires_at_ms = Some(expires_at_ms);
        }
        record
    }

    pub(crate) fn created(&mut self, log: LogId, members: &[&str]) -> Record {
        let members = members.iter().map(|name| (user(name), MemberRole::Member)).collect();
        let (ack_policy, allowed_regions) = (AckPolicy::Replicated, Vec::new());
        self.entry(log, EntryBody::Created { members, ack_policy, allowed_regions })
    }

    pub(crate) fn deleted(&mut self, log: LogId, offsets: &[u64]) -> Record {
        self.entry(log, EntryBody::Deleted { offsets: offsets.iter().copied().map(Offset::new).collect() })
    }

    pub(crate) fn cursor(&mut self, log: LogId, offset: u64) -> Record {
        let cursor = DeviceCursor::read(user("alice"), DeviceId::new(1), Offset::new(offset), 1);
        self.record(log, Body::Update(StateUpdate::Cursors(vec![cursor])))
    }

    pub(crate) fn seal(&mut self) -> Record {
        self.record(LogId::partition(), Body::Update(StateUpdate::Seal { move_id: MoveId::new(7) }))
    }

    pub(crate) fn sealed(&mut self, log: LogId, rehome: RehomeId) -> Record {
        self.record(log, Body::Update(StateUpdate::LogSealed { rehome }))
    }

    pub(crate) fn update(&mut self, log: LogId, update: StateUpdate) -> Record {
        self.record(log, Body::Update(update))
    }

    /// Goes on in a generation, behind what was written elsewhere.
    pub(crate) fn imported(&mut self, log: LogId, generation: u32, import: Import) -> Record {
        self.generation = Generation::new(generation);
        self.heads.insert(log, import.head.offset);
        self.record(log, Body::Update(StateUpdate::LogImported(Box::new(import))))
    }

    pub(crate) fn entry(&mut self, log: LogId, body: EntryBody) -> Record {
        let head = self.heads.entry(log).or_default();
        *head = head.plus(1);
        self.ids += 1;
        let entry = Entry {
            offset: *head,
            sender: user("alice"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(self.ids.to_be_bytes()),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body,
        };
        self.record(log, Body::Entry(entry))
    }

    fn record(&mut self, log: LogId, body: Body) -> Record {
        self.lsn = self.lsn.plus(1);
        let accepted_at_ms = 1_000 + self.lsn.get();
        let (lsn, epoch, generation) = (self.lsn, self.epoch, self.generation);
        Record { lsn, epoch, generation, log, accepted_at_ms, body }
    }

    pub(crate) fn batch(&self, records: Vec<Record>) -> Append {
        Append { partition: self.partition, obeys: self.epoch, records }
    }

    pub(crate) async fn write(
        &self,
        store: &dyn LogStore,
        records: Vec<Record>,
    ) -> Result<Durable, AppendError> {
        store.append(self.batch(records)).await
    }

    /// Writes one message after another to a log.
    pub(crate) async fn fill(&mut self, store: &dyn LogStore, log: LogId, messages: usize) -> Vec<Record> {
        let records: Vec<Record> = (0..messages).map(|_| self.message(log)).collect();
        self.write(store, records.clone()).await.expect("the records follow");
        records
    }
}

/// All records of a partition.
pub(crate) async fn all(store: &dyn LogStore, partition: PartitionId) -> Vec<Record> {
    store.read_partition(partition, Lsn::FIRST, usize::MAX, usize::MAX).await.expect("a readable partition")
}

/// Gives the entry of a record another message id.
pub(crate) fn rename(record: &mut Record, message_id: MessageId) {
    if let Body::Entry(entry) = &mut record.body {
        entry.message_id = message_id;
    }
}

/// The message id of a record's entry.
pub(crate) fn message_id(record: &Record) -> MessageId {
    record.entry().expect("an entry").message_id
}
