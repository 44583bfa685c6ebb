//! Who asks: the one place that tells.

use crate::{
    accounts::{Address, Who},
    edge::{Connection, Edge, errors::Problem, request},
};
use axum::{
    extract::{FromRequestParts, connect_info::ConnectInfo},
    http::{HeaderMap, header, request::Parts},
};
use std::{convert::Infallible, net::Ipv4Addr};
use types::{Code, DeviceId, Refusal, UserId};

/// Names the user, in development mode.
const USER_HEADER: &str = "x-hearth-user";
/// Names the device, in development mode: a number; absent: 0.
const DEVICE_HEADER: &str = "x-hearth-device";
const SCHEME: &str = "Bearer ";

/// A user on a device: whom the access token of the request stands for, or, in development mode, whoever the headers
/// name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) user: UserId,
    /// The device.
    pub(crate) device: DeviceId,
}

/// A caller, and how long the access token counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    /// Who.
    pub(crate) caller: Caller,
    /// In ms since 1970; `None`: there is no token, in development mode.
    pub(crate) until_ms: Option<u64>,
}

impl FromRequestParts<Edge> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        Present::from_request_parts(parts, edge).await.map(|present| present.caller)
    }
}

impl FromRequestParts<Edge> for Present {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        if let Some(token) = bearer(&parts.headers)? {
            let bearer = edge.0.accounts.bearer(token).await?;
            let caller = Caller { user: bearer.user, device: bearer.device };
            return Ok(Self { caller, until_ms: Some(bearer.until_ms) });
        }
        if !edge.0.parts.config.development {
            let why = "header authorization is missing: a user is known by name only in development mode";
            return Err(Refusal::new(Code::Unauthenticated, why).into());
        }
        Ok(Self { caller: named(&parts.headers)?, until_ms: None })
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().ok();
    let is_bearer =
        |text: &&str| text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
    match text.filter(is_bearer) {
        Some(text) => Ok(Some(text[SCHEME.len()..].trim())),
        None => Err(Refusal::new(Code::Unauthenticated, "header authorization is not of the kind Bearer")),
    }
}

fn named(headers: &HeaderMap) -> Result<Caller, Refusal> {
    let Some(user) = headers.get(USER_HEADER) else {
        return Err(Refusal::new(Code::Unauthenticated, format!("header {USER_HEADER} is missing")));
    };
    let user = request::user(USER_HEADER, &String::from_utf8_lossy(user.as_bytes()))?;
    let device = match headers.get(DEVICE_HEADER) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let why = format!("header {DEVICE_HEADER} is {value:?}, and must be a number");
            Refusal::new(Code::BadRequest, why)
        })?,
    };
    Ok(Caller { user, device: DeviceId::new(device) })
}

/// Where a request comes from, as far as this node sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin(Address);

impl Origin {
    pub(super) const fn who(self) -> Who {
        Who::Address(self.0)
    }
}

impl FromRequestParts<Edge> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Edge) -> Result<Self, Infallible> {
        let connection = parts.extensions.get::<ConnectInfo<Connection>>();
        let address = connection.map_or(Ipv4Addr::UNSPECIFIED.into(), |info| info.0.address());
        Ok(Self(Address::from(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_its_header() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            bearer(&headers).map(|token| token.map(str::to_owned)).map_err(|refusal| refusal.code)
        };
        assert_eq!(header("Bearer abc"), Ok(Some("abc".to_owned())));
        assert_eq!(header("bearer abc "), Ok(Some("abc".to_owned())));
        assert_eq!(header("Basic abc"), Err(Code::Unauthenticated));
        assert_eq!(header("Bearer"), Err(Code::Unauthenticated));
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
    }
}
