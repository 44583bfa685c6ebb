//! Chats over REST: the same as over WebSocket, for scripts.
//!
//! Bodies are the JSON of the client protocol's messages. A page of history is also answered as protobuf.

use super::{
    Caller, json,
    openapi::{
        forms,
        refused::{Bearer, ChatRead, ChatWrite, Opening, Positions, Refused},
    },
    path::{At, ChatPath},
};
use crate::{
    delivery::token,
    edge::{Edge, errors::Problem, request, session::sent},
    router::Draft,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prost::Message as _;
use proto::client::{self, server_frame::Frame};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;
use types::{Code, Position, Refusal};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The media types of a page of history.
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(open_chat)).routes(routes!(read, send))
}

/// Opens a chat, or finds that it is there.
#[utoipa::path(
    post, path = "/v1/chats", operation_id = "openChat", tag = "chats",
    request_body = ref("#/components/schemas/client.OpenChat"),
    responses(
        (status = 201, description = "It is there, in every in-sync region.",
            body = ref("#/components/schemas/client.ChatOpened")),
        Refused<(Bearer, Opening)>,
    ),
)]
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

/// Writes a message.
///
/// Repeating it with the same `messageId`, at any node, answers the position of the one entry.
#[utoipa::path(
    post, path = "/v1/chats/{id}/messages", operation_id = "send", tag = "chats", params(ChatPath),
    request_body = ref("#/components/schemas/client.Send"),
    responses(
        (status = 201, description = "It stands at this position, at this ack.",
            body = ref("#/components/schemas/client.Sent")),
        Refused<(Bearer, ChatWrite)>,
    ),
)]
async fn send(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    Caller { user: sender, device }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let message = request::message(client::Send { log, ..json(body)? })?;
    edge.0.admit_write(&sender, device)?;
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

/// Which page; from the end where neither `after` nor `before` is given.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Entries behind this position, oldest first.
    #[param(value_type = forms::Position, required = false)]
    after: Option<String>,
    /// Entries before this position, going back.
    #[param(value_type = forms::Position, required = false)]
    before: Option<String>,
    /// At most so many; 0: 50.
    #[serde(default)]
    #[param(minimum = 0, maximum = 500)]
    limit: u32,
}

/// Reads a page of history, as JSON or, where that is accepted, as protobuf.
#[utoipa::path(
    get, path = "/v1/chats/{id}/messages", operation_id = "readHistory", tag = "chats",
    params(ChatPath, PageQuery),
    responses(
        (status = 200, description = "In the order of the chat.", content(
            (ref("#/components/schemas/client.HistoryPage") = "application/json"),
            ("application/x-protobuf"),
        )),
        Refused<(Bearer, ChatRead, Positions)>,
    ),
)]
async fn read(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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
