//! What stands in the path of a request.

use super::openapi::forms;
use crate::edge::{Edge, errors::Problem};
use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};
use types::{Code, Refusal};
use utoipa::IntoParams;

/// The parts of a path that have names; a path that cannot be read is refused as anything else is.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Edge> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, edge).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(error) => {
                Err(Refusal::new(Code::BadRequest, format!("the path: {}", error.body_text())).into())
            }
        }
    }
}

/// A chat.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ChatPath {
    /// The chat.
    #[param(value_type = forms::LogId)]
    pub(super) id: String,
}

/// An invite of a chat.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct InvitePath {
    /// The chat.
    #[param(value_type = forms::LogId)]
    pub(super) id: String,
    /// The invite.
    #[param(value_type = forms::InviteId)]
    pub(super) invite: String,
}

/// A user.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct UserPath {
    /// The user.
    #[param(value_type = forms::UserId)]
    pub(super) user: String,
}

/// A device of the caller.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct DevicePath {
    /// The device.
    #[param(value_type = forms::DeviceId)]
    pub(super) device: String,
}
