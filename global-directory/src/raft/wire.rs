//! Between the library's types and the messages of `raft.proto`.

use super::types::{Entry, LogId, ReplicaId, Types, Vote};
use crate::rows::{decode, encode};
use openraft::{
    CommittedLeaderId,
    raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse},
};
use proto::{
    Malformed,
    directory::{self as wire, append_reply::Outcome},
};
use tonic::Status;
use types::StoreId;

/// For whom a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addressee {
    pub(super) replica: ReplicaId,
    pub(super) store: StoreId,
}

impl From<Addressee> for wire::Addressee {
    fn from(to: Addressee) -> Self {
        Self { replica: to.replica.get(), store: to.store.as_bytes().to_vec().into() }
    }
}

/// Reads for whom a message is.
pub(super) fn addressee(to: Option<wire::Addressee>) -> Result<Addressee, Status> {
    let to = to.ok_or_else(|| missing("to"))?;
    Ok(Addressee { replica: ReplicaId::new(to.replica), store: store("to.store", &to.store)? })
}

pub(super) fn store(field: &'static str, bytes: &[u8]) -> Result<StoreId, Status> {
    proto::store_id(field, bytes).map_err(|error| crate::status::malformed(&error))
}

fn missing(field: &'static str) -> Status {
    crate::status::malformed(&Malformed::Missing { field })
}

pub(super) const fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, replica: vote.leader_id.node_id.get(), committed: vote.committed }
}

pub(super) fn vote(vote: Option<wire::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| missing("vote"))?;
    let replica = ReplicaId::new(vote.replica);
    Ok(if vote.committed { Vote::new_committed(vote.term, replica) } else { Vote::new(vote.term, replica) })
}

pub(super) const fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, replica: id.leader_id.node_id.get(), index: id.index }
}

pub(super) fn log_id(id: wire::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, ReplicaId::new(id.replica)), id.index)
}

pub(super) fn beat_to_wire(to: Addressee, vote: &Vote) -> wire::BeatRequest {
    wire::BeatRequest { to: Some(to.into()), vote: Some(vote_to_wire(vote)) }
}

pub(super) fn vote_request_to_wire(to: Addressee, request: &VoteRequest<ReplicaId>) -> wire::VoteRequest {
    wire::VoteRequest {
        to: Some(to.into()),
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(super) fn vote_request(request: wire::VoteRequest) -> Result<VoteRequest<ReplicaId>, Status> {
    Ok(VoteRequest { vote: vote(request.vote)?, last_log_id: request.last.map(log_id) })
}

pub(super) fn vote_reply_to_wire(reply: &VoteResponse<ReplicaId>) -> wire::VoteReply {
    wire::VoteReply {
        vote: Some(vote_to_wire(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(log_id_to_wire),
    }
}

pub(super) fn vote_reply(reply: wire::VoteReply) -> Result<VoteResponse<ReplicaId>, Status> {
    Ok(VoteResponse {
        vote: vote(reply.vote)?,
        vote_granted: reply.granted,
        last_log_id: reply.last.map(log_id),
    })
}

pub(super) fn append_request_to_wire(
    to: Addressee,
    request: &AppendEntriesRequest<Types>,
) -> Result<wire::AppendRequest, crate::kv::Error> {
    let entries = request.entries.iter().map(|entry| Ok(encode(entry)?.into()));
    Ok(wire::AppendRequest {
        to: Some(to.into()),
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_wire),
        committed: request.leader_commit.as_ref().map(log_id_to_wire),
        entries: entries.collect::<Result<_, crate::kv::Error>>()?,
    })
}

pub(super) fn append_request(request: wire::AppendRequest) -> Result<AppendEntriesRequest<Types>, Status> {
    let entries = request.entries.iter().map(|bytes| {
        decode::<Entry>(b"entry", bytes).map_err(|error| Status::invalid_argument(error.to_string()))
    });
    Ok(AppendEntriesRequest {
        vote: vote(request.vote)?,
        prev_log_id: request.previous.map(log_id),
        leader_commit: request.committed.map(log_id),
        entries: entries.collect::<Result<_, Status>>()?,
    })
}

pub(super) fn append_reply_to_wire(reply: &AppendEntriesResponse<ReplicaId>) -> wire::AppendReply {
    let (outcome, matched, higher) = match reply {
        AppendEntriesResponse::Success => (Outcome::Success, None, None),
        AppendEntriesResponse::PartialSuccess(matched) => (Outcome::Partial, matched.as_ref(), None),
        AppendEntriesResponse::Conflict => (Outcome::Conflict, None, None),
        AppendEntriesResponse::HigherVote(vote) => (Outcome::HigherVote, None, Some(vote)),
    };
    wire::AppendReply {
        outcome: outcome.into(),
        matched: matched.map(log_id_to_wire),
        higher: higher.map(vote_to_wire),
    }
}

pub(super) fn append_reply(reply: wire::AppendReply) -> Result<AppendEntriesResponse<ReplicaId>, Status> {
    Ok(match reply.outcome() {
        Outcome::Success => AppendEntriesResponse::Success,
        Outcome::Partial => AppendEntriesResponse::PartialSuccess(reply.matched.map(log_id)),
        Outcome::Conflict => AppendEntriesResponse::Conflict,
        Outcome::HigherVote => AppendEntriesResponse::HigherVote(vote(reply.higher)?),
        Outcome::Unspecified => return Err(missing("outcome")),
    })
}
