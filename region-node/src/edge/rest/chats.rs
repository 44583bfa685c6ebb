//! Chats over REST: the same as over WebSocket, for scripts.
//!
//! Bodies are the JSON of the client protocol's messages. A page of history is also answered as protobuf.

use super::{Caller, json};
use crate::{
    delivery::token,
    edge::{Edge, errors::Problem, request, session::sent},
    router::Draft,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prost::Message as _;
use proto::client::{self, server_frame::Frame};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use types::{Code, Position, Refusal};

/// The media types of a page of history.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) fn routes() -> Router<Edge> {
    Router::new().route("/v1/chats", post(open_chat)).route("/v1/chats/{id}/messages", get(read).post(send))
}

async fn open_chat(
    State(edge): State<Edge>,
    Caller { user, .. }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let open: client::OpenChat = json(body)?;
    let (log, position) = edge.0.open_chat(user, open).await?;
    let opened = client::ChatOpened { log: log.to_string(), position: token(log, position) };
    Ok((StatusCode::CREATED, Json(opened)).into_response())
}

async fn send(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    Caller { user: sender, device }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let message = request::message(client::Send { log, ..json(body)? })?;
    let (log, message_id) = (message.log, message.message_id);
    let draft = Draft {
        log,
        sender,
        device,
        message_id,
        after: message.after,
        body: message.body,
        ack: message.ack,
        deadline: Instant::now() + Duration::from_millis(message.deadline_ms),
        beside: message.beside,
    };
    let acked = edge.0.router.write(draft).await?;
    match sent(log, message_id, &acked) {
        Frame::Sent(sent) => Ok((StatusCode::CREATED, Json(sent)).into_response()),
        _ => Err(Refusal::new(Code::Internal, "an ack is told by a Sent").into()),
    }
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    after: Option<String>,
    before: Option<String>,
    #[serde(default)]
    limit: u32,
}

async fn read(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
    Caller { user, .. }: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))?;
    let from = match (query.after, query.before) {
        (Some(_), Some(_)) => {
            let why = "both after and before are given, and a page has one direction";
            return Err(Refusal::new(Code::BadRequest, why).into());
        }
        (Some(after), None) => Some(client::read_history::From::After(after)),
        (None, Some(before)) => Some(client::read_history::From::Before(before)),
        (None, None) => None,
    };
    let reading = request::reading(&client::ReadHistory { log, from, limit: query.limit })?;
    let page = edge
        .0
        .router
        .read(reading.log, &user, reading.from, reading.limit, Position::START)
        .await
        .map_err(|refusal| Problem::of_read(reading.log, refusal))?;
    let (records, at_end) = (&page.records, page.at_end);
    if accepts_protobuf(&headers) {
        let page = proto::history_page(reading.log, records, at_end).encode_to_vec();
        return Ok(([(header::CONTENT_TYPE, PROTOBUF)], page).into_response());
    }
    let page = proto::history_page_json(reading.log, records, at_end)
        .map_err(|error| Refusal::new(Code::Internal, format!("the page cannot be told as JSON: {error}")))?;
    Ok(([(header::CONTENT_TYPE, JSON)], page).into_response())
}

/// Whether the answer is wanted as protobuf: the media type stands among those accepted.
fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media_types = accepted.flat_map(|value| value.split(',')).map(|range| range.split(';').next());
    media_types.any(|media_type| media_type.is_some_and(|name| name.trim() == PROTOBUF))
}
