//! REST: what needs no session.
//!
//! Requests and answers are JSON; those of chats are the messages of the client protocol. Who asks, an access token
//! says (`Authorization: Bearer …`), or headers in development mode: see [`Caller`]. Errors are RFC 9457 problems.
//! Each handler carries its description, of which [`openapi`] makes the document at `/v1/openapi.json`.

mod account;
mod caller;
mod chat_list;
mod chats;
mod devices;
mod groups;
mod invites;
mod openapi;
mod path;
mod people;
mod receipts;
mod request_id;
mod sign_in;
mod sync;

pub(crate) use caller::{Caller, Present};
pub(in crate::edge) use openapi::forms::Position;

use super::Edge;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use types::{Code, DeviceId, Refusal, limits};
use utoipa_axum::router::OpenApiRouter;

pub(super) fn routes(edge: &Edge) -> Router {
    let (router, api) = areas(edge.0.parts.config.development).split_for_parts();
    let document = openapi::route(api).expect("what utoipa makes is JSON");
    router.layer(DefaultBodyLimit::max(limits::FRAME_MAX_BYTES)).with_state(edge.clone()).merge(document)
}

/// Every route, described.
fn areas(development: bool) -> OpenApiRouter<Edge> {
    OpenApiRouter::with_openapi(openapi::skeleton(development))
        .merge(chats::routes())
        .merge(chat_list::routes())
        .merge(groups::routes())
        .merge(invites::routes())
        .merge(sign_in::routes())
        .merge(devices::routes())
        .merge(account::routes())
        .merge(people::routes())
        .merge(receipts::routes())
        .merge(sync::routes())
}

/// Reads the body of a request.
fn json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let body = body.map_err(|error| {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            _ => Code::BadRequest,
        };
        let why =
            format!("the request body, of at most {} bytes: {}", limits::FRAME_MAX_BYTES, error.body_text());
        Refusal::new(code, why)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("the request body: {error}")))
}

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::BadRequest, error.to_string())
}

/// A write that has nothing to tell but that it is done.
fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Numbers of devices are texts in JSON: they have more digits than some languages' numbers.
fn device_text(device: DeviceId) -> String {
    device.get().to_string()
}
