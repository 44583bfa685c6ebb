//! Connections that are opened anew for ever: one to the follower, one to each home.
//!
//! A link carries messages between an outbox, the wire and the feeder's inbox, and decides nothing. What
//! has arrived goes into the inbox in one piece. A full inbox stops the link from reading, and so HTTP/2
//! from granting more.

use crate::{
    backoff::Backoff,
    bounds,
    endpoint::endpoint,
    meters,
    outbox::{Reports, Sayings},
    pump::{Fetched, Followed},
    wire::{self, FromFollower, FromHome, Unusable},
};
use futures_util::StreamExt as _;
use host::net::Connector;
use proto::{
    node::{self, node_client::NodeClient},
    outbox::{Outbox, Outgoing, outbox},
};
use std::convert::Infallible;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Streaming, transport::Channel};
use types::{NodeId, PartitionId, RegionId, Replica, limits};

/// Tells the links of one feeder apart; a link that was given up may still have messages in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkId(pub(crate) u64);

/// What links bring to their feeder.
#[derive(Debug)]
pub(crate) enum Event {
    FollowUp(Outbox<Sayings>),
    Followed(Vec<(PartitionId, Followed)>),
    FollowDown,
    FetchUp(LinkId, Outbox<Reports>),
    Fetched(LinkId, Vec<(PartitionId, Fetched)>),
    FetchDown(LinkId),
}

/// Whom a link connects, for the log and the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) region: RegionId,
    pub(crate) follower: Replica,
    pub(crate) peer: NodeId,
    /// `host:port`.
    pub(crate) address: String,
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}: {source}", source = std::error::Error::source(.0).map(ToString::to_string).unwrap_or_default())]
    Transport(#[from] tonic::transport::Error),
    #[error("no answer within {} ms", bounds::CONNECT_TIMEOUT.as_millis())]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("{}: {}", .0.code(), .0.message())]
    Status(Box<tonic::Status>),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("{} answers with store {}, and the placement names {}", .said.node, .said.store, .named.store)]
    OtherStore { said: Replica, named: Replica },
    #[error("the peer ended the stream")]
    Ended,
    #[error("the feeder is gone")]
    FeederGone,
}

impl From<tonic::Status> for LinkError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Opens the stream to the follower, again and again.
pub(crate) fn follow(ends: Ends, inbox: mpsc::Sender<Event>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut backoff = Backoff::new();
        loop {
            let Err(error) = follow_once(&ends, &inbox, &mut backoff).await;
            if inbox.send(Event::FollowDown).await.is_err() {
                return;
            }
            pause("follow", &ends, &error, &mut backoff).await;
        }
    }))
}

/// Opens the stream to a home, again and again.
pub(crate) fn fetch(id: LinkId, ends: Ends, inbox: mpsc::Sender<Event>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut backoff = Backoff::new();
        loop {
            let Err(error) = fetch_once(id, &ends, &inbox, &mut backoff).await;
            if inbox.send(Event::FetchDown(id)).await.is_err() {
                return;
            }
            pause("fetch", &ends, &error, &mut backoff).await;
        }
    }))
}

async fn pause(stream: &'static str, ends: &Ends, error: &LinkError, backoff: &mut Backoff) {
    let (node, follower) = (&ends.peer, &ends.follower.node);
    tracing::warn!(stream, %node, %follower, address = %ends.address, %error, "stream broke");
    meters::reconnect(stream, node, follower);
    tokio::time::sleep(backoff.next()).await;
}

async fn connect(ends: &Ends) -> Result<NodeClient<Channel>, LinkError> {
    let channel = endpoint(&ends.address)?.connect_with_connector(Connector).await?;
    Ok(NodeClient::new(channel)
        .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES))
}

async fn follow_once(
    ends: &Ends,
    inbox: &mpsc::Sender<Event>,
    backoff: &mut Backoff,
) -> Result<Infallible, LinkError> {
    let (queue, outgoing) = outbox(Sayings::default());
    queue.with(|sayings| sayings.push(wire::follow_hello()));
    let opening = open_follow(ends, outgoing);
    let replies = timeout(bounds::CONNECT_TIMEOUT, opening).await??;
    backoff.connected();
    tracing::info!(follower = %ends.follower.node, "connected to the follower");
    inbox.send(Event::FollowUp(queue)).await.map_err(|_| LinkError::FeederGone)?;
    let mut replies = replies.ready_chunks(bounds::EVENT_MESSAGES_MAX);
    while let Some(arrived) = replies.next().await {
        let mut answers = Vec::with_capacity(arrived.len());
        for reply in arrived {
            match wire::from_follower(reply?)? {
                FromFollower::Hello(Some(said)) if said != ends.follower => {
                    return Err(LinkError::OtherStore { said, named: ends.follower.clone() });
                }
                FromFollower::Hello(_) => {}
                FromFollower::Of(partition, followed) => answers.push((partition, followed)),
            }
        }
        inbox.send(Event::Followed(answers)).await.map_err(|_| LinkError::FeederGone)?;
    }
    Err(LinkError::Ended)
}

async fn open_follow(
    ends: &Ends,
    outgoing: Outgoing<Sayings>,
) -> Result<Streaming<node::FollowReply>, LinkError> {
    let mut client = connect(ends).await?;
    Ok(client.follow(outgoing).await?.into_inner())
}

async fn fetch_once(
    id: LinkId,
    ends: &Ends,
    inbox: &mpsc::Sender<Event>,
    backoff: &mut Backoff,
) -> Result<Infallible, LinkError> {
    let hello = node::FetchHello {
        protocol_version: limits::NODE_PROTOCOL_VERSION,
        follower: Some((&ends.follower).into()),
        region: ends.region.to_string(),
    };
    let (queue, outgoing) = outbox(Reports::new(hello));
    let opening = open_fetch(ends, outgoing);
    let replies = timeout(bounds::CONNECT_TIMEOUT, opening).await??;
    backoff.connected();
    tracing::info!(node = %ends.peer, follower = %ends.follower.node, "connected to a home");
    inbox.send(Event::FetchUp(id, queue)).await.map_err(|_| LinkError::FeederGone)?;
    let mut replies = replies.ready_chunks(bounds::EVENT_MESSAGES_MAX);
    while let Some(arrived) = replies.next().await {
        let mut words = Vec::with_capacity(arrived.len());
        for reply in arrived {
            match wire::from_home(reply?)? {
                FromHome::Hello => {}
                FromHome::Of(partition, fetched) => words.push((partition, fetched)),
            }
        }
        inbox.send(Event::Fetched(id, words)).await.map_err(|_| LinkError::FeederGone)?;
    }
    Err(LinkError::Ended)
}

async fn open_fetch(
    ends: &Ends,
    outgoing: Outgoing<Reports>,
) -> Result<Streaming<node::FetchReply>, LinkError> {
    let mut client = connect(ends).await?;
    Ok(client.fetch(outgoing).await?.into_inner())
}
