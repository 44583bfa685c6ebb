//! Invites of chats, and joining by them.

use super::{
    Caller, bad,
    groups::{Changed, write},
    json,
    openapi::{
        forms,
        refused::{Bearer, ChatRead, ChatWrite, NamedInvite, Refused},
    },
    path::{At, ChatPath, InvitePath},
    request_id::RequestId,
};
use crate::{
    clock,
    edge::{Edge, errors::Problem, request, request::changes},
};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64URL_NOPAD;
use proto::client;
use serde::{Deserialize, Serialize};
use types::Refusal;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(invites, make_invite))
        .routes(routes!(revoke_invite))
        .routes(routes!(join))
}

/// Whoever knows the secret may join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvite {
    /// 16 to 64 random bytes, base64url without padding.
    #[schema(value_type = forms::Secret)]
    secret: String,
    /// How long it can be used, in ms; 0: a week; at most 366 days.
    #[serde(default)]
    #[schema(maximum = 31_622_400_000_u64)]
    lifetime_ms: u64,
    /// By how many users; 0: by as many as the chat may have.
    #[serde(default)]
    uses_max: u32,
}

/// The invites that can be used.
#[derive(Serialize, ToSchema)]
struct Invites {
    /// At most 64.
    invites: Vec<Invite>,
}

/// An invite.
#[derive(Serialize, ToSchema)]
struct Invite {
    /// What it is revoked by.
    #[schema(value_type = forms::InviteId)]
    invite: String,
    /// Who made it.
    #[schema(value_type = forms::UserId)]
    made_by: String,
    /// Until when it can be used, in ms since 1970.
    expires_at_ms: u64,
    /// By how many users.
    uses_max: u32,
    /// How many of them have come.
    uses: u32,
}

/// Coming by an invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Joining {
    /// The invite's secret, base64url without padding.
    #[schema(value_type = forms::Secret)]
    secret: String,
}

/// Lists the invites that can be used, for those who may make some.
#[utoipa::path(
    get, path = "/v1/chats/{id}/invites", operation_id = "listInvites", tag = "chats", params(ChatPath),
    responses((status = 200, description = "All of them.", body = Invites), Refused<(Bearer, ChatRead)>),
)]
async fn invites(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    caller: Caller,
) -> Result<Response, Problem> {
    let now_ms = clock::wall_ms();
    let page = edge.0.router.chat_invites(request::log(&log)?, &caller.user, now_ms).await?;
    let invite = |invite: client::Invite| Invite {
        invite: invite.invite,
        made_by: invite.made_by,
        expires_at_ms: invite.expires_at_ms,
        uses_max: invite.uses_max,
        uses: invite.uses,
    };
    Ok(Json(Invites { invites: page.invites.into_iter().map(invite).collect() }).into_response())
}

/// Makes an invite: whoever knows its secret may join.
#[utoipa::path(
    post, path = "/v1/chats/{id}/invites", operation_id = "makeInvite", tag = "chats",
    params(ChatPath, RequestId), request_body = NewInvite,
    responses((status = 201, description = "It can be used.", body = Changed), Refused<(Bearer, ChatWrite)>),
)]
async fn make_invite(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let NewInvite { secret, lifetime_ms, uses_max } = json(body)?;
    let secret = read_secret(&secret)?;
    let wire = client::MakeInvite { log, message_id: id.to_string(), secret, lifetime_ms, uses_max };
    write(&edge, caller, changes::invite(&wire)).await
}

/// Takes an invite back.
#[utoipa::path(
    delete, path = "/v1/chats/{id}/invites/{invite}", operation_id = "revokeInvite", tag = "chats",
    params(InvitePath, RequestId),
    responses(
        (status = 201, description = "It cannot be used.", body = Changed),
        Refused<(Bearer, ChatWrite, NamedInvite)>,
    ),
)]
async fn revoke_invite(
    State(edge): State<Edge>,
    At(InvitePath { id: log, invite }): At<InvitePath>,
    caller: Caller,
    RequestId(id): RequestId,
) -> Result<Response, Problem> {
    let wire = client::RevokeInvite { log, message_id: id.to_string(), invite };
    write(&edge, caller, changes::revocation(&wire)).await
}

/// Joins a chat by an invite.
#[utoipa::path(
    post, path = "/v1/chats/{id}/join", operation_id = "joinChat", tag = "chats",
    params(ChatPath, RequestId), request_body = Joining,
    responses(
        (status = 201, description = "The caller is a member.", body = Changed),
        Refused<(Bearer, ChatWrite, NamedInvite)>,
    ),
)]
async fn join(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Joining { secret } = json(body)?;
    let wire = client::JoinChat { log, message_id: id.to_string(), secret: read_secret(&secret)? };
    write(&edge, caller, changes::joining(&wire)).await
}

fn read_secret(text: &str) -> Result<bytes::Bytes, Refusal> {
    let secret = BASE64URL_NOPAD.decode(text.as_bytes());
    secret.map(Into::into).map_err(|error| bad(format_args!("field secret is no base64url: {error}")))
}
