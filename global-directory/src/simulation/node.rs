//! A node of the simulation: logs, fences, a lease, and what it last heard of the placement.

use super::Plant;
use crate::{
    command::IsrProposal,
    controller::{FenceAnswer, Stand},
};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Epoch, Home, Incarnation, Lsn, NodeId, PartitionId, PartitionPosition, PartitionRow, Placement, Replica,
    StoreId,
};

/// A record: the epoch it was written in, and a number that no other record has.
pub(super) type Record = (Epoch, u64);

/// Set in the number of a record that is a seal.
const SEAL: u64 = 1 << 63;

/// What became of a home's turn to write.
pub(super) enum Wrote {
    /// A record, there.
    Record(Epoch, Lsn, u64),
    /// It is sealed, and goes on to feed its followers.
    Nothing,
    /// It is home no more.
    Fenced,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(super) store: u8,
    pub(super) plant: Option<Plant>,
    home: Home,
    pub(super) is_up: bool,
    pub(super) is_paused: bool,
    pub(super) is_cut_off: bool,
    pub(super) view: Placement,
    leased_until_ms: u64,
    renewed_ms: u64,
    /// Durable.
    logs: BTreeMap<PartitionId, Log>,
    /// As home.
    terms: BTreeMap<PartitionId, Term>,
}

#[derive(Debug, Default)]
struct Log {
    records: Vec<Record>,
    fence: Epoch,
}

/// What a home knows in one epoch.
#[derive(Debug, Default)]
struct Term {
    epoch: Epoch,
    matched: BTreeMap<Replica, u64>,
    /// Sets that were proposed, of unknown outcome, and the version they were made on.
    proposed: Vec<(u64, Vec<Replica>)>,
    watermark: usize,
}

impl Node {
    pub(super) fn new(store: u8) -> Self {
        Self {
            store,
            plant: None,
            home: Home { node: crate::testing::node("none"), incarnation: Incarnation::default() },
            is_up: false,
            is_paused: false,
            is_cut_off: false,
            view: Placement::default(),
            leased_until_ms: 0,
            renewed_ms: 0,
            logs: BTreeMap::new(),
            terms: BTreeMap::new(),
        }
    }

    pub(super) fn boot(&mut self, home: Home, now_ms: u64) {
        self.home = home;
        self.is_up = true;
        self.is_paused = false;
        self.leased_until_ms = 0;
        self.renewed_ms = now_ms;
        self.terms.clear();
    }

    pub(super) fn is_running(&self) -> bool {
        self.is_up && !self.is_paused
    }

    pub(super) fn is_leased(&self, now_ms: u64) -> bool {
        self.is_running() && now_ms < self.leased_until_ms
    }

    pub(super) fn reaches_directory(&self) -> bool {
        self.is_running() && !self.is_cut_off
    }

    pub(super) fn wants_to_renew(&mut self, now_ms: u64, every_ms: u64) -> Option<Home> {
        if now_ms < self.renewed_ms + every_ms {
            return None;
        }
        self.renewed_ms = now_ms;
        Some(self.home.clone())
    }

    pub(super) fn renewed(&mut self, home: &Home, until_ms: u64) {
        if self.home == *home {
            self.leased_until_ms = self.leased_until_ms.max(until_ms);
        }
    }

    pub(super) fn fence(&mut self, partition: PartitionId, epoch: Epoch) -> FenceAnswer {
        let store = StoreId::from_bytes([self.store; 16]);
        let log = self.logs.entry(partition).or_default();
        let fence = log.fence.max(epoch);
        if self.plant != Some(Plant::KeepsNoFence) {
            log.fence = fence;
        }
        FenceAnswer { partition, fence, last: log.last(), store }
    }

    pub(super) fn log(&self, partition: PartitionId) -> &[Record] {
        self.logs.get(&partition).map_or(&[], |log| &log.records)
    }

    fn row(&self, partition: PartitionId) -> Option<&PartitionRow> {
        let row = self.view.partition(partition)?;
        (row.has_home() && row.home.as_ref() == Some(&self.home)).then_some(row)
    }

    /// What it believes to be home of.
    pub(super) fn homes(&self) -> Vec<PartitionId> {
        self.view.partitions().map(|row| row.partition).filter(|it| self.row(*it).is_some()).collect()
    }

    /// Writes one record, unless its own fence says that its epoch is over; the seal, once, while it is moved.
    pub(super) fn write(&mut self, partition: PartitionId, serial: u64) -> Wrote {
        let Some(row) = self.row(partition) else { return Wrote::Fenced };
        let (epoch, start_lsn, is_moving) = (row.epoch, row.start_lsn(), row.moving.is_some());
        let goes_on = row.history.iter().rev().nth(1).is_some_and(|before| before.home == self.home);
        let log = self.logs.entry(partition).or_default();
        if log.fence > epoch {
            return Wrote::Fenced;
        }
        log.fence = epoch;
        if log.is_sealed_in(epoch) {
            return Wrote::Nothing;
        }
        if log.last().epoch < epoch {
            let begins = log.last().lsn.plus(1);
            let agrees = if goes_on { begins >= start_lsn } else { begins == start_lsn };
            assert!(agrees, "an epoch begins where the directory says: {begins}, {start_lsn}");
        }
        let serial = if is_moving { serial | SEAL } else { serial };
        log.records.push((epoch, serial));
        let term = self.terms.entry(partition).or_default();
        if term.epoch != epoch {
            *term = Term { epoch, ..Term::default() };
        }
        Wrote::Record(epoch, log.last().lsn, serial)
    }

    /// Where the seal of an epoch stands, if it is the last record here.
    pub(super) fn seal(&self, partition: PartitionId, epoch: Epoch) -> Option<Lsn> {
        let log = self.logs.get(&partition)?;
        let says_so = self.plant == Some(Plant::SaysItHoldsSeal);
        (log.is_sealed_in(epoch) || says_so).then_some(log.last().lsn)
    }

    /// How its homes stand.
    pub(super) fn stands(&self) -> Vec<Stand> {
        let stand = |partition: &PartitionId| {
            let row = self.row(*partition)?;
            let sound = row.isr.iter().filter(|it| !row.lost.contains(it) && it.node != self.home.node);
            let in_sync = sound.map(|it| (it.clone(), 0)).collect();
            Some(Stand { partition: *partition, epoch: row.epoch, in_sync })
        };
        self.homes().iter().filter_map(stand).collect()
    }

    /// The epoch in which it acks at `home` now.
    pub(super) fn acks_at_home(&self, partition: PartitionId, now_ms: u64) -> Option<Epoch> {
        let row = self.row(partition)?;
        let may_ack = row.waiting.is_empty() || self.plant == Some(Plant::ForgetsToWait);
        let is_over = row.moving.is_some() && self.plant != Some(Plant::AcksBehindSeal);
        (may_ack && !is_over && now_ms < self.leased_until_ms).then_some(row.epoch)
    }

    /// One fetch of a follower: match check, report, and what it lacks.
    pub(super) fn feed(&mut self, partition: PartitionId, name: &NodeId, follower: &mut Self) {
        let Some(row) = self.row(partition) else { return };
        let replica = Replica { node: name.clone(), store: StoreId::from_bytes([follower.store; 16]) };
        if !follower.is_running() || !row.replicas.contains(&replica) {
            return;
        }
        let epoch = row.epoch;
        let own = &self.logs[&partition].records;
        if let Some(term) = self.terms.get_mut(&partition)
            && self.plant == Some(Plant::CountsWhatWasSent)
        {
            term.matched.insert(replica.clone(), own.len() as u64);
        }
        let log = follower.logs.entry(partition).or_default();
        if log.fence > epoch {
            return;
        }
        log.fence = epoch;
        let shared = own.iter().zip(&log.records).take_while(|(a, b)| a == b).count();
        if shared < log.records.len() {
            log.records.truncate(shared);
            return;
        }
        if let Some(term) = self.terms.get_mut(&partition) {
            term.matched.insert(replica, shared as u64);
        }
        log.records.extend_from_slice(&own[shared..own.len().min(shared + 64)]);
    }

    /// A follower that has caught up joins; one that is not matched in this epoch leaves where it may.
    pub(super) fn proposes(&self, partition: PartitionId) -> Option<IsrProposal> {
        let row = self.row(partition)?;
        let term = self.terms.get(&partition)?;
        if row.epoch != term.epoch || !row.waiting.is_empty() {
            return None;
        }
        let bar = (term.watermark as u64).max(row.start_lsn().prev().get());
        let has_caught_up = |it: &&Replica| term.matched.get(it).is_some_and(|matched| *matched >= bar);
        let joins: Vec<Replica> = row
            .replicas
            .iter()
            .filter(|it| !row.isr.contains(it) || row.lost.contains(it))
            .filter(has_caught_up)
            .cloned()
            .collect();
        if joins.is_empty() {
            return None;
        }
        let mut isr = row.isr.clone();
        isr.extend(joins.iter().filter(|it| !row.isr.contains(it)).cloned());
        let lost: Vec<Replica> = row.lost.iter().filter(|it| !joins.contains(it)).cloned().collect();
        Some(IsrProposal {
            partition,
            epoch: row.epoch,
            home: self.home.clone(),
            isr_version: row.isr_version,
            isr,
            lost,
            watermark: Lsn::new(term.watermark as u64),
        })
    }

    pub(super) fn proposed(&mut self, proposal: &IsrProposal) {
        if let Some(term) = self.terms.get_mut(&proposal.partition) {
            let sound = proposal.isr.iter().filter(|it| !proposal.lost.contains(it)).cloned();
            term.proposed.push((proposal.isr_version, sound.collect()));
        }
    }

    /// The records up to the watermark, which it moves over the union of the set it knows and those proposed.
    pub(super) fn replicated(&mut self, partition: PartitionId) -> Vec<Record> {
        let Some(row) = self.row(partition).cloned() else { return Vec::new() };
        let own = self.logs[&partition].records.clone();
        let me = self.home.node.clone();
        let Some(term) = self.terms.get_mut(&partition).filter(|term| term.epoch == row.epoch) else {
            return Vec::new();
        };
        term.proposed.retain(|(version, _)| *version >= row.isr_version);
        let sound = row.isr.iter().filter(|it| !row.lost.contains(it));
        let members: BTreeSet<&Replica> =
            sound.chain(term.proposed.iter().flat_map(|(_, members)| members)).collect();
        let regions: BTreeSet<_> =
            members.iter().filter_map(|it| self.view.node(&it.node)).map(|node| &node.region).collect();
        let matched = members.iter().map(|it| match &it.node {
            node if *node == me => own.len() as u64,
            _ => term.matched.get(*it).copied().unwrap_or(0),
        });
        if regions.len() >= 2 {
            term.watermark = term.watermark.max(matched.min().unwrap_or(0) as usize);
        }
        own[..term.watermark].to_vec()
    }
}

impl Log {
    fn is_sealed_in(&self, epoch: Epoch) -> bool {
        self.records.last().is_some_and(|(of, serial)| *of == epoch && serial & SEAL != 0)
    }

    fn last(&self) -> PartitionPosition {
        let epoch = self.records.last().map_or(Epoch::ZERO, |(epoch, _)| *epoch);
        PartitionPosition::new(epoch, Lsn::new(self.records.len() as u64))
    }
}
