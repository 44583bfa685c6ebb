//! The core against a model of everything around it, under any order of events.

mod accounts;
mod cases;
mod chats;
mod cursors;
mod departures;
mod effects;
mod following;
mod generated;
mod in_sync;
mod memberships;
mod rehoming;
mod salvage;
mod sealing;

use super::*;
use crate::service::{Acked, Beside, Salvaged, Target, Write, WriteError};
use bytes::Bytes;
use log_store::{Deduped, PartitionEnd, fold::LogState};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use types::{
    AckPolicy, Code, DedupKey, DeviceId, EntryBody, Generation, LogId, MemberRole, MessageId, MoveId, Offset,
    Pin, PinSegment, Position, RegionId, StoreId, UserId,
};

const EPOCH: Epoch = Epoch::new(3);
const PARTITION: PartitionId = PartitionId::new(7);
const TTL_MS: u64 = 4_000;
const ISR_LAG_MS: u64 = 3_000;
const ISR_PRESSURE_MS: u64 = 5_000;
const MEMBERS_MAX: usize = 6;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn replica(number: u8) -> Replica {
    let node = NodeId::new(&format!("node-{number}")).expect("a valid name");
    Replica { node, store: StoreId::from_bytes([number; 16]) }
}

fn region(number: u8) -> RegionId {
    RegionId::new(&format!("region-{number}")).expect("a valid name")
}

fn follow_when() -> FollowWhen {
    FollowWhen { region: region(0), half_life_ms: 1_000, hold_ms: 1_000, weight_min: 2 }
}

fn log(number: u8) -> LogId {
    LogId::group([number; 16])
}

fn write(log: LogId, message: u8, body: EntryBody, ack: AckPolicy, after: Option<u8>) -> Write {
    Write {
        log,
        partition: PARTITION,
        generation: Generation::FIRST,
        epoch_hint: EPOCH,
        sender: user("alice"),
        device: DeviceId::new(1),
        message_id: MessageId::from_bytes([message; 16]),
        after: after.map(|after| MessageId::from_bytes([after; 16])),
        body,
        expires_at_ms: None,
        ack,
        deadline: tokio::time::Instant::now(),
        origin: None,
        salvage: None,
        beside: Beside::default(),
    }
}

/// A message or, with targets, a deletion of them, as an archive brings it.
fn salvaged(log: LogId, number: u8, text: u8, targets: &[u8]) -> Write {
    let body = match targets {
        [] => message(text),
        _ => EntryBody::Deleted { offsets: vec![Offset::new(900)] },
    };
    let target = |number: &u8| Target {
        key: DedupKey {
            sender: user("alice"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([*number; 16]),
        },
        hash: message(*number).hash(),
    };
    let salvage = Some(Salvaged { targets: targets.iter().map(target).collect(), ..Salvaged::default() });
    Write { salvage, ..write(log, number, body, AckPolicy::Replicated, None) }
}

fn created() -> EntryBody {
    let members = vec![(user("alice"), MemberRole::Admin), (user("bob"), MemberRole::Member)];
    EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: vec![] }
}

fn message(text: u8) -> EntryBody {
    EntryBody::Message { ciphertext: Bytes::copy_from_slice(&[text]) }
}

/// Everything around one core: its store, its followers, the directory, those who call.
struct World {
    core: Core,
    now: Now,
    lease_until_ms: u64,
    waiting: bool,
    moving: Option<MoveId>,
    store: Vec<Record>,
    writing: VecDeque<Vec<Record>>,
    sequenced: Lsn,
    loads: VecDeque<(LogId, Lsn, Need)>,
    /// How much each follower holds; the first is in a second region, the next in a third.
    held: [u64; 2],
    committed: IsrSet,
    proposals: VecDeque<Proposal>,
    asked: HashMap<Ticket, Write>,
    answered: HashMap<Ticket, Result<Acked, WriteError>>,
    published: HashMap<LogId, u64>,
    next_ticket: u64,
    out: Vec<Output>,
    /// Where logs are pinned that are not pinned here from the beginning.
    pins: HashMap<LogId, Vec<PinSegment>>,
    handed: HashMap<Ticket, Handed>,
    moved: Vec<(LogId, Generation)>,
    follows: Vec<Follow>,
    effects: Vec<types::Effect>,
}

impl World {
    fn new() -> Self {
        Self::of(Vec::new(), Vec::new())
    }

    /// A home that begins with what is in its store.
    fn of(effect_logs: Vec<LogId>, store: Vec<Record>) -> Self {
        let committed = IsrSet { isr: BTreeSet::from([replica(0)]), lost: BTreeSet::new(), version: 1 };
        let now = Now { boot_ms: 10_000, wall_ms: 1_700_000_000_000 };
        let open = Open {
            partition: PARTITION,
            epoch: EPOCH,
            me: replica(0),
            end: end_of(&store),
            start_lsn: Lsn::FIRST,
            watermark: Lsn::ZERO,
            row: row(false, &committed),
            isr_lag_ms: ISR_LAG_MS,
            isr_pressure_ms: ISR_PRESSURE_MS,
            follow_when: follow_when(),
            effect_logs,
            members_max: MEMBERS_MAX,
        };
        Self {
            core: Core::new(open, now),
            now,
            lease_until_ms: now.boot_ms + TTL_MS,
            waiting: false,
            moving: None,
            sequenced: Lsn::new(store.len() as u64),
            store,
            writing: VecDeque::new(),
            loads: VecDeque::new(),
            held: [0; 2],
            committed,
            proposals: VecDeque::new(),
            asked: HashMap::new(),
            answered: HashMap::new(),
            published: HashMap::new(),
            next_ticket: 0,
            out: Vec::new(),
            pins: HashMap::new(),
            handed: HashMap::new(),
            moved: Vec::new(),
            follows: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn context(&self) -> Context {
        Context { now: self.now, lease_until_ms: self.lease_until_ms }
    }

    fn say(&mut self, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.core.handle(self.context(), input, &mut out);
        self.perform(&mut out, false);
        self.core.flush(&mut out);
        self.perform(&mut out, false);
        self.core.release(self.context(), &mut out);
        self.perform(&mut out, true);
        self.out = out;
    }

    fn append(&mut self, write: Write) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.asked.insert(ticket, write.clone());
        let deadline_ms = self.now.boot_ms + 60_000;
        self.say(Input::Append { ticket, write: Box::new(write), deadline_ms });
        ticket
    }

    fn perform(&mut self, out: &mut Vec<Output>, releasing: bool) {
        for output in out.drain(..) {
            match output {
                Output::Load { log, as_of, need } => self.loads.push_back((log, as_of, need)),
                Output::Write(records) => {
                    assert!(!self.is_sealed(), "nothing follows SEAL");
                    for record in &records {
                        assert_eq!(record.lsn, self.sequenced.plus(1), "LSNs are dense");
                        self.sequenced = record.lsn;
                    }
                    self.writing.push_back(records);
                }
                Output::Reply { ticket, result } => self.answer(ticket, result, releasing),
                Output::Propose(proposal) => self.proposals.push_back(proposal),
                Output::Publish(published) => {
                    let offset = published.record.entry().expect("an entry").offset.get();
                    let before = self.published.insert(published.record.log, offset).unwrap_or(0);
                    assert_eq!(offset, before + 1, "entries are published in order");
                    let era = (Generation::FIRST, EPOCH);
                    let previous_era = if offset == 1 { Position::START.era() } else { era };
                    assert_eq!(published.previous_era, previous_era);
                    assert!(published.record.lsn.get() <= self.store.len() as u64, "and durable");
                }
                Output::Subscribed { log, result: Ok(subscribed), .. } => {
                    let head = subscribed.head.offset.get();
                    let published = *self.published.entry(log).or_insert(head);
                    assert_eq!(published, head, "what is published follows the head that was told");
                }
                Output::Rehomed { ticket, handed } => {
                    assert!(releasing, "a step is answered like an ack");
                    self.handed.insert(ticket, handed);
                }
                Output::Moved { log, generation } => self.moved.push((log, generation)),
                Output::Follow(follow) => self.follows.push(follow),
                Output::SendEffect(effect) => self.effects.push(*effect),
                Output::Subscribed { result: Err(_), .. } | Output::Ended(_) => {}
                Output::Durable { .. } | Output::Watermark(_) | Output::Replicated { .. } => {}
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, result: Result<Acked, WriteError>, releasing: bool) {
        if let Ok(acked) = &result {
            assert!(releasing, "acks leave only from release");
            assert!(!self.waiting, "nothing is acked while a former home is waited for");
            let write = &self.asked[&ticket];
            let stands =
                |record: &&Record| record.log == write.log && record.position() == Some(acked.position);
            let Some(record) = self.store.iter().find(stands) else {
                // It stands in a partition that the log was in before.
                assert!(self.pins.contains_key(&write.log), "what is acked is durable");
                assert_eq!(acked.ack, AckPolicy::Replicated);
                assert!(self.answered.insert(ticket, result).is_none(), "one answer a call");
                return;
            };
            let entry = record.entry().expect("an entry");
            let same_message = entry.message_id == write.message_id;
            let same_creation = matches!(write.body, EntryBody::Created { .. }) && entry.body == write.body;
            assert!(same_message || same_creation, "the ack is for what was asked");
            match acked.ack {
                AckPolicy::Home => {
                    assert!(self.now.boot_ms < self.lease_until_ms, "the lease runs at a home ack");
                    assert!(!self.is_sealed(), "no home ack passes the lease check behind SEAL");
                    assert_eq!(write.ack, AckPolicy::Home);
                    assert!(matches!(write.body, EntryBody::Message { .. }), "control waits for more");
                }
                AckPolicy::Replicated => {
                    let lsn = record.lsn.get();
                    assert!(self.held.iter().any(|held| *held >= lsn), "a second region holds it");
                    for member in &self.committed.isr {
                        assert!(self.holds(member) >= lsn, "each in-sync member holds it");
                    }
                }
            }
        }
        assert!(self.answered.insert(ticket, result).is_none(), "one answer a call");
    }

    /// SEAL was handed to the store.
    fn is_sealed(&self) -> bool {
        let mut written = self.store.iter().chain(self.writing.iter().flatten());
        written.any(|record| record.sealed_by().is_some())
    }

    fn holds(&self, member: &Replica) -> u64 {
        (0..2).find(|i| *member == replica(*i as u8 + 1)).map_or(u64::MAX, |i| self.held[i])
    }

    fn sync(&mut self, batches: usize) {
        for _ in 0..batches {
            let Some(records) = self.writing.pop_front() else { return };
            let last = records.last().expect("never empty").partition_position();
            self.store.extend(records);
            self.say(Input::Durable { last });
        }
    }

    /// The store has no room: every batch under way fails, the later ones as a gap.
    fn no_room(&mut self) {
        let failed: Vec<Lsn> = self.writing.drain(..).map(|records| records[0].lsn).collect();
        self.sequenced = Lsn::new(self.store.len() as u64);
        for (index, first) in failed.into_iter().enumerate() {
            let failure = if index == 0 { Failure::Busy } else { Failure::Broken };
            self.say(Input::AppendFailed { first, failure });
        }
    }

    fn load(&mut self) {
        let Some((log, as_of, need)) = self.loads.pop_front() else { return };
        let mut state = LogState::default();
        let mine: Vec<&Record> = self.store.iter().filter(|record| record.log == log).collect();
        for record in &mine {
            state.apply(record).expect("offsets are dense in each log");
        }
        let find = |key: &DedupKey| {
            let record =
                mine.iter().find(|record| record.entry().is_some_and(|entry| entry.dedup_key() == *key))?;
            Some(Deduped {
                position: record.position()?,
                lsn: record.lsn,
                hash: record.entry()?.body.hash(),
                accepted_at_ms: record.accepted_at_ms,
            })
        };
        let loaded = Loaded {
            state: need.state.then(|| (!mine.is_empty()).then(|| Arc::new(state))),
            first: mine.first().filter(|_| need.first).map(|record| (*record).clone()),
            pin: need.pin.then(|| Ok(Some(Pin { log, segments: self.segments(log) }))),
            found: need.keys.iter().map(|key| (key.clone(), find(key))).collect(),
            failed: Vec::new(),
        };
        self.say(Input::Loaded { log, as_of, loaded: Box::new(Ok(loaded)) });
    }

    fn segments(&self, log: LogId) -> Vec<PinSegment> {
        let first =
            PinSegment { generation: Generation::FIRST, partition: PARTITION, first_offset: Offset::FIRST };
        self.pins.get(&log).cloned().unwrap_or_else(|| vec![first])
    }

    fn load_all(&mut self) {
        while !self.loads.is_empty() {
            self.load();
        }
    }

    fn report(&mut self, follower: usize, more: u64) {
        self.held[follower] = (self.held[follower] + more).min(self.store.len() as u64);
        let last = match self.held[follower] {
            0 => PartitionPosition::ZERO,
            lsn => PartitionPosition::new(EPOCH, Lsn::new(lsn)),
        };
        self.say(Input::Report { replica: replica(follower as u8 + 1), obeys: EPOCH, last });
    }

    fn directory(&mut self, answer: Directory) {
        let Some(proposal) = self.proposals.pop_front() else { return };
        let number = proposal.number;
        let fits = proposal.base_version == self.committed.version;
        let commit = matches!(answer, Directory::Accepts | Directory::AcceptsUnheard);
        let repeated =
            self.committed.version == proposal.base_version + 1 && self.committed.isr == proposal.isr;
        if fits && commit {
            let version = proposal.base_version + 1;
            self.committed = IsrSet { isr: proposal.isr, lost: proposal.lost, version };
        }
        let outcome = match answer {
            Directory::Accepts if fits || repeated => ProposalOutcome::Accepted(self.committed.version),
            Directory::Accepts | Directory::Refuses if !repeated => ProposalOutcome::Refused,
            _ => ProposalOutcome::Unknown,
        };
        self.say(Input::Proposed { number, outcome });
    }

    fn follow(&mut self, log: LogId) {
        self.say(Input::Subscribe { ticket: Ticket(u64::MAX), log });
    }

    fn time(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.wall_ms += ms;
        self.say(Input::Tick);
    }

    fn row(&mut self, waiting: bool) {
        self.waiting = waiting;
        self.say(Input::Row(Row { moving: self.moving, ..row(waiting, &self.committed) }));
    }

    fn begin_move(&mut self, id: MoveId) {
        self.moving = Some(id);
        self.row(false);
    }

    fn ok(&self, ticket: Ticket) -> Acked {
        match self.answered.get(&ticket) {
            Some(Ok(acked)) => *acked,
            other => panic!("not acked: {other:?}"),
        }
    }

    fn refused(&self, ticket: Ticket) -> Code {
        match self.answered.get(&ticket) {
            Some(Err(WriteError::Refused(refusal))) => refusal.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A chat that is there and replicated to the first follower, which is in sync.
    fn with_chat() -> Self {
        let mut world = Self::new();
        let ticket = world.append(write(log(1), 0, created(), AckPolicy::Home, None));
        world.load_all();
        world.sync(1);
        world.report(0, 1);
        world.time(50);
        world.directory(Directory::Accepts);
        assert_eq!(world.ok(ticket).ack, AckPolicy::Replicated);
        world
    }
}

fn end_of(store: &[Record]) -> PartitionEnd {
    let last = store.last().map_or(PartitionPosition::ZERO, Record::partition_position);
    let epochs = store.first().map(|first| EpochBegin { epoch: first.epoch, first_lsn: first.lsn });
    PartitionEnd { fence: EPOCH, last, epochs: epochs.into_iter().collect() }
}

fn row(waiting: bool, committed: &IsrSet) -> Row {
    let membership = Membership {
        replicas: (0..3).map(|number| (replica(number), region(number))).collect(),
        gone: BTreeSet::new(),
        set: committed.clone(),
        one_region: false,
        ..Membership::default()
    };
    Row { waiting, moving: None, membership }
}

#[derive(Debug, Clone, Copy)]
enum Directory {
    Accepts,
    AcceptsUnheard,
    Refuses,
}
