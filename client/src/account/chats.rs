//! A user's list of chats, and how the user has marked them.

use super::{AccountError, Accounts, Ask, Caller, read};
use crate::{Entry, Position};
use hyper::Method;
use proto::client as wire;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use types::{LogId, UserId, account::ChatMarks};

/// Which page of a list of chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatsQuery {
    /// The [`ChatsPage::next`] of the page before; none: the first page.
    pub after: Option<String>,
    /// At most 50; none: 20.
    pub limit: Option<usize>,
    /// Only those that are archived, or only those that are not; none: both.
    pub archived: Option<bool>,
}

/// A page of chats: first those that are pinned, then by their last entries.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChatsPage {
    /// In order.
    pub chats: Vec<ListedChat>,
    /// Where the next page begins; none: there is none.
    pub next: Option<String>,
    /// Chats of which nothing can be told now: they are in no page.
    #[serde(default)]
    pub unavailable: usize,
}

/// A chat, as the user stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedChat {
    /// Its id.
    pub log: LogId,
    /// The other user of a direct chat; none: it is a group.
    #[serde(default)]
    pub with: Option<UserId>,
    /// How many members it has.
    pub members: usize,
    /// The position of its last entry.
    #[serde(deserialize_with = "position")]
    pub head: Position,
    /// The offset of that.
    pub head_offset: u64,
    /// When that was accepted, ms since 1970.
    pub head_at_ms: u64,
    /// The last entry; none: it cannot be read now.
    #[serde(default, deserialize_with = "entry")]
    pub last: Option<Entry>,
    /// Up to which offset the user has read, on any device.
    pub read_offset: u64,
    /// Messages of others behind that.
    pub unread: usize,
    /// There may be more of them.
    #[serde(default)]
    pub unread_is_more: bool,
    /// No notification before this time, ms since 1970; 0: not muted.
    #[serde(default)]
    pub muted_until_ms: u64,
    /// Out of the way.
    #[serde(default)]
    pub archived: bool,
    /// On top.
    #[serde(default)]
    pub pinned: bool,
}

impl ListedChat {
    /// How the user has marked it.
    pub const fn marks(&self) -> ChatMarks {
        let Self { muted_until_ms, archived, pinned, .. } = *self;
        // Requests that were declined are not listed.
        ChatMarks { muted_until_ms, archived, pinned, declined: false }
    }
}

fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
    String::deserialize(deserializer).map(Position::from)
}

/// What a newer server says of an entry hides no chat.
fn entry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Entry>, D::Error> {
    let entry = Option::<serde_json::Value>::deserialize(deserializer)?;
    let wire = entry.and_then(|entry| serde_json::from_value::<wire::Entry>(entry).ok());
    Ok(wire.and_then(|wire| wire.try_into().ok()))
}

impl Accounts {
    /// The chats of a user who has an account.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn chats(&self, access_token: &str, query: &ChatsQuery) -> Result<ChatsPage, AccountError> {
        self.chats_of(Caller::Token(access_token), query).await
    }

    pub(crate) async fn chats_of(
        &self,
        caller: Caller<'_>,
        query: &ChatsQuery,
    ) -> Result<ChatsPage, AccountError> {
        let ChatsQuery { after, limit, archived } = query;
        // A place in the list is made of digits, dots, and the letters of an id.
        let is_plain = |after: &str| after.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let mut parts = Vec::new();
        if let Some(after) = after {
            if !is_plain(after) {
                return Err(AccountError::Unreachable { last: format!("{after:?} is the next of no page") });
            }
            parts.push(format!("after={after}"));
        }
        parts.extend(limit.map(|limit| format!("limit={limit}")));
        parts.extend(archived.map(|archived| format!("archived={archived}")));
        let path = format!("/v1/chats?{}", parts.join("&"));
        read(&self.ask(&Ask { method: Method::GET, path: &path, caller, body: None }).await?)
    }

    /// Marks a chat of a user who has an account, for all of the user's devices.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn mark(&self, access_token: &str, log: LogId, marks: ChatMarks) -> Result<(), AccountError> {
        self.mark_of(Caller::Token(access_token), log, marks).await
    }

    pub(crate) async fn mark_of(
        &self,
        caller: Caller<'_>,
        log: LogId,
        marks: ChatMarks,
    ) -> Result<(), AccountError> {
        let ChatMarks { muted_until_ms, archived, pinned, declined } = marks;
        let body = json!({
            "muted_until_ms": muted_until_ms, "archived": archived, "pinned": pinned, "declined": declined,
        });
        let path = format!("/v1/chats/{log}/marks");
        let body = Some(body.to_string().into());
        self.ask(&Ask { method: Method::PUT, path: &path, caller, body }).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_chats_is_read_and_what_a_newer_server_says_hides_none() {
        let chat = |last: serde_json::Value| {
            json!({
                "log": LogId::group([1; 16]), "kind": "group", "members": 3, "head": "token", "head_offset": 7,
                "head_at_ms": 9, "last": last, "read_offset": 5, "unread": 2, "unread_is_more": false,
                "muted_until_ms": 4, "archived": true, "pinned": false, "colour": "red",
            })
        };
        let entry = json!({
            "position": "token", "offset": "7", "sender": "ann", "device": "3",
            "messageId": "0192c1de-1111-7000-8000-000000000001", "ciphertext": "aGk=",
        });
        let page = json!({ "chats": [chat(entry), chat(json!({ "offset": "seven" }))], "unavailable": 1 });
        let page: ChatsPage = serde_json::from_value(page).expect("is read");
        assert_eq!((page.chats.len(), page.next, page.unavailable), (2, None, 1));
        let last = page.chats[0].last.as_ref().expect("an entry");
        assert_eq!((last.offset, last.sender.as_str()), (7, "ann"));
        assert_eq!(page.chats[1].last, None);
        let marks = ChatMarks { muted_until_ms: 4, archived: true, ..ChatMarks::default() };
        assert_eq!(page.chats[1].marks(), marks);
    }
}
