//! What is next, for those without a WebSocket: asked for and waited for, or sent as it comes.

use super::{
    Present, bad, json,
    openapi::{
        forms,
        refused::{Bearer, Body, Refused, Since, SomeAccount},
    },
};
use crate::{
    accounts::{Kind, Who},
    edge::{
        Edge,
        errors::Problem,
        sync::{Again, Told, Waiter},
    },
    sync::{Caught, Event, Stand},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Query, State, rejection::BytesRejection, rejection::QueryRejection},
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, timeout_at};
use types::{Refusal, limits};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// How long a request may wait, in s.
const WAIT_MAX_S: u64 = 60;
/// How often a stream says that it is there while there is nothing to tell.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Where a stream was left off, as those say who follow one anew.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(sync, sync_posted)).routes(routes!(events))
}

/// What is wanted.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = Sync)]
struct Wanted {
    /// The `next` of the answer before, of whichever node; left out: everything from the beginning.
    #[serde(default)]
    #[param(value_type = forms::SyncToken, required = false)]
    #[schema(value_type = forms::SyncToken)]
    since: String,
    /// At most so many entries at once; left out: 50; at most 500.
    #[param(value_type = usize, required = false, minimum = 1, maximum = 500)]
    #[schema(value_type = usize, required = false, minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// How long to wait where there is nothing to tell, in s; left out: not at all; at most 60.
    #[serde(default)]
    #[param(maximum = 60)]
    #[schema(maximum = 60)]
    wait_s: u64,
}

/// Where a stream begins.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Followed {
    /// As of `/v1/sync`. The header `Last-Event-ID` goes before it.
    #[serde(default)]
    #[param(value_type = forms::SyncToken, required = false)]
    since: String,
    /// At most so many entries in one event; left out: 50; at most 500.
    #[param(value_type = usize, required = false, minimum = 1, maximum = 500)]
    limit: Option<usize>,
}

/// What there is to tell.
#[derive(Debug, Serialize, ToSchema)]
struct Synced {
    /// In order. Each has one key, that of the frame of a session that says the same, or `joined`, `left`, `heads`.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// Where the client stands behind them: the `since` of its next request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = forms::SyncToken, required = false)]
    next: Option<String>,
    /// There is more at once.
    has_more: bool,
    /// Chats of which nothing can be told now: they are told of later.
    unavailable: usize,
}

impl Synced {
    fn new(caught: Caught, next: Option<String>) -> Self {
        let Caught { events, has_more, unavailable } = caught;
        Self { events, next, has_more, unavailable }
    }
}

/// Tells what is new to the caller's device.
///
/// The newest chats come first. Where there is nothing, it waits for what comes.
#[utoipa::path(
    get, path = "/v1/sync", operation_id = "sync", tag = "events", params(Wanted),
    responses(
        (status = 200, description = "All of it, or as much as fits.", body = Synced),
        Refused<(Bearer, SomeAccount, Since)>,
    ),
)]
async fn sync(
    State(edge): State<Edge>,
    query: Result<Query<Wanted>, QueryRejection>,
    present: Present,
) -> Result<Response, Problem> {
    let Query(wanted) = query.map_err(|error| bad(error.body_text()))?;
    answer(&edge, &present, wanted).await
}

/// Tells the same, for tokens that are too long for an address.
#[utoipa::path(
    post, path = "/v1/sync", operation_id = "syncByPost", tag = "events", request_body = Wanted,
    responses(
        (status = 200, description = "All of it, or as much as fits.", body = Synced),
        Refused<(Bearer, Body, SomeAccount, Since)>,
    ),
)]
async fn sync_posted(
    State(edge): State<Edge>,
    present: Present,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let wanted: Wanted = json(body)?;
    answer(&edge, &present, wanted).await
}

async fn answer(edge: &Edge, present: &Present, wanted: Wanted) -> Result<Response, Problem> {
    let limit = limit(wanted.limit)?;
    if wanted.wait_s > WAIT_MAX_S {
        return Err(bad(format!("wait_s is {}, and {WAIT_MAX_S} is the longest", wanted.wait_s)).into());
    }
    let user = &present.caller.user;
    let mut stand = Stand::open(user, &wanted.since)?;
    edge.0.accounts.admit(Kind::Sync, &Who::User(user.clone()))?;
    let until = Instant::now() + Duration::from_secs(wanted.wait_s);
    let caught = wait(edge, present, &mut stand, limit, until).await?;
    Ok(Json(Synced::new(caught, Some(stand.seal(user)))).into_response())
}

/// What there is, or comes first.
async fn wait(
    edge: &Edge,
    present: &Present,
    stand: &mut Stand,
    limit: usize,
    until: Instant,
) -> Result<Caught, Refusal> {
    let user = &present.caller.user;
    let mut waiter: Option<Waiter> = None;
    loop {
        let again = waiter.as_mut().map_or_else(Again::default, Waiter::again);
        let (mut caught, chats) = edge.catch_up(user, stand, &again, limit).await?;
        let is_something = !caught.events.is_empty() || caught.has_more;
        if is_something || Instant::now() >= until {
            return Ok(caught);
        }
        if waiter.is_none() {
            waiter = Some(Waiter::admit(edge, present, false).await?);
        }
        let Some(waiter) = &mut waiter else { return Ok(caught) };
        caught.events = waiter.follow(stand, &chats, caught.unavailable).await;
        while caught.events.is_empty() && !waiter.is_behind() {
            match timeout_at(until, waiter.told(stand)).await {
                Ok(Told::Events(events)) => caught.events = events,
                Ok(Told::Ousted(refusal)) => return Err(refusal),
                Err(_) | Ok(Told::Elsewhere(_)) => return Ok(caught),
            }
        }
        if !caught.events.is_empty() {
            caught.has_more = waiter.is_behind();
            return Ok(caught);
        }
    }
}

/// Tells the same as it comes, as server-sent events.
///
/// The data of each is the answer of `/v1/sync`, but for `next`, which is the event's id. It goes on until the access token ends.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "followEvents", tag = "events", params(Followed),
    responses(
        (status = 200, description = "Until one side ends it.", body = String, content_type = "text/event-stream"),
        Refused<(Bearer, SomeAccount, Since)>,
    ),
)]
async fn events(
    State(edge): State<Edge>,
    query: Result<Query<Followed>, QueryRejection>,
    headers: HeaderMap,
    present: Present,
) -> Result<Response, Problem> {
    let Query(followed) = query.map_err(|error| bad(error.body_text()))?;
    let limit = limit(followed.limit)?;
    let since = match headers.get(LAST_EVENT_ID) {
        Some(id) => id.to_str().map_err(|_| bad("header last-event-id is no text"))?,
        None => followed.since.as_str(),
    };
    let stand = Stand::open(&present.caller.user, since)?;
    edge.0.accounts.admit(Kind::Sync, &Who::User(present.caller.user.clone()))?;
    let waiter = Waiter::admit(&edge, &present, true).await?;
    let streamed = Streamed { edge, present, stand, waiter, limit, is_caught_up: false, is_over: false };
    let events = stream::unfold(streamed, |mut streamed| async move {
        let event = streamed.next().await?;
        Some((Ok::<_, Infallible>(event), streamed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response())
}

/// A stream of events.
struct Streamed {
    edge: Edge,
    present: Present,
    stand: Stand,
    waiter: Waiter,
    limit: usize,
    /// All that there was has been told, and each chat is followed from there.
    is_caught_up: bool,
    is_over: bool,
}

impl Streamed {
    async fn next(&mut self) -> Option<sse::Event> {
        if self.is_over {
            return None;
        }
        match self.told().await {
            Ok(caught) => Some(self.event(caught)),
            Err(Ended::Refused(refusal)) => {
                self.is_over = true;
                let problem = serde_json::to_string(&proto::client_error(&refusal)).ok()?;
                Some(sse::Event::default().event("ended").data(problem))
            }
            Err(Ended::Elsewhere(after)) => {
                self.is_over = true;
                Some(sse::Event::default().event("go-away").retry(after).data("{}"))
            }
        }
    }

    fn event(&self, caught: Caught) -> sse::Event {
        let data = serde_json::to_string(&Synced::new(caught, None)).unwrap_or_default();
        sse::Event::default().id(self.stand.seal(&self.present.caller.user)).data(data)
    }

    /// What there is to tell next; never nothing.
    async fn told(&mut self) -> Result<Caught, Ended> {
        loop {
            if !self.is_caught_up || self.waiter.is_behind() {
                let again = self.waiter.again();
                let user = &self.present.caller.user;
                let caught = self.edge.catch_up(user, &mut self.stand, &again, self.limit).await;
                let (mut caught, chats) = caught.map_err(Ended::Refused)?;
                self.is_caught_up = !caught.has_more;
                if self.is_caught_up {
                    let followed = self.waiter.follow(&mut self.stand, &chats, caught.unavailable).await;
                    caught.events.extend(followed);
                }
                if !caught.events.is_empty() {
                    return Ok(caught);
                }
                continue;
            }
            match self.waiter.told(&mut self.stand).await {
                Told::Events(events) if events.is_empty() => {}
                Told::Events(events) => {
                    let has_more = self.waiter.is_behind();
                    return Ok(Caught { events, has_more, unavailable: 0 });
                }
                Told::Ousted(refusal) => return Err(Ended::Refused(refusal)),
                Told::Elsewhere(after) => return Err(Ended::Elsewhere(after)),
            }
        }
    }
}

/// Why a stream ends.
enum Ended {
    Refused(Refusal),
    /// The client comes back in so much time, at another node.
    Elsewhere(Duration),
}

fn limit(asked: Option<usize>) -> Result<usize, Refusal> {
    match asked.unwrap_or(limits::PAGE_DEFAULT_ENTRIES) {
        limit if (1..=limits::PAGE_MAX_ENTRIES).contains(&limit) => Ok(limit),
        limit => Err(bad(format!("limit is {limit}, not between 1 and {}", limits::PAGE_MAX_ENTRIES))),
    }
}
