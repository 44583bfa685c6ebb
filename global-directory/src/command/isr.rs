//! A home changes the in-sync set of its partition.
//!
//! The home answers for its members being matched; the directory, which cannot know that, answers for the
//! proposal being made by the one home there is, on top of the set that is in force, for a set that still
//! spans two regions where it once did.

use super::{Answer, Failure, end_home::regions_of};
use crate::rows::Rows;
use host::planted::{Bug, is_planted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use types::{Epoch, Home, Lsn, PartitionId, PartitionState, Replica};

/// What a home wants the in-sync set to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrProposal {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch in which the proposer is home.
    pub epoch: Epoch,
    /// The proposer.
    pub home: Home,
    /// The version that the proposal is made on top of.
    pub isr_version: u64,
    /// All members.
    pub isr: Vec<Replica>,
    /// Those of them that are lost.
    pub lost: Vec<Replica>,
    /// The watermark when it was proposed, for the record.
    pub watermark: Lsn,
}

/// A proposal was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsrError {
    /// There is no such partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    /// The row is not what the proposal was made for: the proposer is home no more, or the set has changed.
    #[error("partition {partition} has moved on: {what} is {found}, and the proposal has {proposed}")]
    Moved {
        /// The partition.
        partition: PartitionId,
        /// What differs.
        what: &'static str,
        /// What the row holds.
        found: String,
        /// What the proposal holds.
        proposed: String,
    },
    /// The set itself is not allowed.
    #[error("partition {partition}: {node} {why}")]
    Member {
        /// The partition.
        partition: PartitionId,
        /// The member.
        node: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The set would span one region only.
    #[error("partition {partition}: the in-sync set spans two regions, and would span {regions} only")]
    OneRegion {
        /// The partition.
        partition: PartitionId,
        /// What it would span.
        regions: String,
    },
}

impl IsrError {
    /// Whether the row has moved on, so that a fresh look at it may allow another proposal.
    pub const fn has_moved(&self) -> bool {
        matches!(self, Self::Moved { .. })
    }
}

pub(super) fn propose(rows: &mut Rows<'_>, proposal: &IsrProposal) -> Result<Answer, Failure> {
    let partition = proposal.partition;
    let Some(mut row) = rows.partition(partition)? else {
        return Err(IsrError::UnknownPartition(partition).into());
    };
    let moved = |what, found: String, proposed: String| {
        Failure::from(IsrError::Moved { partition, what, found, proposed })
    };
    if !row.has_home() || row.home.as_ref() != Some(&proposal.home) {
        let text = |home: &Home| format!("{} in incarnation {}", home.node, home.incarnation);
        let found = row.home.as_ref().map_or_else(|| "nobody".into(), text);
        let found = if row.state == PartitionState::FailingOver { "failing over".into() } else { found };
        return Err(moved("home", found, text(&proposal.home)));
    }
    if row.epoch != proposal.epoch {
        return Err(moved("epoch", row.epoch.to_string(), proposal.epoch.to_string()));
    }
    if row.isr_version != proposal.isr_version {
        return Err(moved("isr version", row.isr_version.to_string(), proposal.isr_version.to_string()));
    }
    check_members(&row.replicas, &row.isr, proposal)?;
    let nodes = rows.nodes()?;
    let next = regions_of(&proposal.isr, &nodes);
    if regions_of(&row.isr, &nodes).len() >= 2 && next.len() < 2 && !is_planted(Bug::ShrinkToOne) {
        let regions = next.iter().map(|region| region.as_str()).collect::<Vec<_>>().join(", ");
        return Err(IsrError::OneRegion { partition, regions }.into());
    }
    note(rows, &row.lost, proposal)?;
    row.isr.clone_from(&proposal.isr);
    row.lost.clone_from(&proposal.lost);
    row.isr_version += 1;
    let isr_version = row.isr_version;
    rows.put_partition(row)?;
    Ok(Answer::IsrVersion(isr_version))
}

fn check_members(replicas: &[Replica], isr: &[Replica], proposal: &IsrProposal) -> Result<(), IsrError> {
    let wrong = |member: &Replica, why| IsrError::Member {
        partition: proposal.partition,
        node: member.node.to_string(),
        why,
    };
    let mut seen = BTreeSet::new();
    for member in &proposal.isr {
        if !seen.insert(member) {
            return Err(wrong(member, "is named twice"));
        }
        // A store that was replaced is no replica any more, and can stay only as what it is: lost.
        let stays_lost = isr.contains(member) && proposal.lost.contains(member);
        if !replicas.contains(member) && !stays_lost {
            return Err(wrong(member, "is no replica with that store"));
        }
    }
    if let Some(member) = proposal.lost.iter().find(|member| !seen.contains(member)) {
        return Err(wrong(member, "is listed as lost without being in the set"));
    }
    if let Some(member) = proposal.lost.iter().find(|member| !isr.contains(member)) {
        return Err(wrong(member, "cannot join as lost"));
    }
    let serves = |member: &&Replica| member.node == proposal.home.node;
    match proposal.isr.iter().find(serves) {
        Some(home) if proposal.lost.contains(home) => Err(wrong(home, "is the home and listed as lost")),
        Some(_) => Ok(()),
        None => Err(IsrError::Member {
            partition: proposal.partition,
            node: proposal.home.node.to_string(),
            why: "is the home and not in the set",
        }),
    }
}

/// Joins and leaves are the daily business of homes; that a member is lost, or is not any more, is not.
fn note(rows: &mut Rows<'_>, lost: &[Replica], proposal: &IsrProposal) -> Result<(), Failure> {
    if lost == proposal.lost {
        return Ok(());
    }
    let names = |members: &[Replica]| {
        let names: Vec<_> = members.iter().map(|member| member.node.as_str()).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    rows.note(format!(
        "partition {}: in-sync set {} with {} lost, by its home at watermark {}",
        proposal.partition,
        names(&proposal.isr),
        names(&proposal.lost),
        proposal.watermark
    ))?;
    Ok(())
}
