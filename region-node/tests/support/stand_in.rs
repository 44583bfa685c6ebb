//! Homes, replicas and pins in memory.

mod replicas;

use super::{PARTITIONS, State};
use async_trait::async_trait;
use log_store::{
    Deduped,
    account::Misfit,
    fold::LogState,
    locate::{Located, locate},
};
use parking_lot::{Mutex, MutexGuard};
use region_node::{
    PlacementView,
    bus::{BusEvent, BusSink, Published, SinkId},
    live::{LiveEvent, Said},
    service::{
        AccountAnswer, Acked, ChatState, Detail, Glance, Homes, LocateAnswer, NotHome, Page, Pins, ReadFrom,
        ReadRefusal, Replicas, Subscribed, Write, WriteError, WriteReply,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{
    AckPolicy, Body, BodyHash, Code, DedupKey, DeviceCursor, Effect, EffectAct, Entry, EntryBody, Epoch,
    Generation, LogId, Lsn, NodeId, Offset, PartitionId, PendingEffect, Pin, PinSegment, Position, Record,
    Refusal, RegionId, StateUpdate, UserId, account::Account,
};

/// One node's copies.
#[derive(Default)]
pub(crate) struct Store {
    copies: BTreeMap<PartitionId, Copy>,
    homes: BTreeMap<PartitionId, Epoch>,
    sinks: Vec<(PartitionId, LogId, BusSink)>,
    /// Writes are taken, and never answered.
    pub(crate) is_mute: bool,
    /// The copies may not be served.
    pub(crate) is_dark: bool,
}

/// One partition.
#[derive(Default, Clone)]
pub(crate) struct Copy {
    records: Vec<Record>,
    logs: BTreeMap<LogId, LogState>,
    written: BTreeMap<(LogId, DedupKey), (Position, BodyHash, u64)>,
}

impl Copy {
    fn push(&mut self, record: Record) {
        self.logs.entry(record.log).or_default().apply(&record).expect("it follows");
        if let (Some(entry), Some(position)) = (record.entry(), record.position()) {
            let written = (position, entry.body.hash(), record.accepted_at_ms);
            self.written.insert((record.log, entry.dedup_key()), written);
        }
        self.records.push(record);
    }

    fn known(&self) -> Epoch {
        self.records.last().map_or(Epoch::ZERO, |record| record.epoch)
    }

    pub(crate) fn entries(&self, log: LogId) -> Vec<Record> {
        self.records.iter().filter(|record| record.log == log).cloned().collect()
    }
}

impl Store {
    pub(crate) fn become_home(&mut self, partition: PartitionId, epoch: Epoch) {
        self.homes.insert(partition, epoch);
    }

    pub(crate) fn end_home(&mut self, partition: PartitionId) {
        let Some(epoch) = self.homes.remove(&partition) else { return };
        self.sinks.retain(|(of, _, sink)| {
            if *of == partition {
                sink.offer(BusEvent::Ended { partition, epoch });
            }
            *of != partition
        });
    }

    pub(crate) fn copy(&self, partition: PartitionId) -> Copy {
        self.copies.get(&partition).cloned().unwrap_or_default()
    }

    pub(crate) fn replace(&mut self, partition: PartitionId, copy: Copy) {
        self.copies.insert(partition, copy);
    }
}

fn misfit(misfit: Misfit) -> Refusal {
    let code = match misfit {
        Misfit::Begun => Code::AccountExists,
        Misfit::NotOpen => Code::UnknownAccount,
        Misfit::UnknownDevice(_) => Code::UnknownDevice,
        Misfit::DeviceExists(_) | Misfit::TokenMoved(_) | Misfit::NamesMoved => Code::Conflict,
        Misfit::TooMany { .. } => Code::TooLarge,
    };
    Refusal::new(code, misfit.to_string())
}

pub(crate) struct StandIn {
    name: NodeId,
    state: Arc<Mutex<State>>,
    view: Arc<PlacementView>,
}

impl StandIn {
    pub(crate) fn new(name: NodeId, state: Arc<Mutex<State>>, view: Arc<PlacementView>) -> Self {
        Self { name, state, view }
    }

    /// What all share; an error while the directory is down.
    pub(crate) fn directory(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state.lock();
        if state.directory_has_no_leader {
            return Err(Refusal::new(Code::DirectoryUnavailable, "the directory has no leader"));
        }
        Ok(state)
    }

    fn not_home(&self, partition: PartitionId) -> NotHome {
        let placement = self.view.load();
        let home = placement.home_of(partition);
        NotHome {
            partition,
            epoch: home.map_or(Epoch::ZERO, |(_, epoch)| epoch),
            home: home.map(|(row, _)| row.node.clone()),
            moving: home.is_none(),
            closed: Generation::ZERO,
        }
    }

    fn write(&self, write: &Write) -> Option<Result<Acked, WriteError>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let store = state.stores.get_mut(&self.name).expect("it is there");
        let Some(&epoch) = store.homes.get(&write.partition) else {
            return Some(Err(self.not_home(write.partition).into()));
        };
        let is_mute = store.is_mute;
        let accepted_at_ms = match &write.body {
            EntryBody::Account(_) => host::clock::wall_ms() - state.account_age_ms,
            _ => host::clock::wall_ms(),
        };
        let outcome = store.sequence(write, epoch, accepted_at_ms);
        if let Ok((_, Some(record))) = &outcome {
            let others = if state.replication_is_cut {
                BTreeSet::new()
            } else {
                state.stores.keys().cloned().collect()
            };
            for other in others.into_iter().filter(|other| *other != self.name) {
                let store = state.stores.get_mut(&other).expect("it is there");
                store.copies.entry(write.partition).or_default().push(record.clone());
            }
        }
        let is_replicated = !state.replication_is_cut;
        if let Ok((acked, Some(record))) = &outcome {
            let store = state.stores.get_mut(&self.name).expect("it is there");
            store.publish(write, record, acked.position, is_replicated);
            tell_accounts(state, write, acked.position);
        }
        (!is_mute).then(|| outcome.map(|(acked, _)| acked).map_err(WriteError::from))
    }
}

/// What an entry causes in the accounts of members is taken there at once.
fn tell_accounts(state: &mut State, write: &Write, cause: Position) {
    let chat =
        state.stores.values().find_map(|store| store.copies.get(&write.partition)?.logs.get(&write.log));
    let effects: Vec<PendingEffect> =
        chat.map(|chat| chat.effects.iter().map(|(_, effect)| effect.clone()).collect()).unwrap_or_default();
    let effects = effects
        .into_iter()
        .filter(|effect| effect.cause == cause && matches!(effect.act, EffectAct::Joined | EffectAct::Left));
    for PendingEffect { cause, target, act } in effects {
        let pin = state.pins.get(&target.log).and_then(Pin::current).copied();
        let Some(PinSegment { partition, .. }) = pin else { continue };
        let epoch = state.stores.values().find_map(|store| store.homes.get(&partition).copied());
        let effect = Effect { cause_log: write.log, cause, target, act };
        for store in state.stores.values_mut() {
            let copy = store.copies.entry(partition).or_default();
            copy.push(Record {
                lsn: Lsn::new(copy.records.len() as u64 + 1),
                epoch: epoch.unwrap_or(Epoch::FIRST),
                generation: Generation::FIRST,
                log: target.log,
                accepted_at_ms: 1,
                body: Body::Update(StateUpdate::Effect(Box::new(effect.clone()))),
            });
            let event = Arc::new(LiveEvent { log: target.log, said: Said::Chats });
            for (.., sink) in store.sinks.iter().filter(|(_, log, _)| *log == target.log) {
                sink.offer(BusEvent::Live(Arc::clone(&event)));
            }
        }
    }
}

impl Store {
    fn sequence(
        &mut self,
        write: &Write,
        epoch: Epoch,
        accepted_at_ms: u64,
    ) -> Result<(Acked, Option<Record>), Refusal> {
        let copy = self.copies.entry(write.partition).or_default();
        let key =
            DedupKey { sender: write.sender.clone(), device: write.device, message_id: write.message_id };
        if let Some((position, hash, accepted_at_ms)) = copy.written.get(&(write.log, key)) {
            if *hash != write.body.hash() {
                return Err(Refusal::new(Code::MessageIdReused, "the message id was used"));
            }
            let acked = Acked {
                position: *position,
                accepted_at_ms: *accepted_at_ms,
                ack: AckPolicy::Replicated,
                epoch,
            };
            return Ok((acked, None));
        }
        if let Some(after) = write.after {
            let key = DedupKey { message_id: after, sender: write.sender.clone(), device: write.device };
            if !copy.written.contains_key(&(write.log, key)) {
                return Err(Refusal::new(Code::OutOfOrder, format!("message {after} is not in the log")));
            }
        }
        let log = copy.logs.entry(write.log).or_default();
        match &write.body {
            EntryBody::Created { .. } if !log.head.offset.is_zero() => {
                return Err(Refusal::new(Code::ChatExists, "the chat exists"));
            }
            EntryBody::Created { .. } => {}
            EntryBody::Account(change) => {
                let none = Account::default();
                let account = log.account.as_deref().unwrap_or(&none);
                log_store::account::check(account, change).map_err(misfit)?;
            }
            _ if log.head.offset.is_zero() => return Err(Refusal::new(Code::UnknownChat, "no such chat")),
            _ if !log.members.contains_key(&write.sender) => {
                return Err(Refusal::new(Code::Forbidden, format!("{} is no member", write.sender)));
            }
            _ => {}
        }
        let record = Record {
            lsn: Lsn::new(copy.records.len() as u64 + 1),
            epoch,
            generation: write.generation,
            log: write.log,
            accepted_at_ms,
            body: Body::Entry(Entry {
                offset: log.head.offset.plus(1),
                sender: write.sender.clone(),
                device: write.device,
                message_id: write.message_id,
                expires_at_ms: None,
                salvaged: false,
                about: write.beside.about.clone(),
                body: write.body.clone(),
            }),
        };
        copy.push(record.clone());
        let position = record.position().expect("it is an entry");
        Ok((Acked { position, accepted_at_ms, ack: AckPolicy::Home, epoch }, Some(record)))
    }

    fn publish(&mut self, write: &Write, record: &Record, position: Position, is_replicated: bool) {
        let copy = &self.copies[&write.partition];
        let previous = copy.logs[&write.log].position_at(position.offset.prev());
        let previous_era = previous.unwrap_or(Position::START).era();
        let published = Arc::new(Published { record: record.clone(), previous_era });
        self.sinks.retain(|(_, log, sink)| {
            if *log != write.log {
                return true;
            }
            let is_open = sink.offer(BusEvent::Published(Arc::clone(&published)));
            if is_replicated {
                sink.offer(BusEvent::Replicated { log: *log, position });
            }
            is_open
        });
    }

    fn account(&self, partition: PartitionId, log: LogId) -> AccountAnswer {
        let state = self.copies.get(&partition).and_then(|copy| copy.logs.get(&log));
        let account = state.and_then(|state| state.account.clone());
        AccountAnswer { account, closed: Generation::ZERO }
    }

    fn log(&self, partition: PartitionId, log: LogId, user: &UserId) -> Result<&LogState, Refusal> {
        let unknown = || Refusal::new(Code::UnknownChat, format!("there is no chat {log}"));
        let state = self.copies.get(&partition).and_then(|copy| copy.logs.get(&log)).ok_or_else(unknown)?;
        let is_own = LogId::account(user) == log;
        if !is_own && !state.members.contains_key(user) && state.left_at(user).is_none() {
            return Err(Refusal::new(Code::Forbidden, format!("{user} is no member of {log}")));
        }
        Ok(state)
    }

    fn located(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
        epoch: Epoch,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let state = self.log(partition, log, user)?;
        let known = (Generation::FIRST, epoch);
        let end = state.left_at(user).and_then(|until| state.position_at(until));
        let head = end.unwrap_or(state.head);
        Ok(LocateAnswer {
            located: locate(state, known, position),
            head,
            replicated: head,
            generation: Generation::FIRST,
            epoch,
            closed: Generation::ZERO,
            until: state.left_at(user),
        })
    }
}

#[async_trait]
impl Homes for StandIn {
    fn append(&self, write: Write, reply: WriteReply) -> Result<(), WriteError> {
        let outcome = self.write(&write);
        tokio::spawn(async move {
            if outcome.is_none() {
                tokio::time::sleep_until(write.deadline).await;
            }
            reply.give(outcome.unwrap_or(Err(WriteError::Indeterminate { why: "the home is mute" })));
        });
        Ok(())
    }

    async fn subscribe(
        &self,
        partition: PartitionId,
        log: LogId,
        sink: &BusSink,
    ) -> Result<Subscribed, NotHome> {
        let mut state = self.state.lock();
        let store = state.stores.get_mut(&self.name).expect("it is there");
        let Some(&epoch) = store.homes.get(&partition) else { return Err(self.not_home(partition)) };
        store.sinks.retain(|(_, other, old)| (*other, old.id()) != (log, sink.id()));
        store.sinks.push((partition, log, sink.clone()));
        let head = store.copies.get(&partition).and_then(|copy| copy.logs.get(&log)).map(|log| log.head);
        let head = head.unwrap_or(Position::START);
        Ok(Subscribed { head, replicated: Position::START, epoch, generation: Generation::FIRST })
    }

    fn unsubscribe(&self, _: PartitionId, log: LogId, sink: SinkId) {
        let mut state = self.state.lock();
        let store = state.stores.get_mut(&self.name).expect("it is there");
        store.sinks.retain(|(_, other, old)| (*other, old.id()) != (log, sink));
    }

    fn epoch(&self, partition: PartitionId) -> Option<Epoch> {
        self.state.lock().stores[&self.name].homes.get(&partition).copied()
    }

    async fn log_state(
        &self,
        partition: PartitionId,
        log: LogId,
    ) -> Result<Option<Arc<LogState>>, ReadRefusal> {
        let state = self.state.lock();
        let copy = state.stores[&self.name].copies.get(&partition);
        Ok(copy.and_then(|copy| copy.logs.get(&log)).cloned().map(Arc::new))
    }

    fn tell(&self, partition: PartitionId, event: Arc<LiveEvent>) {
        let state = self.state.lock();
        for (of, log, sink) in &state.stores[&self.name].sinks {
            if (*of, *log) == (partition, event.log) {
                sink.offer(BusEvent::Live(Arc::clone(&event)));
            }
        }
    }

    fn write_cursors(&self, partition: PartitionId, log: LogId, cursors: Vec<DeviceCursor>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(&epoch) = state.stores[&self.name].homes.get(&partition) else { return };
        for store in state.stores.values_mut() {
            let copy = store.copies.entry(partition).or_default();
            let record = Record {
                lsn: Lsn::new(copy.records.len() as u64 + 1),
                epoch,
                generation: Generation::FIRST,
                log,
                accepted_at_ms: 1,
                body: Body::Update(StateUpdate::Cursors(cursors.clone())),
            };
            copy.push(record);
        }
    }

    async fn take_effect(&self, _: PartitionId, _: types::Effect) -> Result<(), WriteError> {
        Ok(())
    }

    async fn locate(
        &self,
        partition: PartitionId,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let state = self.state.lock();
        let store = &state.stores[&self.name];
        let Some(&epoch) = store.homes.get(&partition) else { return Err(self.not_home(partition).into()) };
        match store.located(partition, log, user, position, epoch)? {
            LocateAnswer { located: Located::Ahead, .. } => {
                Err(Refusal::new(Code::PositionUnknown, format!("{log} has never given {position} out"))
                    .into())
            }
            answer => Ok(answer),
        }
    }

    async fn account(&self, partition: PartitionId, log: LogId) -> Result<AccountAnswer, ReadRefusal> {
        let state = self.state.lock();
        let store = &state.stores[&self.name];
        if !store.homes.contains_key(&partition) || store.is_mute {
            return Err(self.not_home(partition).into());
        }
        Ok(store.account(partition, log))
    }
}

#[async_trait]
impl Pins for StandIn {
    async fn get(&self, log: LogId) -> Result<Option<Pin>, Refusal> {
        let state = self.state.lock();
        if state.directory_has_no_leader {
            return Err(Refusal::new(Code::DirectoryUnavailable, "the directory has no leader"));
        }
        Ok(state.pins.get(&log).cloned())
    }

    async fn look_up(&self, log: LogId) -> Option<Pin> {
        self.state.lock().pins.get(&log).cloned()
    }

    /// A chat's home is where its creator is connected.
    async fn pin(&self, log: LogId, region: &RegionId, _: &[RegionId]) -> Result<Pin, Refusal> {
        let mut state = self.state.lock();
        let placement = self.view.load();
        let homed_here = (0..PARTITIONS)
            .map(PartitionId::new)
            .find(|partition| placement.home_of(*partition).is_some_and(|(row, _)| row.region == *region));
        let partition = homed_here.expect("each region has a partition");
        let segments =
            vec![PinSegment { generation: Generation::FIRST, partition, first_offset: Offset::FIRST }];
        Ok(state.pins.entry(log).or_insert(Pin { log, segments }).clone())
    }
}
