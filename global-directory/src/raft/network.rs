//! From this replica to the others.

use super::{
    snapshot::Pages,
    types::{Member, ReplicaId, Snapshot, Types, Vote},
    wire::{self as convert, Addressee},
};
use crate::{bounds, channel};
use openraft::{
    AnyError, OptionalSend, RaftNetwork, RaftNetworkFactory,
    error::{
        Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError,
        Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use parking_lot::Mutex;
use proto::directory::{self as wire, consensus_client::ConsensusClient};
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use types::limits;

type RpcError = RPCError<ReplicaId, Member, RaftError<ReplicaId>>;

/// The connections to the other replicas: one for each, made when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Addresses to dial in place of those that replicas announce.
    dial: Arc<BTreeMap<ReplicaId, String>>,
    channels: Arc<Mutex<BTreeMap<ReplicaId, (String, Channel)>>>,
}

impl Network {
    pub(super) fn new(dial: BTreeMap<ReplicaId, String>) -> Self {
        Self { dial: Arc::new(dial), channels: Arc::default() }
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
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: ReplicaId, member: &Member) -> Link {
        let to = Addressee { replica: target, store: member.store };
        let client = self.client(target, &member.address);
        if let Err(error) = &client {
            tracing::error!(replica = %target, address = member.address, %error, "a replica cannot be reached");
        }
        Link { to, client: client.map_err(|error| error.to_string()) }
    }
}

/// To one replica.
#[derive(Debug)]
pub(crate) struct Link {
    to: Addressee,
    client: Result<ConsensusClient<Channel>, String>,
}

impl Link {
    fn client(&self) -> Result<ConsensusClient<Channel>, Unreachable> {
        let unusable = |why: &String| Unreachable::new(&AnyError::error(why));
        self.client.clone().map_err(|why| unusable(&why))
    }
}

/// Backs off from a replica that fails in any way: what it was sent is sent again, and an entry that it cannot take
/// would be sent without end and without a pause.
fn failed(error: &(impl std::error::Error + 'static)) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<ReplicaId>, RpcError> {
        let message = convert::append_request_to_wire(self.to, &request).map_err(|error| failed(&error))?;
        let bytes: usize = message.entries.iter().map(|entry| entry.len()).sum();
        if bytes > bounds::APPEND_MAX_BYTES && message.entries.len() > 1 {
            return Err(RPCError::PayloadTooLarge(PayloadTooLarge::new_entries_hint(
                (message.entries.len() / 2) as u64,
            )));
        }
        let reply = self.client()?.append(message).await.map_err(|status| failed(&status))?;
        convert::append_reply(reply.into_inner()).map_err(|status| failed(&status))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<ReplicaId>,
        _: RPCOption,
    ) -> Result<VoteResponse<ReplicaId>, RpcError> {
        let message = convert::vote_request_to_wire(self.to, &request);
        let reply = self.client()?.vote(message).await.map_err(|status| failed(&status))?;
        convert::vote_reply(reply.into_inner()).map_err(|status| failed(&status))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<ReplicaId>, StreamingError<Types, Fatal<ReplicaId>>> {
        let mut client = self.client()?;
        let meta = serde_json::to_vec(&snapshot.meta).map_err(|error| NetworkError::new(&error))?;
        let head = wire::SnapshotHead {
            to: Some(self.to.into()),
            vote: Some(convert::vote_to_wire(&vote)),
            meta: meta.into(),
        };
        let (chunks, queue) = mpsc::channel(bounds::SNAPSHOT_QUEUE_MAX);
        tracing::info!(replica = %self.to.replica, snapshot = %snapshot.meta, "a snapshot is sent");
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
