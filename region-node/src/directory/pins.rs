//! Where logs are pinned, asked at the directory each time; what is read at once is read together.
//!
//! A look-up is answered by the nearest replica from what it has: nobody waits for a leader, or for a region far away, to
//! learn where a log may be. When a region is lost, and the directory's leader with it, thousands resume chats that their new
//! node knows nothing of; they do so from its copies, before the directory has a leader again.

use super::{client::Directory, pin_reads::PinReads, tries::NoReply};
use crate::service::Pins;
use async_trait::async_trait;
use bytes::Bytes;
use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::{collections::HashMap, time::Duration};
use tonic::{Status, transport::Channel};
use types::{Code, LogId, Pin, Refusal, RegionId, limits};

/// How long a look-up may take, which the other way of reading a pin comes behind.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// See [`Pins`].
#[derive(Debug, Clone)]
pub struct DirectoryPins {
    directory: Directory,
    reads: PinReads,
    look_ups: PinReads,
}

impl DirectoryPins {
    /// Asks this directory.
    pub fn new(directory: Directory) -> Self {
        Self { directory, reads: PinReads::default(), look_ups: PinReads::default() }
    }

    async fn read(self, logs: Vec<LogId>) -> Result<HashMap<LogId, Pin>, Refusal> {
        let request = get_pins(&logs);
        let ask = |channel| {
            let (mut client, request) = (client(channel), request.clone());
            async move { client.get_pins(request).await }
        };
        pins_of(self.directory.ask(ask).await.map_err(refusal)?.pins)
    }

    /// Asks one replica once.
    async fn read_nearby(self, logs: Vec<LogId>) -> Result<HashMap<LogId, Pin>, Refusal> {
        let request = get_pins(&logs);
        let ask = |mut client: DirectoryClient<Channel>| async move { client.look_up_pins(request).await };
        let reply = self.directory.call_within(LOOK_UP_TIMEOUT, ask).await;
        pins_of(reply.map_err(|status| refused(&status))?.pins)
    }
}

#[async_trait]
impl Pins for DirectoryPins {
    async fn get(&self, log: LogId) -> Result<Option<Pin>, Refusal> {
        let pins = self.clone();
        self.reads.get(log, move |logs| pins.clone().read(logs)).await
    }

    async fn look_up(&self, log: LogId) -> Option<Pin> {
        let pins = self.clone();
        match self.look_ups.get(log, move |logs| pins.clone().read_nearby(logs)).await {
            Ok(pin) => pin,
            Err(why) => {
                tracing::debug!(%log, %why, "a pin cannot be looked up");
                None
            }
        }
    }

    async fn pin(&self, log: LogId, region: &RegionId, allowed_regions: &[RegionId]) -> Result<Pin, Refusal> {
        let request = wire::PinRequest {
            request_id: Bytes::copy_from_slice(host::random::id().as_bytes()),
            wishes: vec![wire::PinWish {
                log: Bytes::copy_from_slice(&log.to_bytes()),
                region: region.to_string(),
                allowed_regions: allowed_regions.iter().map(RegionId::to_string).collect(),
            }],
        };
        let ask = |channel| {
            let (mut client, request) = (client(channel), request.clone());
            async move { client.pin(request).await }
        };
        let pins = self.directory.ask(ask).await.map_err(refusal)?.pins;
        let missing = || Refusal::new(Code::Internal, format!("{log} was pinned nowhere"));
        one(log, pins)?.ok_or_else(missing)
    }
}

fn get_pins(logs: &[LogId]) -> wire::GetPinsRequest {
    let logs = logs.iter().map(|log| Bytes::copy_from_slice(&log.to_bytes())).collect();
    wire::GetPinsRequest { logs }
}

fn one(log: LogId, pins: Vec<wire::Pin>) -> Result<Option<Pin>, Refusal> {
    Ok(pins_of(pins)?.remove(&log))
}

/// The pins by their logs. A pin of no segment is none.
fn pins_of(pins: Vec<wire::Pin>) -> Result<HashMap<LogId, Pin>, Refusal> {
    let malformed = |error| Refusal::new(Code::Internal, format!("a pin of the directory: {error}"));
    let pins = pins.into_iter().map(Pin::try_from).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    Ok(pins.into_iter().filter(|pin| !pin.segments.is_empty()).map(|pin| (pin.log, pin)).collect())
}

fn client(channel: Channel) -> DirectoryClient<Channel> {
    DirectoryClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES * 16)
}

fn refusal(error: NoReply) -> Refusal {
    match error {
        NoReply::Unavailable(refusal) => refusal,
        NoReply::Refused(status) => refused(&status),
    }
}

fn refused(status: &Status) -> Refusal {
    match status.code() {
        tonic::Code::NotFound => Refusal::new(Code::UnknownRegion, status.message()),
        tonic::Code::InvalidArgument => Refusal::new(Code::BadRequest, status.message()),
        tonic::Code::ResourceExhausted => Refusal::new(Code::Overloaded, status.message()),
        // No partition can take the log now.
        _ => Refusal::new(Code::HomeUnavailable, status.message()),
    }
}
