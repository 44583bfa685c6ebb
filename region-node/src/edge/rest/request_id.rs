//! The id under which a write may be repeated: drawn by the client.

use crate::edge::{Edge, errors::Problem};
use axum::{extract::FromRequestParts, http::request::Parts};
use types::{Code, MessageId, Refusal};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use uuid::Uuid;

/// Names a write whose body has no room for an id: a UUID. Without it each request is a write of its own, which may be
/// repeated all the same where the write says how something is to be.
const HEADER: &str = "idempotency-key";

/// The id of the header, or a fresh one.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestId(pub(super) MessageId);

impl FromRequestParts<Edge> for RequestId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Edge) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(HEADER) else {
            return Ok(Self(MessageId::from(host::random::id())));
        };
        let id = value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok());
        let id = id.ok_or_else(|| Refusal::new(Code::BadRequest, format!("header {HEADER} is no UUID")))?;
        Ok(Self(MessageId::from(drawn(id)?)))
    }
}

impl IntoParams for RequestId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = ParameterBuilder::new().name(HEADER).parameter_in(ParameterIn::Header);
        let uuid = ObjectBuilder::new().schema_type(Type::String);
        let uuid = uuid.format(Some(SchemaFormat::Custom("uuid".to_owned())));
        let header = header.required(Required::False).schema(Some(uuid)).description(Some(
            "Drawn by the client; the same for each repetition. Without it each request is a write of its own.",
        ));
        vec![header.build()]
    }
}

/// An id that a client can have drawn.
///
/// # Errors
/// `bad_request` for the nil UUID, which is what a client sends that has forgotten to draw one.
pub(super) fn drawn(id: Uuid) -> Result<Uuid, Refusal> {
    if id.is_nil() {
        return Err(Refusal::new(Code::BadRequest, "the request id is nil, and nobody has drawn it"));
    }
    Ok(id)
}
