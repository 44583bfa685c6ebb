//! Serves `Follow`: hands what a replicator brings to the partitions, and their answers back.
//!
//! What has arrived is decoded and handed on in one piece. The node's bound on what waits for partitions,
//! and that on answers nobody reads, keep the stream from being read further: no more than one request is
//! decoded before there is room for it. A request that makes no sense is its partition's to refuse; only
//! one that names no partition ends the stream.

use crate::follower::{Ask, Batch, Followers, Outcome, Replies, Reply, Request, replies};
use futures_util::{FutureExt as _, StreamExt as _, stream::BoxStream};
use proto::{
    Malformed,
    node::{self as wire, follow_reply, follow_request},
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use types::{Code, Epoch, Lsn, PartitionId, Refusal, Replica, limits};

/// Requests that are taken in one go.
const BUNCH_MAX: usize = 64;

/// Serves one stream until it ends or the node goes down.
pub(crate) fn follow(
    followers: Arc<Followers>,
    me: Replica,
    requests: Streaming<wire::FollowRequest>,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<wire::FollowReply, Status>> {
    let (replies, answered) = replies();
    // A hello, and why the stream ends.
    let (out, outgoing) = mpsc::channel(2);
    tokio::spawn(async move {
        let served = serve(&followers, &me, requests, &replies, &out);
        let ended = tokio::select! {
            () = shutdown.cancelled() => Err(Status::unavailable("the node goes down")),
            ended = served => ended,
        };
        if let Err(status) = ended {
            let _ = out.send(Err(status)).await;
        }
    });
    let answers = answered.map(|reply| Ok(answer_of(reply)));
    futures_util::stream::select(answers, ReceiverStream::new(outgoing)).boxed()
}

type Out = mpsc::Sender<Result<wire::FollowReply, Status>>;

async fn serve(
    followers: &Followers,
    me: &Replica,
    requests: Streaming<wire::FollowRequest>,
    replies: &Replies,
    out: &Out,
) -> Result<(), Status> {
    let mut requests = requests.fuse();
    let mut greeted = false;
    while let Some(first) = requests.next().await {
        let (mut arrived, mut asks) = (Some(first), Vec::new());
        while let Some(wire) = arrived {
            let wire = wire?;
            if let Some(follow_request::Request::Hello(hello)) = &wire.request {
                crate::grpc::check_version(hello.protocol_version)?;
                if std::mem::replace(&mut greeted, true) {
                    return Err(Status::invalid_argument("the stream has said hello already"));
                }
                // There is always room for the first.
                let _ = out.try_send(Ok(hello_of(me)));
            } else {
                let mut ask = ask_of(wire, replies)?;
                ask.room = match followers.room_now(ask.bytes()) {
                    Some(room) => Some(room),
                    None => {
                        // What was taken in so far must not wait with it: its room may be what is missing.
                        followers.ask(std::mem::take(&mut asks)).await;
                        followers.room_for(ask.bytes()).await
                    }
                };
                asks.push(ask);
            }
            arrived = match asks.len() < BUNCH_MAX {
                true => requests.next().now_or_never().flatten(),
                false => None,
            };
        }
        followers.ask(asks).await;
        if !replies.have_room().await {
            return Ok(());
        }
    }
    Ok(())
}

fn ask_of(wire: wire::FollowRequest, replies: &Replies) -> Result<Ask, Status> {
    let request = match wire.request {
        Some(follow_request::Request::Probe(_)) => Ok(Request::Probe),
        Some(follow_request::Request::Batch(batch)) => {
            batch_of(batch).map(Request::Batch).map_err(|error| unusable(wire.partition, &error))
        }
        Some(follow_request::Request::Diverged(diverged)) => {
            let judged = diverged.last.map(Into::into);
            Ok(Request::Diverged { common: diverged.common.unwrap_or_default().into(), judged })
        }
        Some(follow_request::Request::Hello(_)) | None => {
            return Err(Status::invalid_argument("a follow request says nothing"));
        }
    };
    let (partition, epoch) = (PartitionId::new(wire.partition), Epoch::new(wire.epoch));
    Ok(Ask { partition, epoch, request, reply: replies.clone(), room: None })
}

fn batch_of(batch: wire::Batch) -> Result<Batch, Malformed> {
    let records = proto::batch_records(&batch)?;
    let (watermark, end) = (Lsn::new(batch.watermark), batch.end.map(Into::into));
    Ok(Batch { records, encoded: batch.records, watermark, end })
}

fn unusable(partition: u32, error: &Malformed) -> Refusal {
    tracing::error!(partition, %error, "a home's batch cannot be read");
    Refusal::new(Code::BadRequest, error.to_string())
}

fn hello_of(me: &Replica) -> wire::FollowReply {
    let hello =
        wire::FollowHello { protocol_version: limits::NODE_PROTOCOL_VERSION, follower: Some(me.into()) };
    wire::FollowReply { outcome: Some(follow_reply::Outcome::Hello(hello)), ..Default::default() }
}

fn answer_of(reply: Reply) -> wire::FollowReply {
    let outcome = match reply.outcome {
        Ok(Outcome::Done) => follow_reply::Outcome::Done(wire::FollowDone {}),
        Ok(Outcome::Fenced) => follow_reply::Outcome::Fenced(wire::FollowFenced {}),
        Ok(Outcome::Gap) => follow_reply::Outcome::Gap(wire::FollowGap {}),
        Err(refusal) => follow_reply::Outcome::Refused(refused(&refusal)),
    };
    wire::FollowReply {
        partition: reply.partition.get(),
        fence: reply.fence.get(),
        last: Some(reply.last.into()),
        outcome: Some(outcome),
    }
}

/// A refusal as other processes see it.
pub(super) fn refused(refusal: &Refusal) -> wire::Refused {
    wire::Refused {
        code: refusal.code.as_str().to_owned(),
        message: refusal.message.clone(),
        retry_after_ms: refusal.retry_after_ms,
        retryable: refusal.is_retryable(),
    }
}

/// A store that cannot be read just now.
pub(super) fn unreadable(error: &dyn std::error::Error) -> wire::Refused {
    tracing::error!(%error, "a partition cannot be read for its followers");
    refused(&Refusal::new(Code::Internal, error.to_string()))
}
