//! The OpenAPI document of REST, at `/v1/openapi.json`: made of what stands beside each handler.
//!
//! Invariants:
//! - There is no route without its description: areas give an [`OpenApiRouter`], which takes a handler only with one
//!   (its `route`, which takes any, is refused by clippy.toml).
//! - What an operation is refused with is told by the parts that it is made of ([`Refused`]), in statuses that
//!   `edge::errors` gives to their codes.
//! - A text of a kind (a user, a chat, a position …) has one schema: [`forms`].
//! - Bodies that are messages of the client protocol have the schemas of the .proto files: [`messages`].

pub(super) mod forms;
mod messages;
pub(super) mod refused;

use crate::edge::errors;
use axum::{
    Extension,
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use types::Code;
use utoipa::{
    OpenApi,
    openapi::{
        OpenApi as Document, RefOr, SecurityRequirement,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Who asks: an access token.
const BEARER: &str = "access_token";
/// Who asks, in development mode: a name.
const NAMED: &str = "development_user";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hearth",
        description = "REST of a messaging backend in many regions: what needs no session. Every node of every region \
            answers every call. What is live (new entries, receipts, typing, presence) comes over the WebSocket at \
            `/v1/ws`, as the client protocol says, and for those who have none, but for presence, by `/v1/sync` and \
            `/v1/events`. A refusal is an RFC 9457 problem with a stable `code`. A write that \
            was answered `indeterminate`, or not at all, is repeated with the same id.",
    ),
    tags(
        (name = "sign-in", description = "Registering, logging in and out."),
        (name = "devices", description = "The devices of a user."),
        (name = "account", description = "A user's own account."),
        (name = "people", description = "Other users."),
        (name = "chats", description = "Chats and their messages."),
        (name = "events", description = "What is next, without a WebSocket."),
        (name = "about", description = "This document."),
    ),
    components(schemas(errors::Body)),
)]
struct Skeleton;

/// The document before it has any operation.
pub(super) fn skeleton(development: bool) -> Document {
    let mut api = Skeleton::openapi();
    let components = api.components.get_or_insert_default();
    components.schemas.extend(forms::all());
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "The access token that registering, logging in or refreshing answers; it counts for 10 minutes at most.",
    ));
    components.add_security_scheme(BEARER, RefOr::T(SecurityScheme::Http(token.build())));
    let mut security = vec![SecurityRequirement::new::<_, [String; 0], String>(BEARER, [])];
    if development {
        let says = "In development mode: whoever says a name. `x-hearth-device` names the device, a number.";
        let key = ApiKey::Header(ApiKeyValue::with_description("x-hearth-user", says));
        components.add_security_scheme(NAMED, RefOr::T(SecurityScheme::ApiKey(key)));
        security.push(SecurityRequirement::new::<_, [String; 0], String>(NAMED, []));
    }
    api.security = Some(security);
    api
}

/// The route of the document, for the operations that it describes, and itself.
pub(super) fn route(mut api: Document) -> Result<axum::Router, serde_json::Error> {
    let (own, described) = OpenApiRouter::new().routes(routes!(read)).split_for_parts();
    api.merge(described);
    let document = Bytes::from(serde_json::to_vec(&complete(&api)?)?);
    Ok(own.layer(Extension(Told(document))))
}

/// The document as clients see it.
fn complete(api: &Document) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(api)?;
    messages::add(&mut document)?;
    let said = |code: &Code| format!("- `{code}`: {}", code.meaning());
    let said: Vec<String> = Code::ALL.iter().map(said).collect();
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    document["components"]["schemas"]["Problem"]["properties"]["code"] = json!({
        "type": "string",
        "enum": names,
        "description": format!("What kind of refusal it is. Codes are added, never renamed.\n{}", said.join("\n")),
    });
    Ok(document)
}

#[derive(Debug, Clone)]
struct Told(Bytes);

/// Tells this document.
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "readOpenApi", tag = "about", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Value)),
)]
async fn read(Extension(Told(document)): Extension<Told>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}

#[cfg(test)]
mod tests;
