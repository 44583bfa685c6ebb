//! REST for receipts: who has received and read a chat up to where, and up to where the caller has.

use super::{
    Caller, json,
    openapi::{
        forms,
        refused::{Bearer, Body, ChatRead, Positions, Refused},
    },
    path::{At, ChatPath},
};
use crate::{
    delivery::token,
    edge::{Edge, errors::Problem, request},
    live::Receipt,
    service::{LocateAnswer, ReadRefusal},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::StatusCode,
};
use log_store::locate::Located;
use proto::client;
use serde::{Deserialize, Serialize};
use types::{Code, LogId, Mark, Offset, Position, Refusal, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(read, mark))
}

/// How far the caller's device has come.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reached)]
struct Come {
    /// The position of the last entry that the device has; absent: as before.
    #[serde(default)]
    #[schema(value_type = forms::Position)]
    delivered: String,
    /// The position of the last entry that the user has seen; absent: as before.
    #[serde(default)]
    #[schema(value_type = forms::Position)]
    read: String,
}

/// Which receipts are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only of members who have received up to this offset; absent: of all.
    #[serde(default)]
    offset: u64,
    /// Only of those behind this user, by name: the last one of the page before.
    #[serde(default)]
    #[param(value_type = forms::UserId, required = false)]
    after_user: String,
    /// At most so many; absent or 0: 50.
    #[serde(default)]
    #[param(minimum = 0, maximum = 500)]
    limit: u32,
}

/// How far members have come.
#[derive(Debug, Serialize, ToSchema)]
struct Receipts {
    /// The chat.
    #[schema(value_type = forms::LogId)]
    log: String,
    /// By user.
    receipts: Vec<MemberReceipt>,
    /// There are no more.
    at_end: bool,
}

/// How far a member has come, on whichever device.
#[derive(Debug, Serialize, ToSchema)]
struct MemberReceipt {
    /// Who.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// Received up to here; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ReachedMark, required = false)]
    delivered: Option<ReachedMark>,
    /// Read up to here; absent: nothing, or it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ReachedMark, required = false)]
    read: Option<ReachedMark>,
}

/// An entry that was reached.
#[derive(Debug, Serialize, ToSchema)]
struct ReachedMark {
    /// Its position.
    #[schema(value_type = forms::Position)]
    position: String,
    /// Its offset.
    offset: u64,
    /// When it was reached, in ms since 1970.
    at_ms: u64,
}

/// Tells how far the caller has come.
///
/// It may be said again; a cursor only moves forward.
#[utoipa::path(
    post, path = "/v1/chats/{id}/receipts", operation_id = "markReceipts", tag = "chats",
    params(ChatPath), request_body = Come,
    responses(
        (status = 202, description = "It is told to the others, and written a little later."),
        Refused<(Bearer, Body, ChatRead, Positions)>,
    ),
)]
async fn mark(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    Caller { user, device }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let Come { delivered, read } = json(body)?;
    let (log, reached) = request::reached(&client::LogMark { log, delivered, read })?;
    for position in [reached.delivered, reached.read] {
        stands(&edge, log, &user, position).await.map_err(|refusal| Problem::of_read(log, refusal))?;
    }
    edge.0.live.mark(log, user, device, reached);
    Ok(StatusCode::ACCEPTED)
}

/// Whether a position may be named by a member, and stands.
async fn stands(edge: &Edge, log: LogId, user: &UserId, position: Position) -> Result<(), ReadRefusal> {
    match edge.0.router.locate(log, user, position).await? {
        LocateAnswer { located: Located::Continue, .. } => Ok(()),
        LocateAnswer { located: Located::Diverged { common }, .. } => Err(ReadRefusal::Diverged { common }),
        LocateAnswer { located: Located::Ahead, .. } => Err(ReadRefusal::Ahead),
    }
}

/// Tells who has received and read up to where.
#[utoipa::path(
    get, path = "/v1/chats/{id}/receipts", operation_id = "readReceipts", tag = "chats",
    params(ChatPath, Wanted),
    responses((status = 200, description = "By user.", body = Receipts), Refused<(Bearer, ChatRead)>),
)]
async fn read(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    query: Result<Query<Wanted>, QueryRejection>,
    Caller { user, .. }: Caller,
) -> Result<Json<Receipts>, Problem> {
    let Query(Wanted { offset, after_user, limit }) =
        query.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))?;
    let asked = request::receipts(user, &client::ReadReceipts { log, offset, after_user, limit })?;
    let page = edge.0.live.receipts(&asked).await.map_err(|refusal| Problem::of_read(asked.log, refusal))?;
    let receipts = page.receipts.iter().map(|receipt| member_receipt(asked.log, receipt)).collect();
    Ok(Json(Receipts { log: asked.log.to_string(), receipts, at_end: page.at_end }))
}

fn member_receipt(log: LogId, receipt: &Receipt) -> MemberReceipt {
    let mark = |mark: Mark, position: Position| {
        (mark.offset > Offset::ZERO).then(|| ReachedMark {
            position: token(log, position),
            offset: mark.offset.get(),
            at_ms: mark.at_ms,
        })
    };
    MemberReceipt {
        user: receipt.user.to_string(),
        delivered: mark(receipt.marks.delivered, receipt.delivered),
        read: mark(receipt.marks.read, receipt.read),
    }
}
