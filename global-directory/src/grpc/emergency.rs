//! What operators answer for. On the way to an unsafe promotion the copy is fenced first, like that of any promotion.

use crate::{
    command::{EmergencyError, UnsafePromotion},
    controller::Input,
    engine::SubmitError,
    fence,
    state::State,
    status,
};
use proto::directory as wire;
use std::collections::BTreeMap;
use tonic::Status;
use types::{Home, NodeId, PartitionId, PartitionRow, PartitionState, RegionId, Replica};

/// Fences a node's copy of a partition at the next epoch; answers the promotion that it makes possible. A partition
/// that has a home is left alone: a fence above its epoch would end that home, or cut a follower off from it.
pub(super) async fn fenced(
    state: &State,
    dial: &BTreeMap<NodeId, String>,
    partition: PartitionId,
    node: &NodeId,
    by: String,
) -> Result<UnsafePromotion, Status> {
    let known = state.look(|view, _| (view.partition(partition).cloned(), view.node(node).cloned()));
    let (Some(row), Some(node)) = known else {
        return Err(Status::not_found(format!("there is no partition {partition}, or no node {node}")));
    };
    check(&row, node.node.clone())?;
    let epoch = row.epoch;
    let raised = epoch.next().map_err(|error| Status::failed_precondition(error.to_string()))?;
    let address = dial.get(&node.node).unwrap_or(&node.address).clone();
    let fenced = fence::raise(node.node.clone(), address, vec![(partition, raised)]).await;
    let unfenced = |why: String| Status::unavailable(format!("{} could not be fenced: {why}", node.node));
    let Input::Fenced { answers, .. } = fenced else { return Err(unfenced("it did not answer".to_owned())) };
    let answer = answers.into_iter().next().ok_or_else(|| unfenced("it did not answer".to_owned()))?;
    if answer.fence != raised {
        return Err(unfenced(format!("it obeys epoch {}, not {raised}", answer.fence)));
    }
    let start_lsn = answer.last.lsn.next().map_err(|error| Status::failed_precondition(error.to_string()))?;
    let home = Home { node: node.node.clone(), incarnation: node.incarnation };
    let replica = Replica { node: node.node, store: answer.store };
    Ok(UnsafePromotion { partition, epoch, home, replica, start_lsn, by })
}

/// What a repetition is told: where the partition is now.
pub(super) fn promoted_before(
    state: &State,
    partition: PartitionId,
) -> Result<wire::PromoteUnsafeReply, Status> {
    let row = state.look(|view, _| view.partition(partition).cloned());
    let row = row.ok_or_else(|| Status::not_found(format!("there is no partition {partition}")))?;
    Ok(wire::PromoteUnsafeReply { epoch: row.epoch.get(), start_lsn: row.start_lsn().get() })
}

fn refused(error: EmergencyError) -> Status {
    status::submit(&SubmitError::Refused(error.into()))
}

fn check(row: &PartitionRow, node: NodeId) -> Result<(), Status> {
    let partition = row.partition;
    if row.state != PartitionState::FailingOver {
        let at = row.home.as_ref().map_or_else(String::new, |home| format!(" at {}", home.node));
        let why = format!(
            "it is {:?} in epoch {}{at}; if that node is lost, hearth admin fail-over REGION ends its homes first",
            row.state, row.epoch
        );
        return Err(refused(EmergencyError::NotStuck { partition, why }));
    }
    if !row.replicas.iter().any(|replica| replica.node == node) {
        let (node, why) = (node.to_string(), "has no copy of it");
        return Err(refused(EmergencyError::NoCopy { partition, node, why }));
    }
    Ok(())
}

pub(super) fn promoted(promotion: &UnsafePromotion) -> wire::PromoteUnsafeReply {
    wire::PromoteUnsafeReply { epoch: promotion.epoch.plus(1).get(), start_lsn: promotion.start_lsn.get() }
}

/// Whether a region may be failed over: not while it is heard, unless the operator has said so.
pub(super) fn check_is_silent(
    state: &State,
    region: &RegionId,
    silence_ms: u64,
    now_ms: u64,
) -> Result<(), Status> {
    let heard = state.look(|view, leases| {
        let live = view.nodes().filter(|node| node.live && node.region == *region);
        let mut ages = live.filter_map(|node| {
            let home = Home { node: node.node.clone(), incarnation: node.incarnation };
            Some((leases.silent_ms(&home, now_ms)?, home.node))
        });
        ages.find(|(silent_ms, _)| *silent_ms < silence_ms)
    });
    match heard {
        None => Ok(()),
        Some((silent_ms, node)) => Err(Status::failed_precondition(format!(
            "region {region} is heard: node {node} has renewed {silent_ms} ms ago, and would lose its homes; \
             --even-if-heard takes them away even so"
        ))),
    }
}
