//! A user's own account: names, profile, privacy, what chats are marked with; all of it as one document; its end.

use super::{
    Caller, bad, done, json,
    openapi::{
        forms,
        refused::{Bearer, NewNames as ClaimsNames, OwnWrite, Password, Refused, SomeAccount},
    },
    path::{At, ChatPath},
    request_id::{self, RequestId},
};
use crate::{
    accounts::{NewNames, export},
    edge::{Edge, errors::Problem, request},
};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Deserializer, Serialize};
use types::{
    Phone, Username,
    account::{About, AccountChange, Audience, ChatMarks, DisplayName, MediaId, OpenAccount, Privacy},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(read))
        .routes(routes!(change_profile))
        .routes(routes!(change_names))
        .routes(routes!(change_privacy))
        .routes(routes!(export_all))
        .routes(routes!(close))
        .routes(routes!(mark))
}

/// The caller's account.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
struct Own {
    /// Who the user is in chats.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// What the user is found by.
    #[schema(value_type = forms::Username)]
    username: String,
    /// Where the user has given it.
    #[schema(value_type = Option<forms::Phone>)]
    phone: Option<String>,
    /// How the user wants to be called.
    #[schema(value_type = forms::DisplayName)]
    display_name: String,
    /// What the user says of themselves.
    #[schema(value_type = forms::About)]
    about: String,
    /// A picture.
    #[schema(value_type = Option<forms::MediaId>)]
    avatar: Option<String>,
    /// Who sees what.
    privacy: PrivacyTerms,
}

/// Who sees what of a user.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PrivacyTerms {
    /// When the user was last there.
    last_seen: Seen,
    /// That the user is there now.
    online: Seen,
    /// Others are told what the user has read; who tells nobody is told nothing.
    receipts: bool,
}

/// Who sees something.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Seen {
    /// Whoever is not blocked.
    Everyone,
    /// Those whom the user has as contacts.
    Contacts,
    /// Nobody.
    Nobody,
}

impl From<Audience> for Seen {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Everyone => Self::Everyone,
            Audience::Contacts => Self::Contacts,
            Audience::Nobody => Self::Nobody,
        }
    }
}

impl From<Seen> for Audience {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Everyone => Self::Everyone,
            Seen::Contacts => Self::Contacts,
            Seen::Nobody => Self::Nobody,
        }
    }
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProfileChange {
    /// 1 to 128 bytes.
    #[serde(default)]
    #[schema(value_type = Option<forms::DisplayName>)]
    display_name: Option<String>,
    /// At most 512 bytes.
    #[serde(default)]
    #[schema(value_type = Option<forms::About>)]
    about: Option<String>,
    /// A picture; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<forms::MediaId>)]
    avatar: Option<Option<String>>,
}

/// Tells `null` from what is left out.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What the user says of a chat, for their own devices.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatMarks)]
struct Marks {
    /// No notification before this time, in ms since 1970; 0: not muted.
    #[serde(default)]
    muted_until_ms: u64,
    /// Out of the way.
    #[serde(default)]
    archived: bool,
    /// On top.
    #[serde(default)]
    pinned: bool,
    /// Of a request: it is not wanted. It is no more in the list, until it is answered or this is taken back.
    #[serde(default)]
    declined: bool,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NamesChange {
    /// 3 to 32 characters of `a-z0-9._`, beginning with a letter.
    #[serde(default)]
    #[schema(value_type = Option<forms::Username>)]
    username: Option<String>,
    /// E.164; null: none any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<forms::Phone>)]
    phone: Option<Option<String>>,
}

/// The end of the account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CloseAccount)]
struct Close {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// The user's.
    #[schema(max_length = 256, example = "correct horse battery")]
    password: String,
}

/// Reads the caller's account.
#[utoipa::path(
    get, path = "/v1/account", operation_id = "readAccount", tag = "account",
    responses((status = 200, description = "The account.", body = Own), Refused<(Bearer, SomeAccount)>),
)]
async fn read(State(edge): State<Edge>, caller: Caller) -> Result<Response, Problem> {
    let OpenAccount { names, profile, privacy, .. } = edge.0.accounts.own(&caller.user).await?;
    let own = Own {
        user: caller.user.to_string(),
        username: names.username.into(),
        phone: names.phone.map(Into::into),
        display_name: profile.display_name.into(),
        about: profile.about.into(),
        avatar: profile.avatar.map(Into::into),
        privacy: PrivacyTerms {
            last_seen: privacy.last_seen.into(),
            online: privacy.online.into(),
            receipts: privacy.receipts,
        },
    };
    Ok(Json(own).into_response())
}

/// Changes what others see of the caller.
#[utoipa::path(
    patch, path = "/v1/account/profile", operation_id = "changeProfile", tag = "account",
    params(RequestId), request_body = ProfileChange,
    responses((status = 204, description = "It is changed."), Refused<(Bearer, OwnWrite)>),
)]
async fn change_profile(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: ProfileChange = json(body)?;
    let mut profile = edge.0.accounts.own(&user).await?.profile;
    if let Some(name) = asked.display_name {
        profile.display_name = DisplayName::new(&name).map_err(bad)?;
    }
    if let Some(about) = asked.about {
        profile.about = About::new(&about).map_err(bad)?;
    }
    if let Some(avatar) = asked.avatar {
        profile.avatar = avatar.as_deref().map(MediaId::new).transpose().map_err(bad)?;
    }
    edge.0.accounts.change(&user, device, request, AccountChange::ProfileChanged(profile)).await?;
    Ok(done())
}

/// Changes what the caller is found and logs in by.
///
/// The names of before rest for a while, and are the caller's to have back.
#[utoipa::path(
    patch, path = "/v1/account/names", operation_id = "changeNames", tag = "account",
    params(RequestId), request_body = NamesChange,
    responses((status = 204, description = "They are changed."), Refused<(Bearer, ClaimsNames, OwnWrite)>),
)]
async fn change_names(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: NamesChange = json(body)?;
    let username = asked.username.as_deref().map(Username::new).transpose().map_err(bad)?;
    let phone = asked.phone.map(|phone| phone.as_deref().map(Phone::new).transpose());
    let phone = phone.transpose().map_err(bad)?;
    edge.0.accounts.rename(&user, device, request, NewNames { username, phone }).await?;
    Ok(done())
}

/// Says who sees what of the caller.
#[utoipa::path(
    put, path = "/v1/account/privacy", operation_id = "changePrivacy", tag = "account",
    params(RequestId), request_body = PrivacyTerms,
    responses((status = 204, description = "It is changed."), Refused<(Bearer, OwnWrite)>),
)]
async fn change_privacy(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: PrivacyTerms = json(body)?;
    let privacy =
        Privacy { last_seen: asked.last_seen.into(), online: asked.online.into(), receipts: asked.receipts };
    edge.0.accounts.change(&user, device, request, AccountChange::PrivacyChanged(privacy)).await?;
    Ok(done())
}

/// Mutes, archives or pins a chat, for the caller's own devices.
#[utoipa::path(
    put, path = "/v1/chats/{id}/marks", operation_id = "markChat", tag = "account",
    params(ChatPath, RequestId), request_body = Marks,
    responses((status = 204, description = "It is marked."), Refused<(Bearer, OwnWrite)>),
)]
async fn mark(
    State(edge): State<Edge>,
    At(ChatPath { id: log }): At<ChatPath>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Marks { muted_until_ms, archived, pinned, declined } = json(body)?;
    let marks = ChatMarks { muted_until_ms, archived, pinned, declined };
    let change = AccountChange::ChatMarked { chat: request::log(&log)?, marks };
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

/// Tells all that is kept of the caller's account, but its secrets.
#[utoipa::path(
    get, path = "/v1/account/export", operation_id = "exportAccount", tag = "account",
    responses((status = 200, description = "One document.", body = Object), Refused<(Bearer, SomeAccount)>),
)]
async fn export_all(State(edge): State<Edge>, caller: Caller) -> Result<Response, Problem> {
    let open = edge.0.accounts.own(&caller.user).await?;
    let headers = [
        (header::CONTENT_DISPOSITION, "attachment; filename=\"account.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Json(export(&caller.user, &open))).into_response())
}

/// Ends the caller's account, for good.
///
/// All that it says is erased, and its names are free for others after a while.
#[utoipa::path(
    post, path = "/v1/account/close", operation_id = "closeAccount", tag = "account", request_body = Close,
    responses((status = 204, description = "It has ended."), Refused<(Bearer, Password, OwnWrite)>),
)]
async fn close(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: Close = json(body)?;
    let request = request_id::drawn(asked.request_id)?;
    edge.0.accounts.close(&user, device, request, &asked.password).await?;
    Ok(done())
}
