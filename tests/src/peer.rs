//! A peer of a node: what it asks of the home there is forwarded by nobody, so each answer is the home's own.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use proto::{
    client as wire,
    directory::PinSegment,
    log::{AckPolicy, Deleted, Message},
    node::{
        Append, PeerHello, PeerReply, PeerRequest, append::Body, node_client::NodeClient, peer_reply::Reply,
        peer_request::Request,
    },
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use types::limits;
use uuid::Uuid;

use crate::placing::log_id;

/// Requests that wait to be written.
const REQUESTS_MAX: usize = 1_024;

/// A stream to one node.
#[derive(Debug)]
pub struct Peer {
    requests: mpsc::Sender<PeerRequest>,
    replies: Streaming<PeerReply>,
}

impl Peer {
    /// Opens a stream to the node at `http`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn open(http: String) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let hello = PeerHello {
            protocol_version: limits::NODE_PROTOCOL_VERSION,
            node: "a-test".to_owned(),
            ..PeerHello::default()
        };
        requests.send(PeerRequest { request_id: 0, request: Some(Request::Hello(hello)) }).await?;
        let mut client = NodeClient::connect(http).await?;
        let replies = client.peer(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut peer = Self { requests, replies };
        match peer.replies.message().await?.context("the stream ended")?.reply {
            Some(Reply::Hello(_)) => Ok(peer),
            other => bail!("hello was answered by {other:?}"),
        }
    }

    /// Asks the home at the node to append a user's message, and to ack it at `home`.
    ///
    /// # Errors
    /// The stream is over, or the message has no proper id.
    pub async fn append(
        &self,
        request_id: u64,
        pin: &PinSegment,
        sender: &str,
        message: &wire::Send,
    ) -> anyhow::Result<()> {
        let body = Body::Message(Message { ciphertext: message.ciphertext.clone() });
        self.write(request_id, pin, sender, message, body, AckPolicy::Home).await
    }

    /// Asks the home at the node to delete what stands at these offsets, under the id of a message.
    ///
    /// # Errors
    /// The stream is over, or the message has no proper id.
    pub async fn delete(
        &self,
        request_id: u64,
        pin: &PinSegment,
        sender: &str,
        message: &wire::Send,
        offsets: Vec<u64>,
    ) -> anyhow::Result<()> {
        let body = Body::Deleted(Deleted { offsets });
        self.write(request_id, pin, sender, message, body, AckPolicy::Replicated).await
    }

    async fn write(
        &self,
        request_id: u64,
        pin: &PinSegment,
        sender: &str,
        message: &wire::Send,
        body: Body,
        ack: AckPolicy,
    ) -> anyhow::Result<()> {
        let append = Append {
            log: Bytes::copy_from_slice(&log_id(&message.log).to_bytes()),
            partition: pin.partition,
            generation: pin.generation,
            epoch_hint: 1,
            sender: sender.to_owned(),
            device: 1,
            message_id: Bytes::copy_from_slice(Uuid::parse_str(&message.message_id)?.as_bytes()),
            body: Some(body),
            ack: ack.into(),
            deadline_ms: message.deadline_ms,
            ..Append::default()
        };
        let request = PeerRequest { request_id, request: Some(Request::Append(append)) };
        Ok(self.requests.send(request).await?)
    }

    /// Whether nothing is answered for so long.
    ///
    /// # Errors
    /// The stream ends, or there is an answer.
    pub async fn hears_nothing(&mut self, quiet: Duration) -> anyhow::Result<()> {
        match timeout(quiet, self.replies.message()).await {
            Err(_) => Ok(()),
            Ok(answer) => bail!("{:?} came", answer?),
        }
    }

    /// The next `count` answers.
    ///
    /// # Errors
    /// The stream ends, or the time is over.
    pub async fn answers(&mut self, count: usize, patience: Duration) -> anyhow::Result<Vec<Reply>> {
        let mut answers = Vec::new();
        let reading = async {
            while answers.len() < count {
                let answer = self.replies.message().await?.context("the stream ended")?;
                answers.extend(answer.reply);
            }
            anyhow::Ok(())
        };
        match timeout(patience, reading).await {
            Ok(outcome) => outcome.map(|()| answers),
            Err(_) => bail!("{} of {count} answers within {patience:?}", answers.len()),
        }
    }
}
