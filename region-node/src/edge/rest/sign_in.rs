//! Registering, logging in and out, going on, and the password.

use super::{
    Caller, bad,
    caller::Origin,
    device_text, done, json,
    request_id::{self, RequestId},
};
use crate::{
    accounts::{Credentials, Kind, LoggedIn, NewPassword, Wish},
    edge::{Edge, errors::Problem},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use types::{
    Name, Phone, Username,
    account::{DeviceName, DisplayName, Names},
};
use utoipa::ToSchema;
use uuid::Uuid;

pub(super) fn routes() -> Router<Edge> {
    Router::new()
        .route("/v1/register", post(register))
        .route("/v1/login", post(log_in))
        .route("/v1/refresh", post(refresh))
        .route("/v1/logout", post(log_out))
        .route("/v1/password", post(change_password))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// 3 to 32 of `a-z`, `0-9`, `.` and `_`, the first a letter. Capitals are taken for small letters.
    username: String,
    /// 8 characters at least, 256 bytes at most.
    password: String,
    /// How the user wants to be called: 1 to 128 bytes.
    display_name: String,
    /// What the user calls this device: 1 to 64 bytes.
    device_name: String,
    /// As E.164 writes it, with its `+`.
    #[serde(default)]
    phone: Option<String>,
}

/// A device that logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// A username or a phone number.
    name: String,
    /// The user's.
    password: String,
    /// What the user calls this device: 1 to 64 bytes.
    device_name: String,
}

/// A device that goes on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The last one that the device was given.
    refresh_token: String,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// The one until now.
    old_password: String,
    /// The one from now on: 8 characters at least, 256 bytes at most.
    new_password: String,
    /// The user's other devices stay logged in.
    #[serde(default)]
    keep_devices: bool,
}

/// A device is logged in.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// Who the user is in chats.
    user: String,
    /// The device's number.
    device: String,
    /// Shown with each request (`Authorization: Bearer …`) and in `hello`.
    access_token: String,
    /// Until when it counts, in ms since 1970.
    access_token_until_ms: u64,
    /// Gets the next access token. Absent: the device keeps the one that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

fn signed_in(status: StatusCode, logged_in: LoggedIn) -> Response {
    let LoggedIn { bearer, access, refresh } = logged_in;
    let answer = SignedIn {
        user: bearer.user.to_string(),
        device: device_text(bearer.device),
        access_token: access,
        access_token_until_ms: bearer.until_ms,
        refresh_token: refresh,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

async fn register(
    State(edge): State<Edge>,
    from: Origin,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    edge.0.accounts.admit(Kind::Register, &from.who())?;
    let asked: Register = json(body)?;
    let wish = Wish {
        request: request_id::drawn(asked.request_id)?,
        names: Names {
            username: Username::new(&asked.username).map_err(bad)?,
            phone: asked.phone.as_deref().map(Phone::new).transpose().map_err(bad)?,
        },
        password: asked.password,
        display_name: DisplayName::new(&asked.display_name).map_err(bad)?,
        device: DeviceName::new(&asked.device_name).map_err(bad)?,
    };
    Ok(signed_in(StatusCode::CREATED, edge.0.accounts.register(wish).await?))
}

async fn log_in(
    State(edge): State<Edge>,
    from: Origin,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    edge.0.accounts.admit(Kind::LogIn, &from.who())?;
    let asked: LogIn = json(body)?;
    let credentials = Credentials {
        request: request_id::drawn(asked.request_id)?,
        name: Name::new(&asked.name).map_err(bad)?,
        password: asked.password,
        device: DeviceName::new(&asked.device_name).map_err(bad)?,
    };
    Ok(signed_in(StatusCode::OK, edge.0.accounts.log_in(credentials).await?))
}

async fn refresh(
    State(edge): State<Edge>,
    from: Origin,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    edge.0.accounts.admit(Kind::Refresh, &from.who())?;
    let asked: Refresh = json(body)?;
    Ok(signed_in(StatusCode::OK, edge.0.accounts.refresh(&asked.refresh_token).await?))
}

async fn log_out(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    edge.0.accounts.revoke(&user, device, request, vec![device]).await?;
    Ok(done())
}

async fn change_password(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: ChangePassword = json(body)?;
    let change = NewPassword {
        request: request_id::drawn(asked.request_id)?,
        old: asked.old_password,
        new: asked.new_password,
        keep_devices: asked.keep_devices,
    };
    edge.0.accounts.change_password(&user, device, change).await?;
    Ok(done())
}
