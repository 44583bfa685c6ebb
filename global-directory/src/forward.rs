//! Any replica takes any request: one that only the leader may answer is handed on to it, as it came.
//!
//! This is the one place that knows which requests those are: every one of the services below but those that
//! are named here. A request is handed on once; a replica that gets one in that way and does not lead either
//! says so (`UNAVAILABLE`, with the leader that it knows in `hearth-leader`), and the asker tries again.

use crate::{
    bounds,
    engine::Engine,
    raft::{Group, Leader, ReplicaId},
};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use std::time::Duration;
use tonic::{Status, codegen::Service as _, transport::Channel};

/// The services of which the leader answers.
const SERVICES: [&str; 4] = [
    "/hearth.directory.v1.Directory/",
    "/hearth.directory.v1.Homes/",
    "/hearth.directory.v1.Replicas/",
    "/hearth.directory.v1.Members/",
];
/// What any replica answers from what it has applied.
const ANYWHERE: [&str; 3] = [
    "/hearth.directory.v1.Directory/WatchPlacement",
    "/hearth.directory.v1.Directory/LookUpPins",
    "/hearth.directory.v1.Replicas/Inspect",
];
/// Marks a request that was handed on.
const FORWARDED: &str = "hearth-forwarded";
/// Names the leader to one who has to ask again.
const LEADER: &str = "hearth-leader";

/// Answers here, or hands on.
pub(crate) async fn to_leader(State(engine): State<Engine>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_for_leader = SERVICES.iter().any(|service| path.starts_with(service)) && !ANYWHERE.contains(&path);
    let Some(group) = engine.group().filter(|_| is_for_leader) else { return next.run(request).await };
    match group.leader() {
        Leader::Own => next.run(request).await,
        Leader::Other(leader, address) if !request.headers().contains_key(FORWARDED) => {
            match hand_on(group, leader, &address, request).await {
                Ok(response) => response,
                Err(why) => refuse(Some((leader, address)), &why),
            }
        }
        Leader::Other(leader, address) => {
            refuse(Some((leader, address)), "this replica of the directory does not lead the others")
        }
        Leader::Unknown => refuse(None, "the replicas of the directory have no leader now"),
    }
}

fn refuse(leader: Option<(ReplicaId, String)>, why: &str) -> Response {
    metrics::counter!("hearth_directory_requests_without_leader_total").increment(1);
    let mut status = Status::unavailable(why);
    if let Some((leader, address)) = leader
        && let Ok(hint) = format!("{leader}@{address}").parse()
    {
        status.metadata_mut().insert(LEADER, hint);
    }
    status.into_http()
}

/// Ends early when the leader is no longer the leader: a connection to a dead one may stay silent for long.
async fn hand_on(
    group: &Group,
    leader: ReplicaId,
    address: &str,
    request: Request,
) -> Result<Response, String> {
    let channel = group.network().channel(leader, address).map_err(|error| error.to_string())?;
    let answer = call(channel, request);
    tokio::pin!(answer);
    let mut looks = tokio::time::interval(Duration::from_millis(bounds::TICK_MS));
    let mut missed_ms = 0;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = looks.tick() => {}
        }
        missed_ms = match group.leader() {
            Leader::Other(now, _) if now == leader => 0,
            Leader::Unknown if missed_ms < bounds::LEADER_MISSED_MS => missed_ms + bounds::TICK_MS,
            Leader::Own | Leader::Other(..) | Leader::Unknown => {
                return Err(format!("replica {leader} no longer leads the directory"));
            }
        };
    }
}

async fn call(mut channel: Channel, request: Request) -> Result<Response, String> {
    let mut request = request.map(tonic::body::Body::new);
    request.headers_mut().insert(FORWARDED, axum::http::HeaderValue::from_static("1"));
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|error| error.to_string())?;
    let response = channel.call(request).await.map_err(|error| error.to_string())?;
    Ok(response.map(Body::new))
}
