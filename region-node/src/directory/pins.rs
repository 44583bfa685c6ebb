//! Where logs are pinned, asked at the directory each time; what is read at once is read together.

use super::{client::Directory, pin_reads::PinReads, tries::NoReply};
use crate::service::Pins;
use async_trait::async_trait;
use bytes::Bytes;
use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::collections::HashMap;
use tonic::{Status, transport::Channel};
use types::{Code, LogId, Pin, Refusal, RegionId, limits};

/// See [`Pins`].
#[derive(Debug, Clone)]
pub struct DirectoryPins {
    directory: Directory,
    reads: PinReads,
}

impl DirectoryPins {
    /// Asks this directory.
    pub fn new(directory: Directory) -> Self {
        Self { directory, reads: PinReads::default() }
    }

    async fn read(self, logs: Vec<LogId>) -> Result<HashMap<LogId, Pin>, Refusal> {
        let wire_logs = logs.iter().map(|log| Bytes::copy_from_slice(&log.to_bytes())).collect();
        let request = wire::GetPinsRequest { logs: wire_logs };
        let ask = |channel| {
            let (mut client, request) = (client(channel), request.clone());
            async move { client.get_pins(request).await }
        };
        pins_of(self.directory.ask(ask).await.map_err(refusal)?.pins)
    }
}

#[async_trait]
impl Pins for DirectoryPins {
    async fn get(&self, log: LogId) -> Result<Option<Pin>, Refusal> {
        let pins = self.clone();
        self.reads.get(log, move |logs| pins.clone().read(logs)).await
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
