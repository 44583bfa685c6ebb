//! From a partition whose home is over to its next one: fence, compare, promote.

use super::{Action, Controller, FenceAnswer, Page, boot, candidates, replica, submit_in_batches};
use crate::{
    bounds,
    command::{Command, Promotion},
    rendezvous,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Epoch, NodeId, NodeRow, PartitionId, PartitionPosition, PartitionRow, PartitionState, Placement,
    RegionStatus, Replica,
};

/// One round of fencing for one partition.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The epoch that ends; the fences are raised to the next one.
    epoch: Epoch,
    deadline_ms: u64,
    outstanding: BTreeSet<NodeId>,
    fenced: BTreeMap<Replica, PartitionPosition>,
}

/// Per node, what it is to fence: one call for all partitions.
type Asks<'a> = BTreeMap<&'a NodeId, (&'a NodeRow, Vec<(PartitionId, Epoch)>)>;

/// How much longer than a fence call may take its answer is waited for.
const DEADLINE_SLACK_MS: u64 = 250;

impl Controller {
    pub(super) fn take_answers(
        &mut self,
        view: &Placement,
        node: &NodeId,
        asked: &[PartitionId],
        answers: Vec<FenceAnswer>,
        out: &mut Vec<Action>,
    ) {
        for answer in answers {
            let Some(attempt) = self.attempts.get_mut(&answer.partition) else { continue };
            let Ok(raised_to) = attempt.epoch.next() else { continue };
            let Some(row) = view.partition(answer.partition) else { continue };
            if row.epoch != attempt.epoch || answer.fence < raised_to {
                continue;
            }
            if answer.fence > raised_to || answer.last.epoch > attempt.epoch {
                out.push(Action::Page(Page::Ahead {
                    partition: answer.partition,
                    node: node.clone(),
                    fence: answer.fence,
                    last: answer.last,
                }));
                continue;
            }
            attempt.fenced.insert(Replica { node: node.clone(), store: answer.store }, answer.last);
        }
        for partition in asked {
            if let Some(attempt) = self.attempts.get_mut(partition) {
                attempt.outstanding.remove(node);
            }
        }
    }

    /// Nodes that are `unwell` are given nothing: a former home that failed is the most advanced of all.
    pub(super) fn fail_over(
        &mut self,
        now_ms: u64,
        view: &Placement,
        unwell: &BTreeSet<NodeId>,
        out: &mut Vec<Action>,
    ) {
        let is_open = |partition: &PartitionId| {
            view.partition(*partition).is_some_and(|row| row.state == PartitionState::FailingOver)
        };
        self.attempts.retain(|partition, _| is_open(partition));
        self.retry_at_ms.retain(|partition, _| is_open(partition));
        self.stuck.retain(is_open);
        let mut promotions = Vec::new();
        let mut asks = Asks::new();
        let mut is_newly_stuck = false;
        for row in view.partitions().filter(|row| row.state == PartitionState::FailingOver) {
            let partition = row.partition;
            let has_way_on = match self.attempts.get(&partition) {
                Some(attempt) if attempt.is_over(row, now_ms) => {
                    let promotion = attempt.promotion(row, view, unwell);
                    self.attempts.remove(&partition);
                    self.retry_at_ms.insert(partition, now_ms.saturating_add(bounds::FAILOVER_RETRY_MS));
                    promotion.map(|promotion| promotions.push(promotion)).is_some()
                }
                None if self.retry_at_ms.get(&partition).is_none_or(|at_ms| now_ms >= *at_ms) => {
                    self.start(row, now_ms, view, unwell, &mut asks)
                }
                Some(_) | None => true,
            };
            is_newly_stuck |= !has_way_on && self.stuck.insert(partition);
        }
        submit_in_batches(&promotions, Command::Promote, out);
        let asks = asks.into_values();
        out.extend(asks.map(|(node, partitions)| Action::Fence { node: node.clone(), partitions }));
        if is_newly_stuck {
            out.push(Action::Page(Page::Stuck(self.stuck.iter().copied().collect())));
        }
    }

    /// Asks every member that may be promoted; answers whether there is one.
    fn start<'a>(
        &mut self,
        row: &'a PartitionRow,
        now_ms: u64,
        view: &'a Placement,
        unwell: &BTreeSet<NodeId>,
        asks: &mut Asks<'a>,
    ) -> bool {
        let Ok(raised_to) = row.epoch.next() else { return false };
        let mut outstanding = BTreeSet::new();
        for node in candidates(row, view).filter(|node| !unwell.contains(&node.node)) {
            outstanding.insert(node.node.clone());
            asks.entry(&node.node).or_insert((node, Vec::new())).1.push((row.partition, raised_to));
        }
        if outstanding.is_empty() {
            return false;
        }
        let deadline_ms = now_ms.saturating_add(bounds::FENCE_TIMEOUT_MS + DEADLINE_SLACK_MS);
        let attempt = Attempt { epoch: row.epoch, deadline_ms, outstanding, fenced: BTreeMap::new() };
        self.attempts.insert(row.partition, attempt);
        true
    }
}

impl Attempt {
    fn is_over(&self, row: &PartitionRow, now_ms: u64) -> bool {
        self.epoch != row.epoch || self.outstanding.is_empty() || now_ms >= self.deadline_ms
    }

    /// The most advanced of those that were fenced. Among equals one wins whose region is not being drained, then
    /// the preferred region, and then the partitions spread over the nodes.
    fn promotion(
        &self,
        row: &PartitionRow,
        view: &Placement,
        unwell: &BTreeSet<NodeId>,
    ) -> Option<Promotion> {
        if self.epoch != row.epoch {
            return None;
        }
        let (node, last) = candidates(row, view)
            .filter(|node| !unwell.contains(&node.node))
            .filter_map(|node| Some((node, *self.fenced.get(&replica(node))?)))
            .max_by_key(|(node, last)| {
                let partition = row.partition.get().to_be_bytes();
                let weight = rendezvous::weight(&partition, node.node.as_str().as_bytes());
                let is_drained =
                    view.region(&node.region).is_some_and(|it| it.status == RegionStatus::Draining);
                (*last, !is_drained, node.region == row.preferred, weight)
            })?;
        let start_lsn = last.lsn.next().ok()?;
        // It is in sync, and was behind when the epoch that ends began: its history is not the row's.
        if start_lsn < row.start_lsn() {
            return None;
        }
        Some(Promotion { partition: row.partition, epoch: self.epoch, home: boot(node), start_lsn })
    }
}
