//! The devices of a user.

use super::{
    Caller, bad, device_text, done, json,
    openapi::{
        forms,
        refused::{Bearer, NamedDevice, OwnWrite, Refused, SomeAccount},
    },
    path::{At, DevicePath},
    request_id::RequestId,
};
use crate::edge::{Edge, errors::Problem};
use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use types::{
    Code, DeviceId, Refusal,
    account::{AccountChange, DeviceName},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(list, revoke_others)).routes(routes!(rename, revoke))
}

/// A user's devices, all of them: there are 16 at most.
#[derive(Serialize, ToSchema)]
struct Devices {
    /// By number.
    devices: Vec<Device>,
}

/// A device that is logged in.
#[derive(Serialize, ToSchema)]
struct Device {
    /// Its number.
    #[schema(value_type = forms::DeviceId)]
    device: String,
    /// What the user calls it.
    #[schema(value_type = forms::DeviceName)]
    name: String,
    /// Since when it is logged in, in ms since 1970.
    added_at_ms: u64,
    /// Since when it has its refresh token, in ms since 1970: at most a day before it was last there.
    token_at_ms: u64,
    /// It is the one that asks.
    is_this: bool,
}

/// Another name for a device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rename {
    /// 1 to 64 bytes.
    #[schema(value_type = forms::DeviceName)]
    name: String,
}

/// Lists the caller's devices.
#[utoipa::path(
    get, path = "/v1/devices", operation_id = "listDevices", tag = "devices",
    responses((status = 200, description = "All of them.", body = Devices), Refused<(Bearer, SomeAccount)>),
)]
async fn list(State(edge): State<Edge>, caller: Caller) -> Result<Response, Problem> {
    let open = edge.0.accounts.own(&caller.user).await?;
    let devices = open.devices.into_iter().map(|(device, known)| Device {
        device: device_text(device),
        name: known.name.into(),
        added_at_ms: known.added_at_ms,
        token_at_ms: known.token_at_ms,
        is_this: device == caller.device,
    });
    Ok(Json(Devices { devices: devices.collect() }).into_response())
}

/// Gives a device another name.
#[utoipa::path(
    patch, path = "/v1/devices/{device}", operation_id = "renameDevice", tag = "devices",
    params(DevicePath, RequestId), request_body = Rename,
    responses((status = 204, description = "It has the name."), Refused<(Bearer, OwnWrite, NamedDevice)>),
)]
async fn rename(
    State(edge): State<Edge>,
    At(DevicePath { device }): At<DevicePath>,
    Caller { user, device: by }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: Rename = json(body)?;
    let change = AccountChange::DeviceRenamed {
        device: numbered(&device)?,
        name: DeviceName::new(&asked.name).map_err(bad)?,
    };
    edge.0.accounts.change(&user, by, request, change).await?;
    Ok(done())
}

/// Logs a device out.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", operation_id = "revokeDevice", tag = "devices",
    params(DevicePath, RequestId),
    responses((status = 204, description = "It is logged out."), Refused<(Bearer, OwnWrite, NamedDevice)>),
)]
async fn revoke(
    State(edge): State<Edge>,
    At(DevicePath { device }): At<DevicePath>,
    Caller { user, device: by }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    edge.0.accounts.revoke(&user, by, request, vec![numbered(&device)?]).await?;
    Ok(done())
}

/// Logs every device out but the asking one.
#[utoipa::path(
    delete, path = "/v1/devices", operation_id = "revokeOtherDevices", tag = "devices",
    responses((status = 204, description = "They are logged out."), Refused<(Bearer, OwnWrite, NamedDevice)>),
)]
async fn revoke_others(
    State(edge): State<Edge>,
    Caller { user, device }: Caller,
) -> Result<Response, Problem> {
    edge.0.accounts.revoke_others(&user, device).await?;
    Ok(done())
}

fn numbered(text: &str) -> Result<DeviceId, Refusal> {
    let number = text.parse().map_err(|_| {
        let text: String = text.chars().take(80).collect();
        Refusal::new(Code::BadRequest, format!("device {text:?} is not a number"))
    })?;
    Ok(DeviceId::new(number))
}
