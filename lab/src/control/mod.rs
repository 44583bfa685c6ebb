//! The control API: HTTP and JSON on loopback, for `hearth lab` and whoever scripts a deployment.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/lab` | | [`Description`] |
//! | `GET /v1/lab/links` | | a list of [`LinkDescription`] |
//! | `POST /v1/lab/kill\|pause\|resume\|start/TARGET` | | `{}` |
//! | `POST /v1/lab/cut` | [`CutRequest`] | `{}` |
//! | `POST /v1/lab/heal` | | `{}` |
//! | `POST /v1/lab/link` | [`LinkRequest`] | `{}` |
//!
//! A target is a region, a node or `directory`.
//!
//! A refusal is `{"error": {"code", "message"}}` with status 404 (`unknown_region`, `no_link`), 409
//! (`running`, `not_running`), 400 (`bad_request`), 403 (`forbidden`) or 500 (`failed`).
//!
//! There is no password: who can connect to loopback may steer. A web page could make a browser do that,
//! and what a browser sends for a page says so in `Origin`: such requests are refused.

mod client;

pub use client::{Client, ClientError};

use crate::deployment::{Deployment, LabError, LinkChange};
use crate::description::{Description, LinkDescription};
use axum::{
    Json, Router,
    extract::{Path, Request, State, rejection::JsonRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Cuts a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutRequest {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Only from `a` to `b`.
    #[serde(default)]
    pub one_way: bool,
}

/// Changes a link. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Only from `a` to `b`.
    #[serde(default)]
    pub one_way: bool,
    /// One way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// By how much a chunk may be later than the delay says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ms: Option<u64>,
    /// Shared by all connections; 0 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Hold everything back for so long, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u64>,
    /// Reset the connections that exist now.
    #[serde(default)]
    pub reset: bool,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    error: Refusal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, deployment: Arc<Deployment>, stop: CancellationToken) {
    let routes = Router::new()
        .route("/v1/lab", get(describe))
        .route("/v1/lab/links", get(links))
        .route("/v1/lab/{verb}/{target}", post(act))
        .route("/v1/lab/cut", post(cut))
        .route("/v1/lab/heal", post(heal))
        .route("/v1/lab/link", post(change_link))
        .fallback(|| async {
            refuse(StatusCode::NOT_FOUND, "bad_request", "there is no such resource".to_owned())
        })
        .layer(middleware::from_fn(refuse_web_pages))
        .with_state(deployment);
    // Open connections end with the runtime; an orderly wait for them could last as long as a client likes.
    if let Some(Err(error)) = stop.run_until_cancelled(async { axum::serve(listener, routes).await }).await {
        tracing::error!(%error, "the control API has ended");
    }
}

async fn refuse_web_pages(request: Request, next: Next) -> Response {
    match request.headers().get(header::ORIGIN) {
        None => next.run(request).await,
        Some(origin) => {
            let message = format!("web pages may not steer a deployment, and this one is {origin:?}");
            refuse(StatusCode::FORBIDDEN, "forbidden", message)
        }
    }
}

async fn describe(State(deployment): State<Arc<Deployment>>) -> Json<Description> {
    Json(deployment.describe())
}

async fn links(State(deployment): State<Arc<Deployment>>) -> Json<Vec<LinkDescription>> {
    Json(deployment.links())
}

async fn act(
    State(deployment): State<Arc<Deployment>>,
    Path((verb, target)): Path<(String, String)>,
) -> Response {
    let done = match verb.as_str() {
        "kill" => deployment.kill(&target).await,
        "pause" => deployment.pause(&target).await,
        "resume" => deployment.resume(&target).await,
        "start" => deployment.start(&target).await,
        _ => {
            let message = format!("there is no {verb:?}; there are kill, pause, resume and start");
            return refuse(StatusCode::NOT_FOUND, "bad_request", message);
        }
    };
    answer(done)
}

async fn cut(
    State(deployment): State<Arc<Deployment>>,
    request: Result<Json<CutRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(CutRequest { a, b, one_way })) => answer(deployment.cut(&a, &b, one_way)),
        Err(rejection) => malformed(&rejection),
    }
}

async fn heal(State(deployment): State<Arc<Deployment>>) -> Response {
    deployment.heal();
    answer(Ok(()))
}

async fn change_link(
    State(deployment): State<Arc<Deployment>>,
    request: Result<Json<LinkRequest>, JsonRejection>,
) -> Response {
    match request {
        Ok(Json(request)) => {
            let change = LinkChange {
                delay: request.delay_ms.map(Duration::from_millis),
                jitter: request.jitter_ms.map(Duration::from_millis),
                bandwidth_bytes_per_s: request.bandwidth_bytes_per_s,
                stall: request.stall_ms.map(Duration::from_millis),
                reset: request.reset,
            };
            answer(deployment.change_link(&request.a, &request.b, request.one_way, change))
        }
        Err(rejection) => malformed(&rejection),
    }
}

fn answer(done: Result<(), LabError>) -> Response {
    let Err(error) = done else { return Json(serde_json::json!({})).into_response() };
    let (status, code) = match error {
        LabError::UnknownPlace { .. } => (StatusCode::NOT_FOUND, "unknown_region"),
        LabError::NoLane(_) => (StatusCode::NOT_FOUND, "no_link"),
        LabError::Running(_) => (StatusCode::CONFLICT, "running"),
        LabError::NotRunning(_) => (StatusCode::CONFLICT, "not_running"),
        LabError::Process(_) | LabError::Ended { .. } | LabError::NotYet { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "failed")
        }
    };
    refuse(status, code, error.to_string())
}

fn malformed(rejection: &JsonRejection) -> Response {
    refuse(StatusCode::BAD_REQUEST, "bad_request", rejection.body_text())
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let refused = Refused { error: Refusal { code: code.to_owned(), message } };
    (status, Json(refused)).into_response()
}
