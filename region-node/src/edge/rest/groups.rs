//! Chats beside their messages: members, terms, invites, deletions.

use super::{Caller, bad, json, request_id::RequestId};
use crate::{
    clock,
    delivery::token,
    edge::{Edge, errors::Problem, groups::page_limit, request, request::changes},
    router::Draft,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use proto::client;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use types::{AckPolicy, Code, Refusal};
use utoipa::{IntoParams, ToSchema};

pub(super) fn routes() -> Router<Edge> {
    Router::new()
        .route("/v1/chats/{id}", get(info).patch(change_settings))
        .route("/v1/chats/{id}/members", get(members).post(change_members))
        .route("/v1/chats/{id}/invites", get(invites).post(make_invite))
        .route("/v1/chats/{id}/invites/{invite}", delete(revoke_invite))
        .route("/v1/chats/{id}/join", post(join))
        .route("/v1/chats/{id}/leave", post(leave))
        .route("/v1/chats/{id}/deletions", post(delete_messages))
}

/// A change that is in the chat, in every in-sync region.
#[derive(Serialize, ToSchema)]
struct Changed {
    /// Where its entry stands.
    position: String,
    /// Its number in the chat.
    offset: u64,
    /// The home's clock, in ms since 1970.
    accepted_at_ms: u64,
}

/// What a chat is now.
#[derive(Serialize, ToSchema)]
struct Info {
    /// The chat.
    log: String,
    /// Ciphertext, base64; empty: none.
    name: String,
    /// A media id.
    avatar: Option<String>,
    /// How long messages stay, in ms; 0: for good.
    expiry_ms: u64,
    /// The lowest role that may add members and make invites.
    inviters: String,
    /// The lowest role that may write.
    writers: String,
    /// How many are in it.
    members: u32,
    /// What the caller is in it.
    role: String,
    /// In ms since 1970.
    created_at_ms: u64,
}

/// What is to be different; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Ciphertext, base64, at most 256 bytes; empty: none.
    #[serde(default)]
    name: Option<String>,
    /// A media id; `null`: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    avatar: Option<Option<String>>,
    /// How long messages stay, in ms: at least 1,000; 0: for good.
    #[serde(default)]
    expiry_ms: Option<u64>,
    /// `member`, `admin` or `owner`.
    #[serde(default)]
    inviters: Option<String>,
    /// `member`, `admin` or `owner`.
    #[serde(default)]
    writers: Option<String>,
}

/// Tells `null` from what is left out.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Who comes, goes or gets another role: all of it or nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberChanges {
    /// 1 to 256 users.
    changes: Vec<MemberChange>,
}

/// What becomes of one user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberChange {
    /// Who.
    user: String,
    /// `member`, `admin` or `owner`; `null`: the user is no member any more.
    #[serde(default)]
    role: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
struct PageQuery {
    /// The last user of the page before.
    #[serde(default)]
    after: String,
    /// 50 where it is left out; at most 500.
    #[serde(default)]
    limit: u32,
}

/// A page of members.
#[derive(Serialize, ToSchema)]
struct Members {
    /// By name.
    members: Vec<Member>,
    /// There are more, behind the last one.
    has_more: bool,
}

/// A member.
#[derive(Serialize, ToSchema)]
struct Member {
    /// Who.
    user: String,
    /// `member`, `admin` or `owner`.
    role: String,
    /// The offset of the entry by which the user came.
    joined_at: u64,
}

/// Whoever knows the secret may join.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewInvite {
    /// 16 to 64 random bytes, base64url without padding.
    secret: String,
    /// How long it can be used, in ms; 0: a week; at most 366 days.
    #[serde(default)]
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
    invite: String,
    /// Who made it.
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
    secret: String,
}

/// Messages whose bodies are to leave every store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deletion {
    /// 1 to 256 messages.
    messages: Vec<Reference>,
}

/// A message, by what makes it one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// Who wrote it.
    sender: String,
    /// On which device, a number.
    #[serde(default)]
    device: String,
    /// The device's name for it.
    message_id: String,
}

/// Writes a change, and answers once it is `replicated`.
async fn write(
    edge: &Edge,
    Caller { user, device }: Caller,
    message: Result<request::Message, Refusal>,
) -> Result<Response, Problem> {
    let message = message?;
    let log = message.log;
    let draft = Draft {
        log,
        sender: user,
        device,
        message_id: message.message_id,
        after: None,
        body: message.body,
        ack: AckPolicy::Replicated,
        deadline: Instant::now() + Duration::from_millis(message.deadline_ms),
        beside: message.beside,
    };
    let acked = edge.0.router.write(draft).await?;
    let (offset, accepted_at_ms) = (acked.position.offset.get(), acked.accepted_at_ms);
    let changed = Changed { position: token(log, acked.position), offset, accepted_at_ms };
    Ok((StatusCode::CREATED, Json(changed)).into_response())
}

async fn info(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let info = edge.0.router.chat_info(request::log(&log)?, &caller.user).await?;
    let info = Info {
        log: info.log,
        name: BASE64.encode(&info.name),
        avatar: Some(info.avatar).filter(|avatar| !avatar.is_empty()),
        expiry_ms: info.expiry_ms,
        inviters: info.inviters,
        writers: info.writers,
        members: info.members,
        role: info.role,
        created_at_ms: info.created_at_ms,
    };
    Ok(Json(info).into_response())
}

async fn change_settings(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Settings { name, avatar, expiry_ms, inviters, writers } = json(body)?;
    let name = name
        .map(|name| BASE64.decode(name.as_bytes()).map_err(|error| bad(format_args!("field name: {error}"))));
    let change = client::SettingsChange {
        name: name.transpose()?.map(Into::into),
        avatar: avatar.map(Option::unwrap_or_default),
        expiry_ms,
        inviters,
        writers,
    };
    let wire = client::ChangeSettings { log, message_id: id.to_string(), change: Some(change) };
    write(&edge, caller, changes::settings(wire)).await
}

async fn members(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    query: Result<Query<PageQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    let Query(asked) = query.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))?;
    let after = (!asked.after.is_empty()).then(|| request::user("after", &asked.after)).transpose()?;
    let limit = page_limit(asked.limit)?;
    let page = edge.0.router.chat_members(request::log(&log)?, &caller.user, after, limit).await?;
    let member = |member: client::ChatMember| Member {
        user: member.user,
        role: member.role,
        joined_at: member.joined_at,
    };
    let members = page.members.into_iter().map(member).collect();
    Ok(Json(Members { members, has_more: !page.at_end }).into_response())
}

async fn change_members(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let MemberChanges { changes } = json(body)?;
    let change = |MemberChange { user, role }| client::MemberChange { user, role: role.unwrap_or_default() };
    let changes = changes.into_iter().map(change).collect();
    let wire = client::ChangeMembers { log, message_id: id.to_string(), changes };
    write(&edge, caller, changes::members(&wire)).await
}

async fn leave(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
) -> Result<Response, Problem> {
    let gone = client::MemberChange { user: caller.user.to_string(), role: String::new() };
    let wire = client::ChangeMembers { log, message_id: id.to_string(), changes: vec![gone] };
    write(&edge, caller, changes::members(&wire)).await
}

async fn invites(
    State(edge): State<Edge>,
    Path(log): Path<String>,
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

async fn make_invite(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let NewInvite { secret, lifetime_ms, uses_max } = json(body)?;
    let secret = read_secret(&secret)?;
    let wire = client::MakeInvite { log, message_id: id.to_string(), secret, lifetime_ms, uses_max };
    write(&edge, caller, changes::invite(&wire)).await
}

async fn revoke_invite(
    State(edge): State<Edge>,
    Path((log, invite)): Path<(String, String)>,
    caller: Caller,
    RequestId(id): RequestId,
) -> Result<Response, Problem> {
    let wire = client::RevokeInvite { log, message_id: id.to_string(), invite };
    write(&edge, caller, changes::revocation(&wire)).await
}

async fn join(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Joining { secret } = json(body)?;
    let wire = client::JoinChat { log, message_id: id.to_string(), secret: read_secret(&secret)? };
    write(&edge, caller, changes::joining(&wire)).await
}

async fn delete_messages(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    caller: Caller,
    RequestId(id): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Deletion { messages } = json(body)?;
    let reference = |Reference { sender, device, message_id }| {
        let device = match device.as_str() {
            "" => 0,
            text => {
                text.parse().map_err(|_| bad(format_args!("field messages.device is {text:?}, no number")))?
            }
        };
        Ok(client::Reference { sender, device, message_id, offset: 0 })
    };
    let messages = messages.into_iter().map(reference).collect::<Result<_, Refusal>>()?;
    let wire = client::DeleteMessages { log, message_id: id.to_string(), messages };
    write(&edge, caller, changes::deletion(&wire)).await
}

fn read_secret(text: &str) -> Result<bytes::Bytes, Refusal> {
    let secret = BASE64URL_NOPAD.decode(text.as_bytes());
    secret.map(Into::into).map_err(|error| bad(format_args!("field secret is no base64url: {error}")))
}
