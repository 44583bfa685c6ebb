//! Where logs are pinned, asked at the directory each time; what is read at once is read together.

use super::{
    client::{Directory, is_answer},
    pin_reads::PinReads,
};
use crate::service::Pins;
use async_trait::async_trait;
use bytes::Bytes;
use proto::directory as wire;
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, sleep};
use tonic::Status;
use types::{Code, LogId, Pin, Refusal, RegionId};

/// How often a call that got no answer is repeated at once, at each replica of the directory.
const TRIES: usize = 3;
/// The pause in which several replicas may agree on a leader.
const AGAIN: Duration = Duration::from_millis(200);
/// After this long it is not repeated any more.
const PATIENCE: Duration = Duration::from_secs(3);

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
        let mut last = None;
        let mut tries = self.tries();
        while tries.next().await {
            let request = request.clone();
            match self.directory.call(|mut client| async move { client.get_pins(request).await }).await {
                Ok(reply) => return pins_of(reply.pins),
                Err(status) if is_answer(&status) => return Err(refused(&status)),
                Err(status) => last = Some(status),
            }
        }
        Err(unavailable(last.as_ref()))
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
        let mut last = None;
        let mut tries = self.tries();
        while tries.next().await {
            let request = request.clone();
            match self.directory.call(|mut client| async move { client.pin(request).await }).await {
                Ok(reply) => {
                    let missing = || Refusal::new(Code::Internal, format!("{log} was pinned nowhere"));
                    return one(log, reply.pins)?.ok_or_else(missing);
                }
                Err(status) if is_answer(&status) => return Err(refused(&status)),
                Err(status) => last = Some(status),
            }
        }
        Err(unavailable(last.as_ref()))
    }
}

/// Counts tries, and waits between them where another replica may answer the next one.
struct Tries {
    left: usize,
    pause: Option<Duration>,
    until: Instant,
    is_first: bool,
}

impl Tries {
    async fn next(&mut self) -> bool {
        if self.left == 0 || (!self.is_first && Instant::now() >= self.until) {
            return false;
        }
        if let Some(pause) = self.pause.filter(|_| !self.is_first) {
            sleep(pause).await;
        }
        self.left -= 1;
        self.is_first = false;
        true
    }
}

impl DirectoryPins {
    fn tries(&self) -> Tries {
        let replicas = self.directory.replicas();
        Tries {
            left: TRIES * if replicas > 1 { 2 * replicas } else { 1 },
            pause: (replicas > 1).then_some(AGAIN),
            until: Instant::now() + PATIENCE,
            is_first: true,
        }
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

fn refused(status: &Status) -> Refusal {
    match status.code() {
        tonic::Code::NotFound => Refusal::new(Code::UnknownRegion, status.message()),
        tonic::Code::InvalidArgument => Refusal::new(Code::BadRequest, status.message()),
        tonic::Code::ResourceExhausted => Refusal::new(Code::Overloaded, status.message()),
        // No partition can take the log now.
        _ => Refusal::new(Code::HomeUnavailable, status.message()),
    }
}

fn unavailable(status: Option<&Status>) -> Refusal {
    let why = status.map_or("no answer", Status::message);
    Refusal::new(Code::DirectoryUnavailable, format!("the directory cannot be reached: {why}"))
        .retry_after_ms(1_000)
}
