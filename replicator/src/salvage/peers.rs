//! Whom a salvager talks to: the follower, the directory, the homes. Each call is bounded in time.

use super::{
    Reach,
    window::{Addressee, Answer, Offer, Pinned, Step},
};
use crate::{bounds, endpoint::endpoint, feeder::Target};
use bytes::Bytes;
use host::net::Connector;
use proto::{
    Malformed,
    directory::{self, directory_client::DirectoryClient},
    node::{self as wire, salvage_client::SalvageClient},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;
use tonic::transport::Channel;
use types::{LogId, Lsn, NodeId, Pin, Placement, limits};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error("{node} has no address")]
    NoAddress { node: NodeId },
    #[error("store {said} answers for {named}")]
    OtherStore { said: String, named: String },
    #[error("the follower has settled up to {there}, not up to {here}")]
    Elsewhere { here: Lsn, there: Lsn },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<tonic::Status> for PeerError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// See the module.
pub(super) struct Peers {
    target: Target,
    reach: Reach,
    /// Which of the directory's addresses is asked.
    directory: AtomicUsize,
    channels: parking_lot::Mutex<HashMap<String, Channel>>,
}

impl Peers {
    pub(super) fn new(target: Target, reach: Reach) -> Self {
        Self { target, reach, directory: AtomicUsize::new(0), channels: parking_lot::Mutex::default() }
    }

    pub(super) const fn follower(&self) -> &NodeId {
        &self.target.follower.node
    }

    pub(super) fn placement(&self) -> Arc<Placement> {
        Arc::clone(&self.reach.placement.borrow())
    }

    /// The follower's archives that are not settled.
    pub(super) async fn archives(&self) -> Result<Vec<wire::Archive>, PeerError> {
        let mut client = self.salvage_at(&self.target.address)?;
        let request = wire::ArchivesRequest { unsettled_only: true };
        let reply = within(bounds::SALVAGE_TIMEOUT, client.archives(request)).await?;
        let named = self.store();
        if reply.store != named {
            return Err(PeerError::OtherStore {
                said: format!("{:02x?}", reply.store.as_ref()),
                named: self.target.follower.store.to_string(),
            });
        }
        Ok(reply.archives)
    }

    /// A run of an archive's records.
    pub(super) async fn read(&self, archive: u64, from: Lsn) -> Result<Vec<wire::ArchivedRecord>, PeerError> {
        let request = wire::ReadArchiveRequest {
            store: self.store(),
            archive,
            from_lsn: from.get(),
            max_records: bounds::SALVAGE_WINDOW_RECORDS,
        };
        let mut client = self.salvage_at(&self.target.address)?;
        Ok(within(bounds::SALVAGE_TIMEOUT, client.read(request)).await?.records)
    }

    /// Has a step noted.
    pub(super) async fn settle(&self, archive: u64, step: Step) -> Result<(), PeerError> {
        let refused =
            step.refused.into_iter().map(|(lsn, reason)| wire::RefusedEntry { lsn: lsn.get(), reason });
        let request = wire::SettleArchiveRequest {
            store: self.store(),
            archive,
            after_lsn: step.after.get(),
            through_lsn: step.through.get(),
            salvaged: step.salvaged,
            refused: refused.collect(),
        };
        let mut client = self.salvage_at(&self.target.address)?;
        let there = Lsn::new(within(bounds::SALVAGE_TIMEOUT, client.settle(request)).await?.settled_lsn);
        if there == step.through { Ok(()) } else { Err(PeerError::Elsewhere { here: step.through, there }) }
    }

    /// Where logs are pinned, read linearizably.
    pub(super) async fn pins(&self, logs: BTreeSet<LogId>) -> Result<HashMap<LogId, Pinned>, PeerError> {
        let logs: Vec<LogId> = logs.into_iter().collect();
        let mut pins = HashMap::with_capacity(logs.len());
        for some in logs.chunks(limits::PIN_BATCH_MAX) {
            let bytes = some.iter().map(|log| Bytes::copy_from_slice(&log.to_bytes())).collect();
            let asked = self.get_pins(directory::GetPinsRequest { logs: bytes }).await;
            if asked.is_err() {
                self.directory.fetch_add(1, Ordering::Relaxed);
            }
            for pin in asked?.pins {
                let pin = Pin::try_from(pin)?;
                pins.insert(pin.log, pin.current().map_or(Pinned::Nowhere, |segment| Pinned::To(*segment)));
            }
        }
        Ok(pins)
    }

    async fn get_pins(
        &self,
        request: directory::GetPinsRequest,
    ) -> Result<directory::GetPinsReply, PeerError> {
        let addresses = &self.reach.directory;
        let address = &addresses[self.directory.load(Ordering::Relaxed) % addresses.len()];
        let mut client = DirectoryClient::new(self.channel(address)?)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
        within(bounds::SALVAGE_TIMEOUT, client.get_pins(request)).await
    }

    /// Offers entries to their home; an answer for each, in their order.
    pub(super) async fn offer(&self, to: &Addressee, offers: Vec<Offer>) -> Result<Vec<Answer>, PeerError> {
        let placement = self.placement();
        let address = self.reach.dial.get(&to.home).cloned();
        let address = address.or_else(|| placement.node(&to.home).map(|row| row.address.clone()));
        let address = address.ok_or_else(|| PeerError::NoAddress { node: to.home.clone() })?;
        let request = wire::SalvageRequest {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            partition: to.partition.get(),
            deadline_ms: u32::try_from(bounds::SALVAGE_PATIENCE.as_millis()).unwrap_or(u32::MAX),
            offers: offers.into_iter().map(|offer| offer.offer).collect(),
        };
        let mut client = self.salvage_at(&address)?;
        let patience = bounds::SALVAGE_PATIENCE + bounds::SALVAGE_TIMEOUT;
        let reply = within(patience, client.offer(request)).await?;
        Ok(reply.outcomes.into_iter().map(Answer::from).collect())
    }

    fn store(&self) -> Bytes {
        Bytes::copy_from_slice(self.target.follower.store.as_bytes())
    }

    fn salvage_at(&self, address: &str) -> Result<SalvageClient<Channel>, PeerError> {
        Ok(SalvageClient::new(self.channel(address)?)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES))
    }

    /// A connection that is made when it is first used, and again after it broke.
    fn channel(&self, address: &str) -> Result<Channel, PeerError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let channel = endpoint(address)?.connect_with_connector_lazy(Connector);
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, PeerError> {
    match timeout(patience, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(PeerError::Timeout(patience)),
    }
}
