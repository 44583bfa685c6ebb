//! Other users: found by their names, seen as far as they let themselves be, kept as contacts, blocked.

use super::{Caller, bad, done, json, request_id::RequestId};
use crate::{
    accounts::{Kind, Person, Who},
    edge::{Edge, errors::Problem, request},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State, rejection::BytesRejection, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use types::{
    Code, Refusal, UserId, Username,
    account::{AccountChange, DisplayName},
};
use utoipa::{IntoParams, ToSchema};

/// Entries of a page where none are asked for, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

pub(super) fn routes() -> Router<Edge> {
    Router::new()
        .route("/v1/users", get(find))
        .route("/v1/users/{user}", get(see))
        .route("/v1/contacts", get(contacts))
        .route("/v1/contacts/{user}", put(add_contact).delete(remove_contact))
        .route("/v1/blocked", get(blocked))
        .route("/v1/blocked/{user}", put(block).delete(unblock))
}

/// Whom to find.
#[derive(Deserialize, IntoParams)]
struct Find {
    /// The whole name.
    username: String,
}

/// What a user lets others see.
#[derive(Serialize, ToSchema)]
struct Shown {
    /// Who it is in chats.
    user: String,
    /// What the user is found by.
    username: String,
    /// How the user wants to be called.
    display_name: String,
    /// What the user says of themselves.
    about: String,
    /// A picture.
    avatar: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
struct PageQuery {
    /// The last user of the page before.
    after: Option<String>,
    /// 100 where it is left out; at most 500.
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
    user: String,
    /// The caller's own name for that one.
    name: Option<String>,
}

/// How the caller calls a contact.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ContactName {
    /// 1 to 128 bytes; none: as that one wants to be called.
    #[serde(default)]
    name: Option<String>,
}

/// A page of users.
#[derive(Serialize, ToSchema)]
struct Users {
    /// In order.
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

async fn see(
    State(edge): State<Edge>,
    Path(user): Path<String>,
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

async fn add_contact(
    State(edge): State<Edge>,
    Path(other): Path<String>,
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

async fn remove_contact(
    State(edge): State<Edge>,
    Path(other): Path<String>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    let change = AccountChange::ContactRemoved(another(&user, &other)?);
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

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

async fn block(
    State(edge): State<Edge>,
    Path(other): Path<String>,
    Caller { user, device }: Caller,
    RequestId(request): RequestId,
) -> Result<Response, Problem> {
    let change = AccountChange::Blocked(another(&user, &other)?);
    edge.0.accounts.change(&user, device, request, change).await?;
    Ok(done())
}

async fn unblock(
    State(edge): State<Edge>,
    Path(other): Path<String>,
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
