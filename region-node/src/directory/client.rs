//! The connection to the directory: the addresses of its replicas, the nearest first, one of which is asked until
//! it does not answer. Any replica takes any request. After a while the nearest one is tried again.

use host::net::Connector;
use parking_lot::Mutex;
use proto::directory::{self as wire, directory_client::DirectoryClient, homes_client::HomesClient};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::Instant;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use types::limits;

/// How long a call may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A dead connection is found out within this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// For how long another replica than the nearest one is asked before that is tried again.
const NEAREST_AGAIN: Duration = Duration::from_secs(30);

/// The directory, as a node reaches it. Cheap to clone; connects when first used.
#[derive(Debug, Clone)]
pub struct Directory {
    channels: Arc<[Channel]>,
    turns: Arc<Mutex<Turns>>,
}

/// Whose turn it is. Pure.
#[derive(Debug, Default)]
struct Turns {
    /// Counts up; the remainder by the number of replicas is the one to ask.
    at: usize,
    since: Option<Instant>,
}

impl Turns {
    fn now(&mut self, replicas: usize, now: Instant) -> usize {
        if self.since.is_some_and(|since| now.duration_since(since) >= NEAREST_AGAIN) {
            self.at = self.at.next_multiple_of(replicas);
            self.since = None;
        }
        self.at
    }

    /// Several that asked the same one in vain turn from it once.
    fn turn_from(&mut self, at: usize, now: Instant) {
        if self.at == at {
            self.at += 1;
            self.since = Some(now);
        }
    }
}

impl Directory {
    /// Names the directory's addresses, `http://host:port`.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(addresses: &[String]) -> Result<Self, tonic::transport::Error> {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(address.clone())?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            Ok(endpoint.connect_with_connector_lazy(Connector))
        };
        let channels = addresses.iter().map(channel).collect::<Result<_, _>>()?;
        Ok(Self { channels, turns: Arc::default() })
    }

    /// A client of the address that answered last, and which one that is.
    pub(super) fn client(&self) -> (DirectoryClient<Channel>, usize) {
        let (channel, at) = self.channel();
        let client =
            DirectoryClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES * 16);
        (client, at)
    }

    /// A client of one of the addresses, whoever's turn it is.
    pub(super) fn client_of(&self, replica: usize) -> DirectoryClient<Channel> {
        let channel = self.channels[replica % self.channels.len()].clone();
        DirectoryClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES * 16)
    }

    fn homes_client(&self) -> (HomesClient<Channel>, usize) {
        let (channel, at) = self.channel();
        (HomesClient::new(channel), at)
    }

    fn channel(&self) -> (Channel, usize) {
        let at = self.turns.lock().now(self.channels.len(), Instant::now());
        (self.channels[at % self.channels.len()].clone(), at)
    }

    /// The address `at` did not answer: the next one is asked from now on.
    pub(super) fn turn_from(&self, at: usize) {
        self.turns.lock().turn_from(at, Instant::now());
    }

    /// How many replicas can be asked.
    pub(super) fn replicas(&self) -> usize {
        self.channels.len()
    }

    /// Makes one call, bounded in time.
    pub(super) async fn call<T, F>(
        &self,
        call: impl FnOnce(DirectoryClient<Channel>) -> F + Send,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.call_within(CALL_TIMEOUT, call).await
    }

    /// Makes one call at the address that answered last, bounded in time, by whatever client of it.
    pub(super) async fn call_on<T, F>(&self, call: impl FnOnce(Channel) -> F + Send) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let (channel, at) = self.channel();
        self.answer(at, CALL_TIMEOUT, call(channel)).await
    }

    /// Makes one call that is worth `patience`.
    pub(super) async fn call_within<T, F>(
        &self,
        patience: Duration,
        call: impl FnOnce(DirectoryClient<Channel>) -> F + Send,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let (client, at) = self.client();
        self.answer(at, patience, call(client)).await
    }

    /// Waits for the answer of the address `at`.
    async fn answer<T>(
        &self,
        at: usize,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<T, Status> {
        let answer = tokio::time::timeout(patience, call).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the directory did not answer")));
        if let Err(status) = &answer
            && !is_answer(status)
        {
            self.turn_from(at);
        }
        answer.map(Response::into_inner)
    }

    /// Proposes an in-sync set. Repeating a request id is safe.
    ///
    /// # Errors
    /// [`is_answer`] tells a refusal from an unknown outcome.
    pub async fn propose_isr(&self, request: wire::ProposeIsrRequest) -> Result<u64, Status> {
        let reply = self.call(|mut client| async move { client.propose_isr(request).await }).await?;
        Ok(reply.isr_version)
    }

    /// Tells that this node is about to end.
    ///
    /// # Errors
    /// Nobody has answered in time, or the boot is over already.
    pub(super) async fn leave(
        &self,
        request: wire::LeaveRequest,
        patience: Duration,
    ) -> Result<wire::LeaveReply, Status> {
        let (mut client, at) = self.homes_client();
        self.answer(at, patience, async move { client.leave(request).await }).await
    }

    /// Tells where a log is written from.
    ///
    /// # Errors
    /// Nobody has answered, or what was asked makes no sense.
    pub async fn follow(&self, request: wire::FollowRequest) -> Result<wire::FollowReply, Status> {
        let (mut client, at) = self.homes_client();
        self.answer(at, CALL_TIMEOUT, async move { client.follow(request).await }).await
    }
}

/// Whether a status is the directory's own refusal, and not a failure on the way to it or back.
pub(crate) fn is_answer(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Aborted
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::ResourceExhausted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_replica_is_asked_when_one_is_silent_and_the_nearest_again_after_a_while() {
        let (start, mut turns) = (Instant::now(), Turns::default());
        assert_eq!(turns.now(3, start), 0);
        turns.turn_from(0, start);
        turns.turn_from(0, start);
        assert_eq!(turns.now(3, start), 1, "two that gave up on the same one turn once");
        turns.turn_from(1, start);
        assert_eq!(turns.now(3, start + NEAREST_AGAIN / 2) % 3, 2);
        assert_eq!(turns.now(3, start + NEAREST_AGAIN) % 3, 0);
        turns.turn_from(3, start + NEAREST_AGAIN);
        assert_eq!(turns.now(3, start + NEAREST_AGAIN) % 3, 1, "it is still silent");
    }
}
