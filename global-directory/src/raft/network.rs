//! From this replica to the others.

use super::{
    lane::{Fresh, Heard, Lane},
    snapshot::Pages,
    types::{Member, ReplicaId, Snapshot, Types, Vote},
    wire::{self as convert, Addressee},
};
use crate::{bounds, channel};
use openraft::{
    OptionalSend, RaftNetwork, RaftNetworkFactory,
    error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use parking_lot::Mutex;
use proto::directory::{self as wire, consensus_client::ConsensusClient};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use types::limits;

pub(super) type Failed = RPCError<ReplicaId, Member, RaftError<ReplicaId>>;

type Lanes = BTreeMap<ReplicaId, (String, Weak<Lane>)>;

/// The connections to the other replicas: one for each, made when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Addresses to dial in place of those that replicas announce.
    dial: Arc<BTreeMap<ReplicaId, String>>,
    channels: Arc<Mutex<BTreeMap<ReplicaId, (String, Channel)>>>,
    /// To those whom the library sends something now, with the address that each announces.
    lanes: Arc<Mutex<Lanes>>,
    heard: Heard,
}

impl Network {
    pub(super) fn new(dial: BTreeMap<ReplicaId, String>) -> Self {
        Self {
            dial: Arc::new(dial),
            channels: Arc::default(),
            lanes: Arc::default(),
            heard: Heard::default(),
        }
    }

    /// The connection to a replica that announces `address`.
    pub(crate) fn channel(
        &self,
        replica: ReplicaId,
        address: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        let address = self.dial.get(&replica).map_or(address, String::as_str);
        let mut channels = self.channels.lock();
        if let Some((known, channel)) = channels.get(&replica)
            && known == address
        {
            return Ok(channel.clone());
        }
        let channel = channel::to(address)?;
        channels.insert(replica, (address.to_owned(), channel.clone()));
        Ok(channel)
    }

    pub(super) fn client(
        &self,
        replica: ReplicaId,
        address: &str,
    ) -> Result<ConsensusClient<Channel>, tonic::transport::Error> {
        Ok(ConsensusClient::new(self.channel(replica, address)?)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES))
    }

    /// Sends what has just become durable at `own` to all whom the library sends something as `own` leads them.
    pub(super) fn go_ahead(&self, own: ReplicaId, fresh: &Fresh) {
        let lanes: Vec<Arc<Lane>> =
            self.lanes.lock().values().filter_map(|(_, lane)| lane.upgrade()).collect();
        for lane in lanes {
            lane.go_ahead(own, fresh);
        }
    }

    /// When the newest message left that a replica has answered to this leader.
    pub(super) fn heard(&self, replica: ReplicaId, leader: &Vote) -> Option<Instant> {
        self.heard.lock().get(&replica).filter(|(vote, _)| vote == leader).map(|(_, left)| *left)
    }

    fn lane(&self, target: ReplicaId, member: &Member) -> Arc<Lane> {
        let to = Addressee { replica: target, store: member.store };
        let mut lanes = self.lanes.lock();
        if let Some((address, lane)) = lanes.get(&target)
            && *address == member.address
            && let Some(lane) = lane.upgrade().filter(|lane| lane.to() == to)
        {
            return lane;
        }
        let client = self.client(target, &member.address);
        if let Err(error) = &client {
            tracing::error!(replica = %target, address = member.address, %error, "a replica cannot be reached");
        }
        let lane = Arc::new(Lane::new(to, client.map_err(|error| error.to_string()), self.heard.clone()));
        lanes.retain(|_, (_, lane)| lane.strong_count() > 0);
        lanes.insert(target, (member.address.clone(), Arc::downgrade(&lane)));
        lane
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: ReplicaId, member: &Member) -> Link {
        Link { lane: self.lane(target, member), is_new: true }
    }
}

/// To one replica.
#[derive(Debug)]
pub(crate) struct Link {
    lane: Arc<Lane>,
    is_new: bool,
}

/// Backs off from a replica that fails in any way: what it was sent is sent again, and an entry that it cannot take
/// would be sent without end and without a pause.
pub(super) fn failed(error: &(impl std::error::Error + 'static)) -> Failed {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<ReplicaId>, Failed> {
        let is_new = std::mem::replace(&mut self.is_new, false);
        self.lane.append(request, is_new).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<ReplicaId>,
        _: RPCOption,
    ) -> Result<VoteResponse<ReplicaId>, Failed> {
        let message = convert::vote_request_to_wire(self.lane.to(), &request);
        let reply = self.lane.client()?.vote(message).await.map_err(|status| failed(&status))?;
        convert::vote_reply(reply.into_inner()).map_err(|status| failed(&status))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<ReplicaId>, StreamingError<Types, Fatal<ReplicaId>>> {
        let mut client = self.lane.client()?;
        let meta = serde_json::to_vec(&snapshot.meta).map_err(|error| NetworkError::new(&error))?;
        let head = wire::SnapshotHead {
            to: Some(self.lane.to().into()),
            vote: Some(convert::vote_to_wire(&vote)),
            meta: meta.into(),
        };
        let (chunks, queue) = mpsc::channel(bounds::SNAPSHOT_QUEUE_MAX);
        tracing::info!(replica = %self.lane.to().replica, snapshot = %snapshot.meta, "a snapshot is sent");
        let reading = tokio::spawn(read_chunks(head, Pages::new(*snapshot.snapshot), chunks));
        let sent = tokio::select! {
            closed = cancel => {
                reading.abort();
                return Err(closed.into());
            }
            sent = client.install_snapshot(ReceiverStream::new(queue)) => sent,
        };
        match sent {
            Ok(reply) => {
                let vote =
                    convert::vote(reply.into_inner().vote).map_err(|status| NetworkError::new(&status))?;
                Ok(SnapshotResponse::new(vote))
            }
            Err(status) => Err(Unreachable::new(&status).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(bounds::REPLICA_RETRY_MS)))
    }
}

/// Reads pages as fast as they are sent. One that cannot be read ends the stream early, and an early end is
/// refused by the receiver.
async fn read_chunks(head: wire::SnapshotHead, mut pages: Pages, chunks: mpsc::Sender<wire::SnapshotChunk>) {
    let mut head = Some(head);
    loop {
        let (rows, is_last) = match pages.next() {
            Ok(Some(rows)) => (rows, false),
            Ok(None) => (Vec::new(), true),
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be read");
                return;
            }
        };
        let rows = rows.into_iter();
        let rows = rows.map(|(key, value)| wire::SnapshotRow { key: key.into(), value: value.into() });
        let chunk = wire::SnapshotChunk { head: head.take(), rows: rows.collect(), last: is_last };
        if chunks.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}
