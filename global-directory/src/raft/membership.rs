//! Who is in the group, and how that changes: one replica at a time.
//!
//! A new replica learns first and votes only once it holds the log. An id is used once: a replica that comes
//! back on an empty disk is added under a new one. Removing the leader is allowed; it hands over once the
//! removal is committed.

use super::{
    Group,
    identity::identity_of,
    types::{Member, ReplicaId},
};
use crate::{
    bounds,
    command::{Command, OperatorNote},
    driver::envelope,
    engine::SubmitError,
    rows,
};
use openraft::{ChangeMembers, ServerState};
use proto::directory::{InspectReply, ReplicaStatus};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::task::JoinSet;

/// The group was not changed, or it is not known whether.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MembershipError {
    /// Another replica has to be asked.
    #[error(transparent)]
    Unanswered(#[from] SubmitError),
    /// Names are used once.
    #[error("replica id {id} was used before: the next one is {next}")]
    UsedBefore { id: ReplicaId, next: u64 },
    /// It does not answer, or is not who it should be.
    #[error("{0}")]
    Unreachable(String),
    /// It has a vote and a log already.
    #[error("replica {0} was in a group before: it begins with an empty folder and a new id")]
    HasGroup(ReplicaId),
    /// There are enough.
    #[error("{} replicas are there already", bounds::VOTERS_MAX)]
    TooMany,
    /// See there.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The library refused it, or did not come to an end in time.
    #[error("{0}")]
    Library(String),
}

/// A replica must not be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoveError {
    /// It is not there.
    #[error("replica {0} is not in the group")]
    Unknown(ReplicaId),
    /// Nobody would be left.
    #[error("replica {0} is the only voter")]
    Last(ReplicaId),
    /// The rest could not decide anything.
    #[error(
        "without replica {id} there are {left} voters of which {alive} answer: that is no majority (--force does it \
         all the same)"
    )]
    NoMajority { id: ReplicaId, left: usize, alive: usize },
}

/// Whether a replica may go. Pure.
fn check_removal(
    id: ReplicaId,
    voters: &BTreeSet<ReplicaId>,
    members: &BTreeMap<ReplicaId, Member>,
    alive: &BTreeSet<ReplicaId>,
    force: bool,
) -> Result<(), RemoveError> {
    if !members.contains_key(&id) {
        return Err(RemoveError::Unknown(id));
    }
    if !voters.contains(&id) {
        return Ok(());
    }
    let left: BTreeSet<_> = voters.iter().filter(|voter| **voter != id).copied().collect();
    let alive = left.intersection(alive).count();
    if left.is_empty() {
        Err(RemoveError::Last(id))
    } else if alive * 2 <= left.len() && !force {
        Err(RemoveError::NoMajority { id, left: left.len(), alive })
    } else {
        Ok(())
    }
}

impl Group {
    fn highest_id(&self) -> Result<u64, MembershipError> {
        let mut highest = 0;
        let read = self.kv.read(&mut |tx| {
            highest = rows::highest_replica(tx)?;
            Ok(())
        });
        read.map_err(|error| MembershipError::Library(error.to_string()))?;
        Ok(highest)
    }

    /// What this replica knows of the group.
    pub(crate) fn inspect(&self) -> InspectReply {
        let leader = self.leader();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        let voters: BTreeSet<ReplicaId> = members.voter_ids().collect();
        let is_leader = metrics.state == ServerState::Leader;
        let majority_at = self.majority_at(&metrics);
        let own = self.identity.replica;
        let matched = |id: &ReplicaId| match metrics.replication.as_ref().and_then(|all| all.get(id)) {
            _ if is_leader && *id == own => metrics.last_log_index,
            Some(matched) => Some(matched.map_or(0, |at| at.index)),
            None => None,
        };
        let replicas = members.nodes().map(|(id, member)| ReplicaStatus {
            replica: id.get(),
            region: member.region.to_string(),
            address: member.address.clone(),
            store: member.store.as_bytes().to_vec().into(),
            voter: voters.contains(id),
            matched_index: matched(id),
        });
        InspectReply {
            replica: own.get(),
            leader: match leader {
                super::Leader::Own => own.get(),
                super::Leader::Other(leader, _) => leader.get(),
                super::Leader::Unknown => 0,
            },
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |at| at.index),
            snapshot_index: metrics.snapshot.map_or(0, |at| at.index),
            purged_index: metrics.purged.map_or(0, |at| at.index),
            quorum_ago_ms: majority_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            replicas: replicas.collect(),
        }
    }

    fn members(&self) -> (BTreeMap<ReplicaId, Member>, BTreeSet<ReplicaId>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        (members.nodes().map(|(id, member)| (*id, member.clone())).collect(), members.voter_ids().collect())
    }

    /// Lets a replica join that waits at `address`. Repeating it is safe.
    pub(crate) async fn add(&self, id: ReplicaId, address: &str, by: String) -> Result<(), MembershipError> {
        self.read_barrier().await?;
        let (members, voters) = self.members();
        let found = identity_of(&self.network, id, address).await.map_err(MembershipError::Unreachable)?;
        match members.get(&id) {
            Some(known) if known.store == found.member.store => {
                if voters.contains(&id) {
                    return Ok(());
                }
            }
            known => {
                let next = self.highest_id()?.max(members.keys().last().map_or(0, |id| id.get())) + 1;
                if known.is_some() || id.get() < next {
                    return Err(MembershipError::UsedBefore { id, next });
                }
                if found.has_group {
                    return Err(MembershipError::HasGroup(id));
                }
                if members.len() >= bounds::VOTERS_MAX {
                    return Err(MembershipError::TooMany);
                }
            }
        }
        tracing::info!(replica = %id, address, by, "a replica joins the group");
        self.note(by, format!("replica {id} of the directory joins at {address}")).await?;
        let joined = async {
            let library = |error: &dyn std::fmt::Display| MembershipError::Library(error.to_string());
            self.raft.add_learner(id, found.member, true).await.map_err(|error| library(&error))?;
            let votes = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
            self.raft.change_membership(votes, true).await.map_err(|error| library(&error))
        };
        in_time(joined).await
    }

    /// Takes a replica out, for good. Repeating it is safe.
    pub(crate) async fn remove(&self, id: ReplicaId, force: bool, by: String) -> Result<(), MembershipError> {
        self.read_barrier().await?;
        let (members, voters) = self.members();
        if !members.contains_key(&id) && id.get() <= self.highest_id()? {
            return Ok(());
        }
        let alive = self.who_answers(&members).await;
        check_removal(id, &voters, &members, &alive, force)?;
        tracing::warn!(replica = %id, force, by, "a replica is taken out of the group");
        let forced = if force { ", by force" } else { "" };
        self.note(by, format!("replica {id} of the directory is taken out{forced}")).await?;
        let changes = if voters.contains(&id) {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        let removed = self.raft.change_membership(changes, false);
        in_time(async { removed.await.map_err(|error| MembershipError::Library(error.to_string())) }).await
    }

    /// Into the audit trail, before it is done: who removes the leader has nobody to tell it to afterwards.
    async fn note(&self, by: String, what: String) -> Result<(), MembershipError> {
        let command = Command::NoteBy(OperatorNote { by, what });
        self.submit(envelope(command)).await?;
        Ok(())
    }

    /// The members that stand on the disks that the group knows, and answer.
    async fn who_answers(&self, members: &BTreeMap<ReplicaId, Member>) -> BTreeSet<ReplicaId> {
        let mut asked = JoinSet::new();
        for (id, member) in members.clone() {
            if id == self.identity.replica {
                continue;
            }
            let network = self.network.clone();
            asked.spawn(async move {
                let found = identity_of(&network, id, &member.address).await.ok()?;
                (found.member.store == member.store).then_some(id)
            });
        }
        let mut alive = BTreeSet::from([self.identity.replica]);
        while let Some(answer) = asked.join_next().await {
            alive.extend(answer.ok().flatten());
        }
        alive
    }
}

async fn in_time<T>(change: impl Future<Output = Result<T, MembershipError>>) -> Result<(), MembershipError> {
    let patience = Duration::from_millis(bounds::MEMBERSHIP_TIMEOUT_MS);
    let late = || MembershipError::Library("the change has not come to an end; repeating it is safe".into());
    tokio::time::timeout(patience, change).await.map_err(|_| late())?.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId::new).collect()
    }

    fn removal(id: u64, voters: &[u64], alive: &[u64], force: bool) -> Result<(), RemoveError> {
        let members = [1, 2, 3, 4].map(|id| (ReplicaId::new(id), Member::default())).into();
        check_removal(ReplicaId::new(id), &ids(voters), &members, &ids(alive), force)
    }

    #[test]
    fn a_removal_leaves_a_majority_that_answers_unless_it_is_forced() {
        assert_eq!(removal(3, &[1, 2, 3], &[1, 2], false), Ok(()), "a dead one is replaced");
        let error = removal(1, &[1, 2, 3], &[1, 2], false).expect_err("the wrong one");
        assert_eq!(error, RemoveError::NoMajority { id: ReplicaId::new(1), left: 2, alive: 1 });
        assert_eq!(removal(1, &[1, 2, 3], &[1, 2], true), Ok(()));
        assert_eq!(removal(1, &[1], &[1], true), Err(RemoveError::Last(ReplicaId::new(1))));
        assert_eq!(removal(9, &[1, 2], &[1, 2], true), Err(RemoveError::Unknown(ReplicaId::new(9))));
        assert_eq!(removal(4, &[1, 2, 3], &[1], false), Ok(()), "a learner has no vote");
    }
}
