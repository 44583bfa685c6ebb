//! Chats beside their messages: members, terms, deletions.

use super::{
    Caller, bad, json,
    openapi::{
        forms,
        refused::{Bearer, ChatRead, ChatWrite, NamedMessage, Refused},
    },
    path::{At, ChatPath},
    request_id::RequestId,
};
use crate::{
    delivery::token,
    edge::{Edge, errors::Problem, groups::page_limit, request, request::changes},
    router::Draft,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;
use proto::client;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use types::{AckPolicy, Code, Refusal};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(info, change_settings))
        .routes(routes!(members, change_members))
        .routes(routes!(leave))
        .routes(routes!(delete_messages))
}

/// A change that is in the chat, in every in-sync region.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatChanged)]
pub(super) struct Changed {
    /// Where its entry stands.
    #[schema(value_type = forms::Position)]
    position: String,
    /// Its number in the chat.
    offset: u64,
    /// The home's clock, in ms since 1970.
    accepted_at_ms: u64,
}

/// What a chat is now.
#[derive(Serialize, ToSchema)]
#[schema(as = ChatInfo)]
struct Info {
    /// The chat.
    #[schema(value_type = forms::LogId)]
    log: String,
    /// Ciphertext, base64; empty: none.
    name: String,
    /// A media id.
    #[schema(value_type = Option<forms::MediaId>)]
    avatar: Option<String>,
    /// How long messages stay, in ms; 0: for good.
    expiry_ms: u64,
    /// The lowest role that may add members and make invites.
    #[schema(value_type = Role)]
    inviters: String,
    /// The lowest role that may write.
    #[schema(value_type = Role)]
    writers: String,
    /// How many are in it.
    members: u32,
    /// What the caller is in it.
    #[schema(value_type = Role)]
    role: String,
    /// In ms since 1970.
    created_at_ms: u64,
}

/// What is to be different; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatSettings, example = json!({ "name": "aGVsbG8=", "expiry_ms": 86_400_000 }))]
struct Settings {
    /// Ciphertext, base64, at most 256 bytes; empty: none.
    #[serde(default)]
    #[schema(max_length = 344)]
    name: Option<String>,
    /// A media id; `null`: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<forms::MediaId>)]
    avatar: Option<Option<String>>,
    /// How long messages stay, in ms: at least 1,000; 0: for good.
    #[serde(default)]
    expiry_ms: Option<u64>,
    /// `member`, `admin` or `owner`.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    inviters: Option<String>,
    /// `member`, `admin` or `owner`.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
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
    #[schema(min_items = 1, max_items = 256)]
    changes: Vec<MemberChange>,
}

/// What becomes of one user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberChange {
    /// Who.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// `member`, `admin` or `owner`; `null`: the user is no member any more.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    role: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// The last user of the page before.
    #[serde(default)]
    #[param(value_type = forms::UserId, required = false)]
    after: String,
    /// 50 where it is left out; at most 500.
    #[serde(default)]
    #[param(minimum = 0, maximum = 500)]
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
    #[schema(value_type = forms::UserId)]
    user: String,
    /// `member`, `admin` or `owner`.
    #[schema(value_type = Role)]
    role: String,
    /// The offset of the entry by which the user came.
    joined_at: u64,
}

/// Messages whose bodies are to leave every store.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deletion {
    /// 1 to 256 messages.
    #[schema(min_items = 1, max_items = 256)]
    messages: Vec<Reference>,
}

/// A message, by what makes it one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MessageReference)]
struct Reference {
    /// Who wrote it.
    #[schema(value_type = forms::UserId)]
    sender: String,
    /// On which device, a number.
    #[serde(default)]
    #[schema(value_type = forms::DeviceId, required = false)]
    device: String,
    /// The device's name for it.
    #[schema(format = "uuid")]
    message_id: String,
}

/// What a member may do.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "the client protocol has roles as texts; this tells the document which there are"
)]
enum Role {
    /// Reads and writes.
    Member,
    /// Also changes members and terms.
    Admin,
    /// Also makes others owners.
    Owner,
}

/// Writes a change, and answers once it is `replicated`.
pub(super) async fn write(
    edge: &Edge,
    Caller { user, device }: Caller,
    message: Result<request::Message, Refusal>,
) -> Result<Response, Problem> {
    let message = message?;
    edge.0.admit_write(&user, device)?;
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

/// Tells what a chat is now.
#[utoipa::path(
    get, path = "/v1/chats/{id}", operation_id = "readChat", tag = "chats", params(ChatPath),
    responses((status = 200, description = "The chat.", body = Info), Refused<(Bearer, ChatRead)>),
)]
async fn info(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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

/// Changes the name, the picture or the terms of a chat.
#[utoipa::path(
    patch, path = "/v1/chats/{id}", operation_id = "changeChat", tag = "chats",
    params(ChatPath, RequestId), request_body = Settings,
    responses((status = 201, description = "It is changed.", body = Changed), Refused<(Bearer, ChatWrite)>),
)]
async fn change_settings(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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

/// Lists the members of a chat.
#[utoipa::path(
    get, path = "/v1/chats/{id}/members", operation_id = "listMembers", tag = "chats",
    params(ChatPath, PageQuery),
    responses((status = 200, description = "A page of them.", body = Members), Refused<(Bearer, ChatRead)>),
)]
async fn members(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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

/// Adds members, removes some, changes roles: all of it or nothing.
#[utoipa::path(
    post, path = "/v1/chats/{id}/members", operation_id = "changeMembers", tag = "chats",
    params(ChatPath, RequestId), request_body = MemberChanges,
    responses((status = 201, description = "It is done.", body = Changed), Refused<(Bearer, ChatWrite)>),
)]
async fn change_members(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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

/// Leaves a chat.
#[utoipa::path(
    post, path = "/v1/chats/{id}/leave", operation_id = "leaveChat", tag = "chats",
    params(ChatPath, RequestId),
    responses(
        (status = 201, description = "The caller is no member.", body = Changed),
        Refused<(Bearer, ChatWrite)>,
    ),
)]
async fn leave(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    caller: Caller,
    RequestId(id): RequestId,
) -> Result<Response, Problem> {
    let gone = client::MemberChange { user: caller.user.to_string(), role: String::new() };
    let wire = client::ChangeMembers { log, message_id: id.to_string(), changes: vec![gone] };
    write(&edge, caller, changes::members(&wire)).await
}

/// Deletes messages for everyone: the caller's own, an admin also those of others.
#[utoipa::path(
    post, path = "/v1/chats/{id}/deletions", operation_id = "deleteMessages", tag = "chats",
    params(ChatPath, RequestId), request_body = Deletion,
    responses(
        (status = 201, description = "Their bodies leave every store.", body = Changed),
        Refused<(Bearer, ChatWrite, NamedMessage)>,
    ),
)]
async fn delete_messages(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
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
