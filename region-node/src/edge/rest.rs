//! REST: the same as over WebSocket, for scripts.
//!
//! Bodies are the JSON of the client protocol's messages; a user and a device are named by headers, in
//! development mode. A page of history is also answered as protobuf. Errors are RFC 9457 problems.

use super::{Edge, errors::Problem, request, session::sent};
use crate::{delivery::token, router::Draft};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use prost::Message as _;
use proto::client::{self, server_frame::Frame};
use serde::{Deserialize, de::DeserializeOwned};
use std::time::Duration;
use tokio::time::Instant;
use types::{Code, DeviceId, Position, Refusal, UserId, limits};

/// Names the user, in development mode.
const USER_HEADER: &str = "x-hearth-user";
/// Names the device: a number; absent: 0.
const DEVICE_HEADER: &str = "x-hearth-device";
/// The media types of a page of history.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) fn routes(edge: &Edge) -> Router {
    Router::new()
        .route("/v1/chats", post(open_chat))
        .route("/v1/chats/{id}/messages", get(read).post(send))
        .layer(DefaultBodyLimit::max(limits::FRAME_MAX_BYTES))
        .with_state(edge.clone())
}

async fn open_chat(
    State(edge): State<Edge>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (user, _) = who(&edge, &headers)?;
    let open: client::OpenChat = json(body)?;
    let (log, position) = edge.0.open_chat(user, open).await?;
    let opened = client::ChatOpened { log: log.to_string(), position: token(log, position) };
    Ok((StatusCode::CREATED, Json(opened)).into_response())
}

async fn send(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (sender, device) = who(&edge, &headers)?;
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
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (user, _) = who(&edge, &headers)?;
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

fn who(edge: &Edge, headers: &HeaderMap) -> Result<(UserId, DeviceId), Refusal> {
    if !edge.0.parts.config.development {
        let why = "a user is known by name only in development mode, and this node is not in it";
        return Err(Refusal::new(Code::Unauthenticated, why));
    }
    let Some(user) = headers.get(USER_HEADER) else {
        return Err(Refusal::new(Code::Unauthenticated, format!("header {USER_HEADER} is missing")));
    };
    let user = request::user(USER_HEADER, &String::from_utf8_lossy(user.as_bytes()))?;
    let device = match headers.get(DEVICE_HEADER) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let why = format!("header {DEVICE_HEADER} is {value:?}, and must be a number");
            Refusal::new(Code::BadRequest, why)
        })?,
    };
    Ok((user, DeviceId::new(device)))
}

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
