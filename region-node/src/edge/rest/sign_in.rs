//! Registering, logging in and out, going on, and the password.

use super::{
    Caller, bad,
    caller::Origin,
    device_text, done, json,
    openapi::{
        forms,
        refused::{Bearer, Body, NamedDevice, NewNames, OwnWrite, Password, Refused, Token},
    },
    request_id::{self, RequestId},
};
use crate::{
    accounts::{Credentials, Kind, LoggedIn, NewPassword, Wish},
    edge::{Edge, errors::Problem},
};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use types::{
    Name, Phone, Username,
    account::{DeviceName, DisplayName, Names},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(log_in))
        .routes(routes!(refresh))
        .routes(routes!(log_out))
        .routes(routes!(change_password))
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// 3 to 32 of `a-z`, `0-9`, `.` and `_`, the first a letter. Capitals are taken for small letters.
    #[schema(value_type = forms::Username)]
    username: String,
    /// 8 characters at least, 256 bytes at most.
    #[schema(value_type = forms::Password)]
    password: String,
    /// How the user wants to be called: 1 to 128 bytes.
    #[schema(value_type = forms::DisplayName)]
    display_name: String,
    /// What the user calls this device: 1 to 64 bytes.
    #[schema(value_type = forms::DeviceName)]
    device_name: String,
    /// As E.164 writes it, with its `+`.
    #[serde(default)]
    #[schema(value_type = Option<forms::Phone>)]
    phone: Option<String>,
}

/// A device that logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// A username or a phone number.
    #[schema(min_length = 3, max_length = 32, example = "alice")]
    name: String,
    /// The user's.
    #[schema(max_length = 256, example = "correct horse battery")]
    password: String,
    /// What the user calls this device: 1 to 64 bytes.
    #[schema(value_type = forms::DeviceName)]
    device_name: String,
}

/// A device that goes on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The last one that the device was given.
    #[schema(max_length = 512)]
    refresh_token: String,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    /// Drawn by the client; the same for each repetition.
    request_id: Uuid,
    /// The one until now.
    #[schema(max_length = 256, example = "correct horse battery")]
    old_password: String,
    /// The one from now on: 8 characters at least, 256 bytes at most.
    #[schema(value_type = forms::Password)]
    new_password: String,
    /// The user's other devices stay logged in.
    #[serde(default)]
    keep_devices: bool,
}

/// A device is logged in.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// Who the user is in chats.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// The device's number.
    #[schema(value_type = forms::DeviceId)]
    device: String,
    /// Shown with each request (`Authorization: Bearer …`) and in `hello`.
    access_token: String,
    /// Until when it counts, in ms since 1970.
    access_token_until_ms: u64,
    /// Gets the next access token. Absent: the device keeps the one that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
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

/// Registers a user, and logs the first device in.
///
/// Repeating it with the same `request_id` answers the same user.
#[utoipa::path(
    post, path = "/v1/register", operation_id = "register", tag = "sign-in", security(()),
    request_body = Register,
    responses(
        (status = 201, description = "The user is there, in every in-sync region.", body = SignedIn),
        Refused<(Body, NewNames)>,
    ),
)]
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

/// Logs another device in.
///
/// Repeating it with the same `request_id` answers the same device.
#[utoipa::path(
    post, path = "/v1/login", operation_id = "logIn", tag = "sign-in", security(()),
    request_body = LogIn,
    responses(
        (status = 200, description = "The device is logged in.", body = SignedIn),
        Refused<(Password, OwnWrite)>,
    ),
)]
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

/// Gets the next access token.
#[utoipa::path(
    post, path = "/v1/refresh", operation_id = "refresh", tag = "sign-in", security(()),
    request_body = Refresh,
    responses(
        (status = 200, description = "The device goes on.", body = SignedIn),
        Refused<(Token, OwnWrite)>,
    ),
)]
async fn refresh(
    State(edge): State<Edge>,
    from: Origin,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    edge.0.accounts.admit(Kind::Refresh, &from.who())?;
    let asked: Refresh = json(body)?;
    Ok(signed_in(StatusCode::OK, edge.0.accounts.refresh(&asked.refresh_token).await?))
}

/// Logs the asking device out.
#[utoipa::path(
    post, path = "/v1/logout", operation_id = "logOut", tag = "sign-in", params(RequestId),
    responses((status = 204, description = "It is logged out."), Refused<(Bearer, OwnWrite, NamedDevice)>),
)]
async fn log_out(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    edge.0.accounts.revoke(&user, device, request, vec![device]).await?;
    Ok(done())
}

/// Changes the password, and logs the other devices out unless they are to stay.
#[utoipa::path(
    post, path = "/v1/password", operation_id = "changePassword", tag = "sign-in",
    request_body = ChangePassword,
    responses((status = 204, description = "It is changed."), Refused<(Bearer, Password, OwnWrite)>),
)]
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
