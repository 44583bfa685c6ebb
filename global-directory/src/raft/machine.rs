//! The state machine of a replica: applies committed entries to the rows, publishes what they changed, keeps a
//! snapshot of the rows for replicas that are far behind, and takes one over.

use super::{
    disk::{APPLIED, Disk, OURS},
    log::failed,
    types::{
        Entry, LogId, Membership, Outcomes, Proposal, Snapshot, SnapshotMeta, SnapshotRows, StorageError,
        Types,
    },
};
use crate::{
    bounds, clock,
    command::{self, Answer, Command, Envelope, Failure, Outcome, Refusal},
    kv::{self, Kv, Transaction, View},
    rows::{self, decode, encode},
    state::State,
};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};
use types::{Home, PlacementDelta};

/// How far the rows are, and who was in the group there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Applied {
    pub(super) last: Option<LogId>,
    pub(super) membership: Membership,
}

/// The state machine. Clones share the snapshot.
#[derive(Clone)]
pub(crate) struct Machine {
    disk: Disk,
    state: Arc<State>,
    applied: Applied,
    current: Arc<Mutex<Kept>>,
}

/// The newest snapshot.
#[derive(Clone, Default)]
enum Kept {
    /// There is none yet.
    #[default]
    Nothing,
    /// It can be read.
    Open(Snapshot),
    /// There was one; it is taken anew when it is asked for.
    LetGo,
}

/// What one entry did to the rows.
struct Executed {
    proposal: Proposal,
    outcomes: Vec<Result<Outcome, Refusal>>,
    founded: Option<PlacementDelta>,
}

impl Machine {
    /// Reads how far the rows are.
    pub(super) fn open(disk: Disk, state: Arc<State>) -> Result<Self, kv::Error> {
        let mut applied = Applied::default();
        disk.kv().read(&mut |tx| {
            if let Some(row) = tx.get(APPLIED)? {
                applied = decode(APPLIED, &row)?;
            }
            Ok(())
        })?;
        Ok(Self { disk, state, applied, current: Arc::default() })
    }

    /// Drops a snapshot's view of the rows once they have moved on from it: while it is open, the store can use none of
    /// the space that was freed since.
    fn let_go(&self) {
        let index = |last: Option<LogId>| last.map_or(0, |last| last.index);
        let mut current = self.current.lock();
        if let Kept::Open(snapshot) = &*current
            && index(self.applied.last).saturating_sub(index(snapshot.meta.last_log_id))
                > bounds::SNAPSHOT_OPEN
        {
            *current = Kept::LetGo;
        }
    }

    #[cfg(test)]
    pub(super) fn holds_a_view(&self) -> bool {
        matches!(*self.current.lock(), Kept::Open(_))
    }

    fn publish(&self, executed: Executed) -> Outcomes {
        let now_ms = clock::boot_ms();
        if let Some(delta) = executed.founded {
            self.state.publish(delta, None, now_ms);
        }
        let commands = executed.proposal.commands.iter().zip(executed.outcomes);
        let commands = commands.map(|(envelope, outcome)| {
            let kind = if outcome.is_ok() { "done" } else { "refused" };
            let name = envelope.command.name();
            metrics::counter!("hearth_directory_commands_total", "command" => name, "outcome" => kind)
                .increment(1);
            let outcome = outcome?;
            if let Some(delta) = outcome.delta {
                let registered = registered(envelope, outcome.answer);
                self.state.publish(delta, registered.as_ref(), now_ms);
            }
            Ok(outcome.answer)
        });
        let commands = commands.collect();
        let renewals = executed.proposal.renewals.iter().map(|home| self.state.check(home)).collect();
        Outcomes { commands, renewals }
    }
}

/// The boot that a command has registered.
pub(crate) fn registered(envelope: &Envelope, answer: Answer) -> Option<Home> {
    match (&envelope.command, answer) {
        (Command::Register(registration), Answer::Registered(incarnation)) => {
            Some(Home { node: registration.node.clone(), incarnation })
        }
        _ => None,
    }
}

fn execute(tx: &mut dyn Transaction, proposal: Proposal) -> Result<Executed, kv::Error> {
    let founded = match &proposal.found {
        None => None,
        Some((deployment, at_ms)) => match command::found(tx, deployment, *at_ms) {
            Ok(true) => Some(rows::snapshot(tx)?),
            Ok(false) => None,
            Err(command::DeploymentError::Store(error)) => return Err(error),
            // Whoever proposed it was started with another configuration; the rows are as they were.
            Err(error) => {
                tracing::error!(%error, "a replica was started for another deployment");
                None
            }
        },
    };
    let mut outcomes = Vec::with_capacity(proposal.commands.len());
    for envelope in &proposal.commands {
        match command::execute(tx, envelope) {
            Ok(outcome) => outcomes.push(Ok(outcome)),
            Err(Failure::Refused(refusal)) => outcomes.push(Err(refusal)),
            Err(Failure::Store(error)) => return Err(error),
        }
    }
    Ok(Executed { proposal, outcomes, founded })
}

/// Applies entries in one commit; `applied` moves with them.
fn apply(
    kv: &dyn Kv,
    mut applied: Applied,
    entries: Vec<Entry>,
) -> Result<(Applied, Vec<Executed>), kv::Error> {
    let mut executed = Vec::with_capacity(entries.len());
    kv.write_soon(&mut |tx| {
        // An engine may run this again.
        executed.clear();
        for entry in &entries {
            applied.last = Some(entry.log_id);
            let proposal = match &entry.payload {
                EntryPayload::Blank => Proposal::default(),
                EntryPayload::Normal(proposal) => proposal.clone(),
                EntryPayload::Membership(members) => {
                    applied.membership = Membership::new(Some(entry.log_id), members.clone());
                    let highest = members.nodes().map(|(id, _)| id.get()).max();
                    rows::note_replica(tx, highest.unwrap_or(0))?;
                    Proposal::default()
                }
            };
            executed.push(execute(tx, proposal)?);
        }
        tx.put(APPLIED, &encode(&applied)?)
    })?;
    Ok((applied, executed))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let started = Instant::now();
        let entries: Vec<Entry> = entries.into_iter().collect();
        let before = self.applied.clone();
        let done = self.disk.run(move |kv| apply(kv, before, entries)).await;
        let (applied, executed) = done.map_err(failed(ErrorSubject::StateMachine, ErrorVerb::Write))?;
        self.applied = applied;
        self.let_go();
        metrics::histogram!("hearth_directory_commit_seconds").record(started.elapsed().as_secs_f64());
        Ok(executed.into_iter().map(|executed| self.publish(executed)).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotRows>, StorageError> {
        Ok(Box::new(SnapshotRows(Arc::new(super::snapshot::Pairs::default()))))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotRows>,
    ) -> Result<(), StorageError> {
        let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let row = applied.clone();
        let rows = snapshot.clone();
        let replaced = self.disk.run(move |kv| {
            kv.write(&mut |tx| {
                replace_rows(tx, &*rows.0)?;
                tx.put(APPLIED, &encode(&row)?)
            })?;
            let mut view = types::Placement::default();
            kv.read(&mut |tx| {
                view = rows::placement(tx)?;
                Ok(())
            })?;
            Ok(view)
        });
        let signature = meta.signature();
        let view =
            replaced.await.map_err(failed(ErrorSubject::Snapshot(Some(signature)), ErrorVerb::Write))?;
        tracing::info!(placement_version = view.version(), "a snapshot of the directory was installed");
        // Renewals between the rows before and these were never in this replica's log.
        self.state.replace(view, clock::boot_ms());
        self.applied = applied;
        *self.current.lock() = Kept::Open(Snapshot { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let kept = self.current.lock().clone();
        match kept {
            Kept::Nothing => Ok(None),
            Kept::Open(snapshot) => Ok(Some(snapshot)),
            // One of now does as well, and better.
            Kept::LetGo => self.build_snapshot().await.map(Some),
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let built = self.disk.run(|kv| {
            // What the snapshot holds may be purged from the log: it has to be durable first.
            kv.write(&mut |_| Ok(()))?;
            let view = kv.view()?;
            let applied: Applied = match view.range(APPLIED, &[APPLIED, &[0]].concat(), 1)?.pop() {
                Some((key, row)) => decode(&key, &row)?,
                None => Applied::default(),
            };
            Ok((applied, view))
        });
        let (applied, view) = built.await.map_err(failed(ErrorSubject::Snapshot(None), ErrorVerb::Read))?;
        let at = applied.last.map_or_else(|| "0".to_owned(), |last| last.to_string());
        let meta =
            SnapshotMeta { last_log_id: applied.last, last_membership: applied.membership, snapshot_id: at };
        let snapshot = Snapshot { meta, snapshot: Box::new(SnapshotRows(view)) };
        *self.current.lock() = Kept::Open(snapshot.clone());
        Ok(snapshot)
    }
}

/// The row space around our own keys.
pub(super) const ROW_SPACES: [(&[u8], &[u8]); 2] = [(&[], &[OURS]), (&[OURS + 1], &[0xFF])];

fn replace_rows(tx: &mut dyn Transaction, rows: &dyn View) -> Result<(), kv::Error> {
    for (start, end) in ROW_SPACES {
        loop {
            let old = tx.range(start, end, bounds::LOG_PAGE)?;
            if old.is_empty() {
                break;
            }
            for (key, _) in old {
                tx.delete(&key)?;
            }
        }
        let mut from = start.to_vec();
        loop {
            let page = rows.range(&from, end, bounds::LOG_PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, value) in &page {
                tx.put(key, value)?;
            }
        }
    }
    Ok(())
}
