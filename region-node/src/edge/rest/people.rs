//! Other users: found by their names, seen as far as they let themselves be, kept as contacts, blocked.

use super::{
    Caller, bad, done, json,
    openapi::{
        forms,
        refused::{Bearer, OwnWrite, Refused, SomeAccount},
    },
    path::{At, UserPath},
    request_id::RequestId,
};
use crate::{
    accounts::{Kind, Person, Who},
    edge::{Edge, errors::Problem, request},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use types::{
    Code, Refusal, UserId, Username,
    account::{AccountChange, DisplayName},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Entries of a page where none are asked for, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(find))
        .routes(routes!(see))
        .routes(routes!(contacts))
        .routes(routes!(add_contact, remove_contact))
        .routes(routes!(blocked))
        .routes(routes!(block, unblock))
}

/// Whom to find.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Find {
    /// The whole name.
    #[param(value_type = forms::Username)]
    username: String,
}

/// What a user lets others see.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct Shown {
    /// Who it is in chats.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// What the user is found by.
    #[schema(value_type = forms::Username)]
    username: String,
    /// How the user wants to be called.
    #[schema(value_type = forms::DisplayName)]
    display_name: String,
    /// What the user says of themselves.
    #[schema(value_type = forms::About)]
    about: String,
    /// A picture.
    #[schema(value_type = Option<forms::MediaId>)]
    avatar: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// The last user of the page before.
    #[param(value_type = forms::UserId, required = false)]
    after: Option<String>,
    /// 100 where it is left out; at most 500.
    #[param(value_type = usize, required = false, minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// A page of contacts.
#[derive(Serialize, ToSchema)]
struct Contacts {
    /// By user.
    contacts: Vec<Contact>,
    /// There are more, behind the last one.
    has_more: bool,
}

/// A contact.
#[derive(Serialize, ToSchema)]
struct Contact {
    /// Who.
    #[schema(value_type = forms::UserId)]
    user: String,
    /// The caller's own name for that one.
    #[schema(value_type = Option<forms::DisplayName>)]
    name: Option<String>,
}

/// How the caller calls a contact.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ContactName {
    /// 1 to 128 bytes; none: as that one wants to be called.
    #[serde(default)]
    #[schema(value_type = Option<forms::DisplayName>)]
    name: Option<String>,
}

/// A page of users.
#[derive(Serialize, ToSchema)]
struct Users {
    /// In order.
    #[schema(value_type = Vec<forms::UserId>)]
    users: Vec<String>,
    /// There are more, behind the last one.
    has_more: bool,
}

fn shown(person: Person) -> Response {
    let Person { user, username, profile } = person;
    let shown = Shown {
        user: user.to_string(),
        username: username.into(),
        display_name: profile.display_name.into(),
        about: profile.about.into(),
        avatar: profile.avatar.map(Into::into),
    };
    Json(shown).into_response()
}

/// Finds a user by the whole username.
#[utoipa::path(
    get, path = "/v1/users", operation_id = "findUser", tag = "people", params(Find),
    responses((status = 200, description = "The user.", body = Shown), Refused<(Bearer, SomeAccount)>),
)]
async fn find(
    State(edge): State<Edge>,
    query: Result<Query<Find>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    let Query(asked) = query.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))?;
    edge.0.accounts.admit(Kind::LookUp, &Who::User(caller.user.clone()))?;
    let username = Username::new(&asked.username).map_err(bad)?;
    Ok(shown(edge.0.accounts.find(&caller.user, username).await?))
}

/// Shows a user.
#[utoipa::path(
    get, path = "/v1/users/{user}", operation_id = "seeUser", tag = "people", params(UserPath),
    responses((status = 200, description = "The user.", body = Shown), Refused<(Bearer, SomeAccount)>),
)]
async fn see(
    State(edge): State<Edge>,
    At(UserPath { user }): At<UserPath>,
    caller: Caller,
) -> Result<Response, Problem> {
    edge.0.accounts.admit(Kind::LookUp, &Who::User(caller.user.clone()))?;
    let user = request::user("user", &user)?;
    Ok(shown(edge.0.accounts.see(&caller.user, &user).await?))
}

/// Where a page begins, and how long it may be.
fn page(query: Result<Query<PageQuery>, QueryRejection>) -> Result<(Bound<UserId>, usize), Refusal> {
    let Query(asked) = query.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))?;
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refusal::new(
            Code::BadRequest,
            format!("limit is {limit}, not between 1 and {PAGE_MAX}"),
        ));
    }
    let after = asked.after.map(|after| request::user("after", &after)).transpose()?;
    Ok((after.map_or(Bound::Unbounded, Bound::Excluded), limit))
}

/// Lists the caller's contacts.
#[utoipa::path(
    get, path = "/v1/contacts", operation_id = "listContacts", tag = "people", params(PageQuery),
    responses((status = 200, description = "A page of them.", body = Contacts), Refused<(Bearer, SomeAccount)>),
)]
async fn contacts(
    State(edge): State<Edge>,
    query: Result<Query<PageQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    let (from, limit) = page(query)?;
    let open = edge.0.accounts.own(&caller.user).await?;
    let mut behind = open.contacts.range((from, Bound::Unbounded));
    let contact = |(user, name): (&UserId, &Option<DisplayName>)| Contact {
        user: user.to_string(),
        name: name.clone().map(Into::into),
    };
    let contacts = behind.by_ref().take(limit).map(contact).collect();
    Ok(Json(Contacts { contacts, has_more: behind.next().is_some() }).into_response())
}

/// Makes a user a contact, or gives a contact another name.
#[utoipa::path(
    put, path = "/v1/contacts/{user}", operation_id = "setContact", tag = "people",
    params(UserPath, RequestId), request_body = ContactName,
    responses((status = 204, description = "The user is a contact."), Refused<(Bearer, OwnWrite)>),
)]
async fn add_contact(
    State(edge): State<Edge>,
    At(UserPath { user: other }): At<UserPath>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: ContactName = json(body)?;
    let other = another(&user, &other)?;
    let name = asked.name.as_deref().map(DisplayName::new).transpose().map_err(bad)?;
    edge.0.accounts.admit(Kind::LookUp, &Who::User(user.clone()))?;
    edge.0.accounts.see(&user, &other).await?;
    edge.0.accounts.change(&user, device, request, AccountChange::ContactSet { user: other, name }).await?;
    Ok(done())
}

/// Makes a user no contact any more.
#[utoipa::path(
    delete, path = "/v1/contacts/{user}", operation_id = "removeContact", tag = "people",
    params(UserPath, RequestId),
    responses((status = 204, description = "The user is no contact."), Refused<(Bearer, OwnWrite)>),
)]
async fn remove_contact(
    State(edge): State<Edge>,
    At(UserPath { user: other }): At<UserPath>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    let change = AccountChange::ContactRemoved(another(&user, &other)?);
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

/// Lists whom the caller has blocked.
#[utoipa::path(
    get, path = "/v1/blocked", operation_id = "listBlocked", tag = "people", params(PageQuery),
    responses((status = 200, description = "A page of them.", body = Users), Refused<(Bearer, SomeAccount)>),
)]
async fn blocked(
    State(edge): State<Edge>,
    query: Result<Query<PageQuery>, QueryRejection>,
    caller: Caller,
) -> Result<Response, Problem> {
    let (from, limit) = page(query)?;
    let open = edge.0.accounts.own(&caller.user).await?;
    let mut behind = open.blocked.range((from, Bound::Unbounded));
    let users = behind.by_ref().take(limit).map(UserId::to_string).collect();
    Ok(Json(Users { users, has_more: behind.next().is_some() }).into_response())
}

/// Blocks a user: that one opens no direct chat with the caller, and does not see whether the caller is there.
#[utoipa::path(
    put, path = "/v1/blocked/{user}", operation_id = "blockUser", tag = "people", params(UserPath, RequestId),
    responses((status = 204, description = "The user is blocked."), Refused<(Bearer, OwnWrite)>),
)]
async fn block(
    State(edge): State<Edge>,
    At(UserPath { user: other }): At<UserPath>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    let change = AccountChange::Blocked(another(&user, &other)?);
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

/// Blocks a user no longer.
#[utoipa::path(
    delete, path = "/v1/blocked/{user}", operation_id = "unblockUser", tag = "people",
    params(UserPath, RequestId),
    responses((status = 204, description = "The user is not blocked."), Refused<(Bearer, OwnWrite)>),
)]
async fn unblock(
    State(edge): State<Edge>,
    At(UserPath { user: other }): At<UserPath>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    let change = AccountChange::Unblocked(another(&user, &other)?);
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

fn another(user: &UserId, other: &str) -> Result<UserId, Refusal> {
    let other = request::user("user", other)?;
    if other == *user {
        return Err(Refusal::new(Code::BadRequest, format!("{user} is the asking user")));
    }
    Ok(other)
}
