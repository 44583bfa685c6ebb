//! What refusals are over HTTP (RFC 9457), and with which close codes a session ends.

use super::rest::Position;
use crate::{delivery::token, service::ReadRefusal};
use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use proto::client;
use serde::Serialize;
use types::{Code, LogId, Refusal};
use utoipa::ToSchema;

/// Close codes of the WebSocket protocol, and Hearth's own from 4000 on.
pub(crate) mod close {
    /// The node is going down.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// What came breaks the WebSocket protocol.
    pub(crate) const PROTOCOL_ERROR: u16 = 1002;
    /// A frame over the limit.
    pub(crate) const TOO_BIG: u16 = 1009;
    /// No sign of life from the client.
    pub(crate) const SILENT: u16 = 4000;
    /// Nobody has said who this is, or may not be this.
    pub(crate) const UNAUTHENTICATED: u16 = 4001;
    /// The protocol version is not spoken here.
    pub(crate) const UNSUPPORTED_VERSION: u16 = 4002;
    /// The device was logged out.
    pub(crate) const REVOKED: u16 = 4003;
}

/// The status that tells a refusal.
pub(crate) const fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest
        | Code::UnsupportedVersion
        | Code::UnknownRegion
        | Code::PositionMalformed
        | Code::PositionOfOtherChat
        | Code::PositionUnknown => StatusCode::BAD_REQUEST,
        Code::Unauthenticated | Code::TokenExpired | Code::BadCredentials | Code::DeviceRevoked => {
            StatusCode::UNAUTHORIZED
        }
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::UnknownChat
        | Code::UnknownAccount
        | Code::UnknownDevice
        | Code::UnknownMessage
        | Code::UnknownInvite => StatusCode::NOT_FOUND,
        Code::ChatExists
        | Code::AccountExists
        | Code::NameTaken
        | Code::Conflict
        | Code::Diverged
        | Code::MessageIdReused
        | Code::OutOfOrder => StatusCode::CONFLICT,
        Code::Expired => StatusCode::GONE,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Overloaded | Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Behind | Code::HomeUnavailable | Code::DirectoryUnavailable | Code::NotReady => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Indeterminate => StatusCode::GATEWAY_TIMEOUT,
        // A code that is added later is told as a defect until it stands here.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal, with the common position where it is `diverged`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) refusal: Refusal,
    pub(crate) common: Option<String>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, common: None }
    }
}

impl Problem {
    /// What a read of `log` was refused for.
    pub(crate) fn of_read(log: LogId, refusal: ReadRefusal) -> Self {
        match refusal {
            ReadRefusal::Refused(refusal) => refusal.into(),
            ReadRefusal::Diverged { common } => {
                let why = format!(
                    "the position was undone by a failover; history of {log} is shared up to {common}"
                );
                Self { refusal: Refusal::new(Code::Diverged, why), common: Some(token(log, common)) }
            }
            ReadRefusal::Ahead => {
                Refusal::new(Code::Behind, format!("this replica of {log} does not hold the position yet"))
                    .into()
            }
            ReadRefusal::NotHere(error) => Refusal::new(Code::HomeUnavailable, error.to_string()).into(),
        }
    }

    /// The same as a frame's content.
    pub(crate) fn into_client(self) -> client::Error {
        client::Error { common: self.common, ..proto::client_error(&self.refusal) }
    }
}

/// Why a request was refused (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// A URI for each code.
    #[schema(format = "uri", example = "urn:hearth:error:name_taken")]
    r#type: String,
    /// The code in words.
    #[schema(example = "name taken")]
    title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599, example = 409)]
    status: u16,
    /// A sentence for people, naming the offending value.
    #[schema(example = "alice is taken")]
    detail: String,
    /// What kind of refusal it is.
    #[schema(value_type = String)]
    code: Code,
    /// The same request can succeed later without being changed.
    retryable: bool,
    /// The write may have happened; repeating it with the same id is safe.
    indeterminate: bool,
    /// When a repetition makes sense, in ms from now; left out where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    retry_after_ms: Option<u64>,
    /// With code `diverged`: up to where history is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Position, required = false)]
    common: Option<String>,
}

/// The same as `Retry-After`, in ms: in whole seconds, all who were refused within one would come back at once.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Refusal { code, message, retry_after_ms } = self.refusal;
        let status = status(code);
        let body = Body {
            r#type: format!("urn:hearth:error:{code}"),
            title: code.as_str().replace('_', " "),
            status: status.as_u16(),
            detail: message,
            code,
            retryable: code.is_retryable(),
            indeterminate: code.is_indeterminate(),
            retry_after_ms,
            common: self.common,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(retry_after_ms) = retry_after_ms {
            headers.insert(header::RETRY_AFTER, retry_after_ms.div_ceil(1_000).into());
            headers.insert(RETRY_AFTER_MS, retry_after_ms.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_defect_is_told_as_one() {
        for code in Code::ALL {
            let is_defect = status(*code) == StatusCode::INTERNAL_SERVER_ERROR;
            assert_eq!(is_defect, *code == Code::Internal, "{code}");
        }
    }

    #[test]
    fn a_problem_says_when_to_come_back() {
        let problem = Problem::from(Refusal::new(Code::HomeUnavailable, "gone").retry_after_ms(1_200));
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[RETRY_AFTER_MS], "1200");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
