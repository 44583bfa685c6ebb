//! From the other replicas to this one.

use super::{
    disk::Disk,
    election::Heard,
    identity::{Identity, has_group},
    snapshot::Pairs,
    types::{Member, Raft, ReplicaId, Snapshot, SnapshotMeta},
    wire as convert,
};
use openraft::{
    error::RaftError,
    raft::{AppendEntriesResponse, VoteResponse},
};
use proto::directory::{self as wire, consensus_server::Consensus};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// The `Consensus` service of one replica.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) identity: Identity,
    pub(super) member: Member,
    pub(super) disk: Disk,
    pub(super) raft: Raft,
    pub(super) heard: Arc<Heard>,
    /// Held while a snapshot is taken in.
    pub(super) installing: Arc<tokio::sync::Mutex<()>>,
}

impl Server {
    /// Refuses what was meant for the same name on another disk.
    fn check(&self, to: Option<wire::Addressee>) -> Result<(), Status> {
        let to = convert::addressee(to)?;
        if to.replica == self.identity.replica && to.store == self.identity.store {
            return Ok(());
        }
        tracing::error!(
            replica = %self.identity.replica,
            "the group knows this replica by another disk, whose vote is not here: it takes no part; remove it \
             (hearth admin directory remove), and add a replica with a new id"
        );
        Err(Status::failed_precondition(format!(
            "replica {} on disk {} was meant; this is replica {} on disk {}",
            to.replica, to.store, self.identity.replica, self.identity.store
        )))
    }
}

fn stopped(error: &RaftError<ReplicaId>) -> Status {
    Status::unavailable(error.to_string())
}

#[async_trait::async_trait]
impl Consensus for Server {
    async fn identify(
        &self,
        _: Request<wire::IdentifyRequest>,
    ) -> Result<Response<wire::IdentifyReply>, Status> {
        let has_group = has_group(&self.disk).map_err(|error| crate::status::store(&error))?;
        Ok(Response::new(wire::IdentifyReply {
            replica: self.identity.replica.get(),
            store: self.identity.store.as_bytes().to_vec().into(),
            region: self.member.region.to_string(),
            address: self.member.address.clone(),
            has_group,
        }))
    }

    async fn beat(&self, request: Request<wire::BeatRequest>) -> Result<Response<wire::BeatReply>, Status> {
        let wire::BeatRequest { to, vote } = request.into_inner();
        self.check(to)?;
        let vote = convert::vote(vote)?;
        if vote.is_committed() && vote >= self.raft.server_metrics().borrow().vote {
            self.heard.leader();
        }
        Ok(Response::new(wire::BeatReply {}))
    }

    async fn probe(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        self.check(request.to.clone())?;
        let request = convert::vote_request(request)?;
        let vote = self.raft.server_metrics().borrow().vote;
        let last = self.raft.data_metrics().borrow().last_log;
        let asks = request.vote.leader_id().voted_for().unwrap_or_default();
        let granted = !self.heard.has_leader()
            && request.last_log_id >= last
            && self.heard.gives_way(self.identity.replica, asks, request.last_log_id > last);
        let reply = VoteResponse { vote, vote_granted: granted, last_log_id: last };
        Ok(Response::new(convert::vote_reply_to_wire(&reply)))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        self.check(request.to.clone())?;
        let reply = self.raft.vote(convert::vote_request(request)?).await.map_err(|error| stopped(&error))?;
        Ok(Response::new(convert::vote_reply_to_wire(&reply)))
    }

    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendReply>, Status> {
        let request = request.into_inner();
        self.check(request.to.clone())?;
        let request = convert::append_request(request)?;
        // It speaks now; what it says may take this replica's disk a while.
        if request.vote >= self.raft.server_metrics().borrow().vote {
            self.heard.leader();
        }
        let reply = self.raft.append_entries(request).await.map_err(|error| stopped(&error))?;
        if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
            self.heard.leader();
        }
        Ok(Response::new(convert::append_reply_to_wire(&reply)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        // What is gathered is in memory: one at a time.
        let Ok(_one) = self.installing.try_lock() else {
            return Err(Status::unavailable("another snapshot is under way to this replica"));
        };
        let mut chunks = request.into_inner();
        let mut head = None;
        let mut pairs = Pairs::default();
        let mut is_whole = false;
        while let Some(chunk) = chunks.message().await? {
            match (chunk.head, &head) {
                (Some(found), None) => {
                    self.check(found.to.clone())?;
                    head = Some(found);
                }
                (None, Some(_)) => {}
                (Some(_), Some(_)) => return Err(Status::invalid_argument("a snapshot with two heads")),
                (None, None) => return Err(Status::invalid_argument("a snapshot begins with its head")),
            }
            for row in chunk.rows {
                let pair = (row.key.to_vec(), row.value.to_vec());
                pairs.add(pair).map_err(|error| Status::resource_exhausted(error.to_string()))?;
            }
            is_whole = chunk.last;
            self.heard.leader();
        }
        let Some(head) = head.filter(|_| is_whole) else {
            return Err(Status::invalid_argument("the snapshot was cut off"));
        };
        let meta: SnapshotMeta = serde_json::from_slice(&head.meta)
            .map_err(|error| Status::invalid_argument(format!("field head.meta: {error}")))?;
        let snapshot = Snapshot { meta, snapshot: Box::new(pairs.finish()) };
        let installed = self.raft.install_full_snapshot(convert::vote(head.vote)?, snapshot).await;
        let reply = installed.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::SnapshotReply { vote: Some(convert::vote_to_wire(&reply.vote)) }))
    }
}
