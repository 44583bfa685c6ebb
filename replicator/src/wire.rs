//! The pump's words on the wire.

use crate::pump::{Fetched, Followed, Outcome, Reply, Say};
use proto::{Malformed, node};
use std::time::Duration;
use types::{Epoch, PartitionId, PartitionPosition, Replica, limits};

/// What a home's stream brings.
#[derive(Debug)]
pub(crate) enum FromHome {
    Hello,
    Of(PartitionId, Fetched),
}

/// What a follower's stream brings.
#[derive(Debug)]
pub(crate) enum FromFollower {
    Hello(Option<Replica>),
    Of(PartitionId, Followed),
}

/// A peer's message cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the peer speaks protocol version {theirs}, not {ours}", ours = limits::NODE_PROTOCOL_VERSION)]
    Version { theirs: u32 },
    #[error("a reply without an outcome, for partition {partition}")]
    Empty { partition: u32 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

fn check_version(theirs: u32) -> Result<(), Unusable> {
    if theirs == limits::NODE_PROTOCOL_VERSION { Ok(()) } else { Err(Unusable::Version { theirs }) }
}

fn position(wire: Option<proto::log::PartitionPosition>) -> PartitionPosition {
    wire.map(PartitionPosition::from).unwrap_or_default()
}

fn why(refused: &node::Refused) -> String {
    format!("{}: {}", refused.code, refused.message)
}

pub(crate) fn from_home(wire: node::FetchReply) -> Result<FromHome, Unusable> {
    use node::fetch_reply::Reply as Wire;
    let reply = match wire.reply.ok_or(Unusable::Empty { partition: wire.partition })? {
        Wire::Hello(hello) => {
            check_version(hello.protocol_version)?;
            return Ok(FromHome::Hello);
        }
        Wire::Batch(batch) => Reply::Batch(batch),
        Wire::Diverged(diverged) => Reply::Diverged {
            common: position(diverged.common),
            judged: diverged.last.map(PartitionPosition::from),
        },
        Wire::NotHome(_) => Reply::NotHome,
        Wire::Refused(refused) => Reply::Refused {
            why: why(&refused),
            retry_after: refused.retry_after_ms.map(Duration::from_millis),
        },
    };
    let fetched = Fetched { epoch: Epoch::new(wire.epoch), reply };
    Ok(FromHome::Of(PartitionId::new(wire.partition), fetched))
}

pub(crate) fn from_follower(wire: node::FollowReply) -> Result<FromFollower, Unusable> {
    use node::follow_reply::Outcome as Wire;
    let outcome = match wire.outcome.ok_or(Unusable::Empty { partition: wire.partition })? {
        Wire::Hello(hello) => {
            check_version(hello.protocol_version)?;
            return Ok(FromFollower::Hello(hello.follower.map(Replica::try_from).transpose()?));
        }
        Wire::Done(_) => Outcome::Done,
        Wire::Fenced(_) => Outcome::Fenced,
        Wire::Gap(_) => Outcome::Gap,
        Wire::Refused(refused) => Outcome::Refused {
            why: why(&refused),
            retry_after: refused.retry_after_ms.map(Duration::from_millis),
        },
    };
    let followed = Followed { fence: Epoch::new(wire.fence), last: position(wire.last), outcome };
    Ok(FromFollower::Of(PartitionId::new(wire.partition), followed))
}

pub(crate) fn to_follower(partition: PartitionId, epoch: Epoch, say: Say) -> node::FollowRequest {
    use node::follow_request::Request;
    let request = match say {
        Say::Probe => Request::Probe(node::FollowProbe {}),
        Say::Batch { batch, .. } => Request::Batch(batch),
        Say::Truncate { common, judged } => {
            let (common, last) = (Some(common.into()), Some(judged.into()));
            Request::Diverged(node::FetchDiverged { common, last })
        }
    };
    node::FollowRequest { partition: partition.get(), epoch: epoch.get(), request: Some(request) }
}

pub(crate) fn follow_hello() -> node::FollowRequest {
    let hello = node::FollowHello { protocol_version: limits::NODE_PROTOCOL_VERSION, follower: None };
    node::FollowRequest { request: Some(node::follow_request::Request::Hello(hello)), ..Default::default() }
}
