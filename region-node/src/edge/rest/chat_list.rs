//! A user's chats, the latest first.
//!
//! Which there are, the user's account log says: each chat tells the logs of its members, as an effect of the entry that
//! made them members. How a chat stands, the nearest copy of it says.

use super::{
    Caller, bad,
    openapi::{
        forms,
        refused::{Bearer, Refused, SomeAccount},
    },
};
use crate::{
    accounts::{Kind, Who},
    delivery::token,
    edge::{Edge, errors::Problem, request},
    service::{Detail, Glance, ReadFrom, UNREAD_MAX},
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use proto::client;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::HashMap};
use types::{
    LogId, LogKind, Position, Refusal, UserId,
    account::{ChatMarks, OpenAccount},
};
use utoipa::{IntoParams, ToSchema, openapi::Ref};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Chats of a page where none are asked for, and the most.
const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 50;
/// Last entries that are read at a time.
const READS_MAX: usize = 8;

pub(super) fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The `next` of the page before.
    #[param(value_type = String, required = false, max_length = 64)]
    after: Option<String>,
    /// 20 where it is left out; at most 50.
    #[param(value_type = usize, required = false, minimum = 1, maximum = 50)]
    limit: Option<usize>,
    /// Only those that are archived, or only those that are not; left out: both.
    #[param(value_type = bool, required = false)]
    archived: Option<bool>,
    /// Only chats that stand so; left out: all but the requests that were declined.
    #[param(value_type = Request, required = false)]
    requests: Option<Request>,
}

/// A page of chats: first those that are pinned, then by their last entries.
#[derive(Serialize, ToSchema)]
struct Chats {
    /// In order.
    chats: Vec<Chat>,
    /// Where the next page begins; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    next: Option<String>,
    /// Chats of which nothing can be told now, because no copy of them can be asked: they are in no page.
    unavailable: usize,
}

/// A chat, as the caller stands in it.
#[derive(Serialize, ToSchema)]
struct Chat {
    /// Its id.
    #[schema(value_type = forms::LogId)]
    log: String,
    /// Whether it is a direct chat or a group.
    kind: Kinds,
    /// The other user of a direct chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = forms::UserId, required = false)]
    with: Option<String>,
    /// How many members it has.
    members: usize,
    /// The position of its last entry.
    #[schema(value_type = forms::Position)]
    head: String,
    /// The offset of that.
    head_offset: u64,
    /// When that was accepted, in ms since 1970.
    head_at_ms: u64,
    /// The last entry, as in a page of history; left out where it cannot be read now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = entry, required = false)]
    last: Option<client::Entry>,
    /// Up to which offset the caller has read, on any device.
    read_offset: u64,
    /// Messages of others behind that.
    unread: usize,
    /// There may be more of them.
    unread_is_more: bool,
    /// No notification before this time, in ms since 1970; 0: not muted.
    muted_until_ms: u64,
    /// Out of the way.
    archived: bool,
    /// On top.
    pinned: bool,
    /// Somebody who is no contact has opened it, and was never answered; left out: it is no request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Request, required = false)]
    request: Option<Request>,
}

/// How a request to the caller stands: a direct chat that somebody has opened who is no contact, and was never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RequestStanding)]
enum Request {
    /// It was neither accepted, by an answer or by making its user a contact, nor declined.
    Pending,
    /// It was marked so.
    Declined,
    /// It is none, or none any more.
    None,
}

impl Request {
    fn of(glance: &Glance, open: &OpenAccount) -> Self {
        let is_contact = glance.with.as_ref().is_some_and(|with| open.contacts.contains_key(with));
        match glance.is_request && !is_contact {
            false => Self::None,
            true if marks_of(open, glance.log).declined => Self::Declined,
            true => Self::Pending,
        }
    }

    fn is_wanted(self, wanted: Option<Self>) -> bool {
        wanted.map_or(self != Self::Declined, |wanted| self == wanted)
    }
}

fn entry() -> Ref {
    Ref::from_schema_name("client.Entry")
}

/// What a chat is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ChatKind)]
enum Kinds {
    /// Of two users.
    Direct,
    /// Of any number.
    Group,
}

/// A place in the list: pinned ones first, the latest first, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Reverse<bool>, Reverse<u64>, LogId);

impl Place {
    fn of(glance: &Glance, marks: ChatMarks) -> Self {
        Self(Reverse(marks.pinned), Reverse(glance.head_at_ms), glance.log)
    }

    fn text(self) -> String {
        let Self(Reverse(pinned), Reverse(at_ms), log) = self;
        format!("{}.{at_ms}.{log}", u8::from(pinned))
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let wrong = || bad("after is no place in a list of chats: it is the next of a page");
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or_else(wrong);
        let pinned = match part()? {
            "0" => false,
            "1" => true,
            _ => return Err(wrong()),
        };
        let at_ms = part()?.parse().map_err(|_| wrong())?;
        Ok(Self(Reverse(pinned), Reverse(at_ms), request::log(part()?)?))
    }
}

/// Lists the caller's chats.
#[utoipa::path(
    get, path = "/v1/chats", operation_id = "listChats", tag = "chats", params(ListQuery),
    responses((status = 200, description = "A page of them.", body = Chats), Refused<(Bearer, SomeAccount)>),
)]
async fn list(
    State(edge): State<Edge>,
    query: Result<Query<ListQuery>, QueryRejection>,
    Caller { user, .. }: Caller,
) -> Result<Response, Problem> {
    let Query(asked) = query.map_err(|error| bad(error.body_text()))?;
    let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(bad(format!("limit is {limit}, not between 1 and {PAGE_MAX}")).into());
    }
    let after = asked.after.as_deref().map(Place::read).transpose()?;
    edge.0.accounts.admit(Kind::LookUp, &Who::User(user.clone()))?;
    let open = edge.0.accounts.own_nearby(&user).await?;
    let wanted = wanted(&open, asked.archived);
    let glances = edge.0.router.glances(&user, &wanted, Detail::Heads).await;
    let unavailable = wanted.len().saturating_sub(glances.len());
    let mut behind: Vec<(Place, Glance)> = glances
        .into_iter()
        .map(|glance| (Place::of(&glance, marks_of(&open, glance.log)), glance))
        .filter(|(place, glance)| {
            let request = Request::of(glance, &open);
            request.is_wanted(asked.requests) && after.is_none_or(|after| *place > after)
        })
        .collect();
    behind.sort_unstable_by_key(|(place, _)| *place);
    let has_more = behind.len() > limit;
    behind.truncate(limit);
    let next = behind.last().filter(|_| has_more).map(|(place, _)| place.text());
    let chats = told(&edge, &user, &open, behind.into_iter().map(|(_, glance)| glance).collect()).await;
    Ok(Json(Chats { chats, next, unavailable }).into_response())
}

fn wanted(open: &OpenAccount, archived: Option<bool>) -> Vec<LogId> {
    let is_wanted = |log: &LogId| archived.is_none_or(|archived| marks_of(open, *log).archived == archived);
    open.joined.iter().copied().filter(is_wanted).collect()
}

fn marks_of(open: &OpenAccount, log: LogId) -> ChatMarks {
    open.chats.get(&log).copied().unwrap_or_default()
}

/// The page in full: what is unread is counted, and the last entries are read.
async fn told(edge: &Edge, user: &UserId, open: &OpenAccount, page: Vec<Glance>) -> Vec<Chat> {
    let logs: Vec<LogId> = page.iter().map(|glance| glance.log).collect();
    let counted = edge.0.router.glances(user, &logs, Detail::Unread).await;
    let mut counted: HashMap<LogId, Glance> =
        counted.into_iter().map(|glance| (glance.log, glance)).collect();
    let chat = |glance: Glance| {
        // What has come meanwhile is told; the place in the list stays.
        let glance = counted.remove(&glance.log).unwrap_or(glance);
        async move {
            let from = ReadFrom::Before(None);
            let last = edge.0.router.read(glance.log, user, from, 1, Position::START).await.ok();
            let last = last.and_then(|page| page.records.last().and_then(proto::client_entry));
            chat(&glance, last, open)
        }
    };
    let chats: Vec<_> = page.into_iter().map(chat).collect();
    stream::iter(chats).buffered(READS_MAX).collect().await
}

fn chat(glance: &Glance, last: Option<client::Entry>, open: &OpenAccount) -> Chat {
    let marks = marks_of(open, glance.log);
    let request = Some(Request::of(glance, open)).filter(|request| *request != Request::None);
    let Glance { log, head, head_at_ms, read, members, with, unread, .. } = glance;
    Chat {
        log: log.to_string(),
        kind: if log.kind() == LogKind::Direct { Kinds::Direct } else { Kinds::Group },
        with: with.as_ref().map(UserId::to_string),
        members: *members,
        head: token(*log, *head),
        head_offset: head.offset.get(),
        head_at_ms: *head_at_ms,
        last,
        read_offset: read.get(),
        unread: *unread,
        unread_is_more: head.offset.get().saturating_sub(read.get()) > UNREAD_MAX as u64,
        muted_until_ms: marks.muted_until_ms,
        archived: marks.archived,
        pinned: marks.pinned,
        request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(pinned: bool, at_ms: u64, key: u8) -> Place {
        Place(Reverse(pinned), Reverse(at_ms), LogId::group([key; 16]))
    }

    #[test]
    fn pinned_chats_come_first_and_then_the_latest() {
        let mut places = [place(false, 5, 1), place(true, 1, 2), place(false, 9, 3), place(false, 5, 0)];
        places.sort_unstable();
        assert_eq!(places, [place(true, 1, 2), place(false, 9, 3), place(false, 5, 0), place(false, 5, 1)]);
    }

    #[test]
    fn a_place_survives_its_text_and_nothing_else_is_one() {
        for place in [place(true, 0, 1), place(false, u64::MAX, 2)] {
            assert_eq!(Place::read(&place.text()), Ok(place));
        }
        let log = LogId::group([1; 16]);
        for text in ["", "1", "1.5", "2.5.x", &format!("1.-1.{log}"), &format!("1.5.{log}x")] {
            assert!(Place::read(text).is_err(), "{text}");
        }
    }
}
