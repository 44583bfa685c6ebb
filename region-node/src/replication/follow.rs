//! Serves `Follow`: hands what a replicator brings to the partitions' tasks, and their answers back.

use crate::follower::{Ask, Batch, Followers, Outcome, Reply, Request};
use futures_util::stream::BoxStream;
use proto::{
    Malformed,
    node::{self as wire, follow_reply, follow_request},
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use types::{Code, Epoch, Lsn, PartitionId, Record, Refusal, Replica, limits};

/// Answers that may wait on one stream.
const REPLIES_MAX: usize = 256;

/// Serves one stream until it ends or the node goes down.
pub(crate) fn follow(
    followers: Arc<Followers>,
    me: Replica,
    requests: Streaming<wire::FollowRequest>,
    shutdown: CancellationToken,
) -> BoxStream<'static, Result<wire::FollowReply, Status>> {
    let (out, outgoing) = mpsc::channel(REPLIES_MAX);
    tokio::spawn(async move {
        let served = serve(&followers, &me, requests, &out);
        let ended = tokio::select! {
            () = shutdown.cancelled() => Err(Status::unavailable("the node goes down")),
            ended = served => ended,
        };
        if let Err(status) = ended {
            let _ = out.send(Err(status)).await;
        }
    });
    Box::pin(ReceiverStream::new(outgoing))
}

type Out = mpsc::Sender<Result<wire::FollowReply, Status>>;

async fn serve(
    followers: &Followers,
    me: &Replica,
    mut requests: Streaming<wire::FollowRequest>,
    out: &Out,
) -> Result<(), Status> {
    let (reply, mut replies) = mpsc::channel::<Reply>(REPLIES_MAX);
    // Answers flow on their own, so that a partition that cannot answer never waits for one that cannot
    // be asked.
    let answers = out.clone();
    tokio::spawn(async move {
        while let Some(answer) = replies.recv().await {
            if answers.send(Ok(answer_of(answer))).await.is_err() {
                return;
            }
        }
    });
    while let Some(request) = requests.message().await? {
        take(followers, me, request, &reply, out).await?;
    }
    Ok(())
}

async fn take(
    followers: &Followers,
    me: &Replica,
    wire: wire::FollowRequest,
    reply: &mpsc::Sender<Reply>,
    out: &Out,
) -> Result<(), Status> {
    let malformed = |error: Malformed| Status::invalid_argument(error.to_string());
    let (partition, epoch) = (PartitionId::new(wire.partition), Epoch::new(wire.epoch));
    let request = match wire.request {
        Some(follow_request::Request::Hello(hello)) => {
            crate::grpc::check_version(hello.protocol_version)?;
            let follower = Some(me.into());
            let hello = wire::FollowHello { protocol_version: limits::PROTOCOL_VERSION, follower };
            let outcome = Some(follow_reply::Outcome::Hello(hello));
            let _ = out.send(Ok(wire::FollowReply { outcome, ..Default::default() })).await;
            return Ok(());
        }
        Some(follow_request::Request::Probe(_)) => Request::Probe,
        Some(follow_request::Request::Batch(batch)) => Request::Batch(batch_of(batch).map_err(malformed)?),
        Some(follow_request::Request::Diverged(diverged)) => {
            Request::Diverged { common: diverged.common.unwrap_or_default().into() }
        }
        None => return Err(Status::invalid_argument("a follow request says nothing")),
    };
    followers.ask(partition, Ask { epoch, request, reply: reply.clone() }).await;
    Ok(())
}

fn batch_of(batch: wire::Batch) -> Result<Batch, Malformed> {
    let records = batch.records.into_iter().map(Record::try_from).collect::<Result<_, _>>()?;
    Ok(Batch { records, watermark: Lsn::new(batch.watermark), end: batch.end.map(Into::into) })
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
    }
}

/// A store that cannot be read just now.
pub(super) fn unreadable(error: &dyn std::error::Error) -> wire::Refused {
    tracing::error!(%error, "a partition cannot be read for its followers");
    refused(&Refusal::new(Code::Internal, error.to_string()))
}
