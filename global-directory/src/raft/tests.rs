//! The library's suite for stores, on every engine; and what it does not ask.

mod cluster;
mod scenarios;

use super::{
    disk::Disk,
    log::{Ahead, Log},
    machine::Machine,
    network::Network,
    types::*,
};
use crate::{
    command::{Command, Deployment, Envelope},
    kv::{Embedded, Kv, Memory},
    state::State,
    testing::{REGIONS, home, region, registration},
};
use ::types::{Placement, RequestId};
use openraft::{
    CommittedLeaderId, EntryPayload, RaftSnapshotBuilder as _,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _},
    testing::{StoreBuilder, Suite},
};
use std::sync::Arc;
use tempfile::TempDir;

const TTL_MS: u64 = 1_000;

struct OnDisk;
struct InMemory;

fn open(kv: Arc<dyn Kv>) -> (Log, Machine, Arc<State>) {
    let state = Arc::new(State::new(Placement::default(), TTL_MS, crate::clock::boot_ms()));
    let disk = Disk::new(kv).expect("a thread");
    let machine = Machine::open(disk.clone(), state.clone()).expect("readable");
    let ahead = Ahead::new(ReplicaId::new(1), Network::new(std::collections::BTreeMap::new()));
    (Log::new(disk, state.clone(), ahead), machine, state)
}

impl StoreBuilder<Types, Log, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError> {
        let folder = tempfile::tempdir().expect("a folder");
        let kv = Embedded::open(&folder.path().join("replica.redb")).expect("opened");
        let (log, machine, _) = open(Arc::new(kv));
        Ok((folder, log, machine))
    }
}

impl StoreBuilder<Types, Log, Machine, ()> for InMemory {
    async fn build(&self) -> Result<((), Log, Machine), StorageError> {
        let (log, machine, _) = open(Arc::new(Memory::default()));
        Ok(((), log, machine))
    }
}

#[test]
fn the_store_on_disk_keeps_what_the_library_asks_of_it() {
    Suite::test_all(OnDisk).expect("conforms");
}

#[test]
fn the_store_in_memory_keeps_what_the_library_asks_of_it() {
    Suite::test_all(InMemory).expect("conforms");
}

fn entry(index: u64, payload: EntryPayload<Types>) -> Entry {
    let leader = CommittedLeaderId::new(1, ReplicaId::new(1));
    Entry { log_id: LogId::new(leader, index), payload }
}

fn founding() -> EntryPayload<Types> {
    let deployment = Deployment { regions: REGIONS.map(region).to_vec(), partitions_per_region: 2 };
    EntryPayload::Normal(Proposal { found: Some((deployment, 1)), ..Proposal::default() })
}

fn registering(id: u8) -> EntryPayload<Types> {
    let command = Command::Register(registration("us-east-1", 1));
    let envelope = Envelope { request: RequestId::from_bytes([id; 16]), at_ms: 2, command };
    EntryPayload::Normal(Proposal { commands: vec![envelope], ..Proposal::default() })
}

fn renewing(incarnation: u64) -> EntryPayload<Types> {
    EntryPayload::Normal(Proposal { renewals: vec![home("us-east-1", incarnation)], ..Proposal::default() })
}

#[tokio::test]
async fn a_crash_takes_rows_back_no_further_than_the_log_leads_again() {
    let kv = Arc::new(Memory::default());
    let (mut log, mut machine, state) = open(kv.clone());
    let entries = [entry(0, founding()), entry(1, registering(1)), entry(2, registering(2))];
    log.blocking_append(entries.clone()).await.expect("appended");
    machine.apply(entries.clone()).await.expect("applied");
    assert_eq!(state.look(|view, _| view.version()), 3);
    kv.crash();
    let (mut log, mut machine, state) = open(kv.clone());
    assert_eq!(machine.applied_state().await.expect("readable").0, None, "nothing was synced after it");
    assert_eq!(log.get_log_state().await.expect("readable").last_log_id, Some(entries[2].log_id));
    machine.apply(entries.clone()).await.expect("applied again");
    assert_eq!(state.look(|view, _| view.version()), 3);
    // A snapshot may let the log go, so it makes the rows durable first.
    let snapshot = machine.build_snapshot().await.expect("built");
    assert_eq!(snapshot.meta.last_log_id, Some(entries[2].log_id));
    log.purge(entries[2].log_id).await.expect("purged");
    kv.crash();
    let (mut log, mut machine, _) = open(kv);
    assert_eq!(machine.applied_state().await.expect("readable").0, Some(entries[2].log_id));
    assert_eq!(log.get_log_state().await.expect("readable").last_purged_log_id, Some(entries[2].log_id));
}

#[tokio::test]
async fn a_renewal_is_stamped_when_it_comes_to_the_log_and_answered_from_the_rows() {
    let (mut log, mut machine, state) = open(Arc::new(Memory::default()));
    let entries = [entry(0, founding()), entry(1, registering(1))];
    log.blocking_append(entries.clone()).await.expect("appended");
    machine.apply(entries).await.expect("applied");
    let us = home("us-east-1", 1);
    let heard =
        |within_ms| state.look(|_, leases| leases.heard_within(&us, within_ms, crate::clock::boot_ms()));
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    assert!(!heard(20), "only its registration so far");
    let before = state.look(|view, _| view.version());
    log.blocking_append([entry(2, renewing(1))]).await.expect("appended");
    assert!(heard(20), "stamped before it is applied, or even committed");
    let outcomes = machine.apply([entry(2, renewing(1)), entry(3, renewing(2))]).await.expect("applied");
    assert_eq!(outcomes[0].renewals, vec![Ok(())]);
    assert!(outcomes[1].renewals[0].is_err(), "nobody has booted with that incarnation");
    assert_eq!(state.look(|view, _| view.version()), before, "no row has changed");
}

#[tokio::test]
async fn one_that_took_a_snapshot_over_presumes_that_everyone_has_just_renewed() {
    let (_, mut leader, _) = open(Arc::new(Memory::default()));
    leader.apply([entry(0, founding()), entry(1, registering(1))]).await.expect("applied");
    let snapshot = leader.build_snapshot().await.expect("built");
    let kv = Arc::new(Memory::default());
    let (_, mut follower, state) = open(kv.clone());
    follower.install_snapshot(&snapshot.meta, snapshot.snapshot).await.expect("installed");
    let us = home("us-east-1", 1);
    state.look(|view, leases| {
        let now_ms = crate::clock::boot_ms();
        assert_eq!(view.version(), 2);
        assert!(leases.silent_ms(&us, now_ms).is_some_and(|silent_ms| silent_ms < TTL_MS));
        assert!(!leases.heard_within(&us, TTL_MS, now_ms), "a presumed stamp is no word of the node");
    });
    kv.crash();
    let (_, mut again, _) = open(kv);
    assert_eq!(again.applied_state().await.expect("readable").0, snapshot.meta.last_log_id);
}

#[tokio::test]
async fn a_snapshot_that_nobody_reads_is_let_go_and_taken_anew_when_it_is_asked_for() {
    let (mut log, mut machine, _) = open(Arc::new(Memory::default()));
    let entries = [entry(0, founding()), entry(1, registering(1))];
    log.blocking_append(entries.clone()).await.expect("appended");
    machine.apply(entries).await.expect("applied");
    let first = machine.build_snapshot().await.expect("built").meta;
    let kept = machine.get_current_snapshot().await.expect("readable").expect("there is one");
    assert_eq!(kept.meta, first);
    let last = 2 + crate::bounds::SNAPSHOT_OPEN;
    for index in 2..=last {
        machine.apply([entry(index, EntryPayload::Blank)]).await.expect("applied");
    }
    assert!(!machine.holds_a_view(), "the store may use the space again");
    let anew = machine.get_current_snapshot().await.expect("readable").expect("there is one still");
    assert_eq!(anew.meta.last_log_id.map(|id| id.index), Some(last));
}
