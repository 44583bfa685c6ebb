//! The connection to the directory: several addresses, one of which is asked until it does not answer.

use host::net::Connector;
use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
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

/// The directory, as a node reaches it. Cheap to clone; connects when first used.
#[derive(Debug, Clone)]
pub struct Directory {
    channels: Arc<[Channel]>,
    preferred: Arc<AtomicUsize>,
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
        Ok(Self { channels, preferred: Arc::default() })
    }

    /// A client of the address that answered last, and which one that is.
    pub(super) fn client(&self) -> (DirectoryClient<Channel>, usize) {
        let at = self.preferred.load(Ordering::Relaxed);
        let channel = self.channels[at % self.channels.len()].clone();
        let client =
            DirectoryClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES * 16);
        (client, at)
    }

    /// The address `at` did not answer: the next one is asked from now on.
    pub(super) fn turn_from(&self, at: usize) {
        let _ = self.preferred.compare_exchange(at, at.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes one call, bounded in time.
    pub(super) async fn call<T, F>(
        &self,
        call: impl FnOnce(DirectoryClient<Channel>) -> F + Send,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let (client, at) = self.client();
        let answer = tokio::time::timeout(CALL_TIMEOUT, call(client)).await;
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
