//! A user's own account: names, profile, privacy, what chats are marked with; all of it as one document; its end.

use super::{
    Caller, bad, done, json,
    request_id::{self, RequestId},
};
use crate::{
    accounts::export,
    edge::{Edge, errors::Problem, request},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use serde::{Deserialize, Deserializer, Serialize};
use types::account::{About, AccountChange, Audience, ChatMarks, DisplayName, MediaId, OpenAccount, Privacy};
use utoipa::ToSchema;
use uuid::Uuid;

pub(super) fn routes() -> Router<Edge> {
    Router::new()
        .route("/v1/account", get(read))
        .route("/v1/account/profile", patch(change_profile))
        .route("/v1/account/privacy", put(change_privacy))
        .route("/v1/account/export", get(export_all))
        .route("/v1/account/close", post(close))
        .route("/v1/chats/{id}/marks", put(mark))
}

/// The caller's account.
#[derive(Serialize, ToSchema)]
struct Own {
    /// Who the user is in chats.
    user: String,
    /// What the user is found by.
    username: String,
    /// Where the user has given it.
    phone: Option<String>,
    /// How the user wants to be called.
    display_name: String,
    /// What the user says of themselves.
    about: String,
    /// A picture.
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
    display_name: Option<String>,
    /// At most 512 bytes.
    #[serde(default)]
    about: Option<String>,
    /// A picture; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    avatar: Option<Option<String>>,
}

/// Tells `null` from what is left out.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What the user says of a chat, for their own devices.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
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
}

/// The end of the account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Close {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// The user's.
    password: String,
}

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

async fn mark(
    State(edge): State<Edge>,
    Path(log): Path<String>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Marks { muted_until_ms, archived, pinned } = json(body)?;
    let marks = ChatMarks { muted_until_ms, archived, pinned };
    let change = AccountChange::ChatMarked { chat: request::log(&log)?, marks };
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

async fn export_all(State(edge): State<Edge>, caller: Caller) -> Result<Response, Problem> {
    let open = edge.0.accounts.own(&caller.user).await?;
    let headers = [
        (header::CONTENT_DISPOSITION, "attachment; filename=\"account.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Json(export(&caller.user, &open))).into_response())
}

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
