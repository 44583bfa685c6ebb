//! The chat that is open.

use super::people::People;
use client::{Chat, Entry, EntryBody, EntryKey, Position, account::ListedChat};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};
use types::{LogId, LogKind, UserId};

/// Entries of history that are shown at the start.
const HISTORY_ENTRIES: usize = 20;
/// Members whose presence is shown, and whose names are asked for ahead.
const SEEN_MAX: usize = 64;
/// Messages that can be named by their numbers.
const NUMBERED_MAX: usize = 1_000;

/// A chat that has been looked at, and is to be shown.
pub(super) struct Arrival {
    pub(super) chat: Chat,
    pub(super) title: String,
    /// Its end, oldest first.
    pub(super) page: Vec<Entry>,
    /// Its other members, as far as they are seen.
    pub(super) others: Vec<UserId>,
}

/// Looks at a chat.
///
/// # Errors
/// The user may not.
pub(super) async fn arrive(chat: Chat, people: &People) -> anyhow::Result<Arrival> {
    let page = chat.history_before(&Position::start(), HISTORY_ENTRIES).await?.entries;
    let members = chat.members(None, SEEN_MAX).await?.members;
    let own = people.own();
    people.meet(std::slice::from_ref(&own)).await;
    let others: Vec<UserId> =
        members.into_iter().map(|member| member.user).filter(|user| *user != own).collect();
    people.meet(&others).await;
    let title = match (chat.log().kind(), &others[..]) {
        (LogKind::Direct, [with, ..]) => people.name(with),
        _ => group_name(&chat).await,
    };
    Ok(Arrival { chat, title, page, others })
}

/// What a group is called; its id where it has no name.
pub(super) async fn group_name(chat: &Chat) -> String {
    let name = chat.info().await.map(|info| info.name).unwrap_or_default();
    match name.is_empty() {
        true => chat.log().to_string(),
        false => String::from_utf8_lossy(&name).into_owned(),
    }
}

/// A line of the list of chats.
pub(super) fn listed_text(chat: &ListedChat, name: &str) -> String {
    let mut text = name.to_owned();
    if chat.with.is_none() {
        text += &format!(" (group of {}, {})", chat.members, chat.log);
    }
    match (chat.unread, chat.unread_is_more) {
        (0, _) => {}
        (unread, false) => text += &format!(", {unread} unread"),
        (unread, true) => text += &format!(", {unread} unread or more"),
    }
    for (is_so, mark) in
        [(chat.pinned, "pinned"), (chat.archived, "archived"), (chat.muted_until_ms > 0, "muted")]
    {
        if is_so {
            text += &format!(", {mark}");
        }
    }
    if let Some(EntryBody::Message(body)) = chat.last.as_ref().map(|last| &last.body) {
        text += &format!(": {}", String::from_utf8_lossy(body));
    }
    text
}

/// See the module.
pub(super) struct Room {
    pub(super) chat: Chat,
    pub(super) title: String,
    /// Up to this offset the screen has shown the chat already.
    pub(super) shown: u64,
    /// Up to which offset others have read, as far as it was shown.
    pub(super) read: HashMap<UserId, u64>,
    /// Until when others are known to be typing.
    pub(super) typing: HashMap<UserId, Instant>,
    pub(super) others: Vec<UserId>,
    numbered: BTreeMap<u64, EntryKey>,
}

impl Room {
    pub(super) fn new(arrival: &Arrival) -> Self {
        Self {
            chat: arrival.chat.clone(),
            title: arrival.title.clone(),
            shown: 0,
            read: HashMap::new(),
            typing: HashMap::new(),
            others: arrival.others.clone(),
            numbered: BTreeMap::new(),
        }
    }

    pub(super) const fn log(&self) -> LogId {
        self.chat.log()
    }

    /// Remembers where an entry stands.
    pub(super) fn number(&mut self, entry: &Entry) {
        self.numbered.insert(entry.offset, entry.key());
        while self.numbered.len() > NUMBERED_MAX {
            self.numbered.pop_first();
        }
    }

    /// What stood behind an offset was undone.
    pub(super) fn undo(&mut self, common_offset: u64) {
        self.shown = self.shown.min(common_offset);
        self.numbered.split_off(&(common_offset + 1));
    }

    /// The message of a number.
    ///
    /// # Errors
    /// It is none of those that were shown last.
    pub(super) fn numbered(&self, offset: u64) -> Result<EntryKey, String> {
        let known = self.numbered.get(&offset).cloned();
        known.ok_or_else(|| format!("[{offset}] is none of the messages that were shown last"))
    }
}
