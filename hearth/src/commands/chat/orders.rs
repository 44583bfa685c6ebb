//! What an order does. It is asked of the server beside what happens, so that what happens is shown meanwhile.

use super::{
    people::People,
    room::{self, Arrival},
    typed::{Mark, Typed},
};
use crate::commands::told;
use anyhow::{Context as _, bail};
use client::{
    Chat, ChatMarks, ChatMember, Client, EntryKey, InviteTerms, Receipt,
    account::{ChatsQuery, ListedChat},
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use types::UserId;

/// Members, or receipts, of one page.
const PAGE: usize = 200;
/// Chats of one page.
const CHATS_PAGE: usize = 50;
/// Members, receipts and chats that are told, at most.
const TOLD_MAX: usize = 1_024;

/// Something to tell: as a line for people, and as JSON.
pub(super) struct Told {
    pub(super) text: String,
    pub(super) line: Value,
}

/// What came of an order.
#[derive(Default)]
pub(super) struct Done {
    pub(super) told: Vec<Told>,
    /// The chat is another one now.
    pub(super) arrival: Option<Box<Arrival>>,
}

impl Done {
    fn tell(text: impl Into<String>, line: Value) -> Self {
        Self { told: vec![Told { text: text.into(), line }], arrival: None }
    }
}

/// What an order works with.
pub(super) struct Orders {
    pub(super) client: Client,
    pub(super) people: People,
    /// The chat that is open.
    pub(super) chat: Option<Chat>,
    /// The messages that a deletion names.
    pub(super) keys: Vec<EntryKey>,
}

impl Orders {
    fn chat(&self) -> anyhow::Result<&Chat> {
        self.chat.as_ref().context("no chat is open: /open, /group or /join one")
    }

    /// Does what was typed.
    ///
    /// # Errors
    /// The server says no, or it cannot be asked.
    pub(super) async fn perform(self, typed: Typed) -> anyhow::Result<Done> {
        match typed {
            Typed::Chats => self.chats().await,
            Typed::Open(which) => {
                let chat = match which.parse() {
                    Ok(log) => self.client.chat(log),
                    Err(_) => self.client.open_direct(&self.people.find(&which).await?).await?,
                };
                self.go(chat).await
            }
            Typed::Group { name, members } => {
                let members = self.people.find_all(&members).await?;
                let group = self.client.open_group(uuid::Uuid::now_v7().into_bytes(), &members).await?;
                group.rename(name).await?;
                self.go(group).await
            }
            Typed::Join(invitation) => self.go(self.client.join(&invitation).await?).await,
            Typed::Members => self.members().await,
            Typed::Invites => self.invites().await,
            Typed::Invite { lifetime, uses_max } => {
                let made = self.chat()?.invite(InviteTerms { lifetime, uses_max }).await?;
                let line = json!({ "event": "invitation", "log": made.log(), "invitation": made.to_string(), "invite": made.name() });
                Ok(Done::tell(format!("who types this comes to the group: /join {made}"), line))
            }
            Typed::Read => self.read().await,
            Typed::Mark(mark) => self.mark(mark).await,
            change => self.change(change).await,
        }
    }

    async fn go(&self, chat: Chat) -> anyhow::Result<Done> {
        let arrival = Some(Box::new(room::arrive(chat, &self.people).await?));
        Ok(Done { told: Vec::new(), arrival })
    }

    /// What is answered by an entry of the chat.
    async fn change(&self, typed: Typed) -> anyhow::Result<Done> {
        let chat = self.chat()?;
        let (what, changed) = match typed {
            Typed::Add(names) => ("add", chat.add(&self.people.find_all(&names).await?).await?),
            Typed::Remove(names) => ("remove", chat.remove(&self.people.find_all(&names).await?).await?),
            Typed::Role(name, role) => ("role", chat.set_role(&self.people.find(&name).await?, role).await?),
            Typed::Leave => ("leave", chat.leave().await?),
            Typed::Name(name) => ("name", chat.rename(name).await?),
            Typed::Expire(after) => ("expire", chat.set_expiry(after).await?),
            Typed::Revoke(invite) => ("revoke", chat.revoke_invite(&invite).await?),
            Typed::Delete(_) => ("delete", chat.delete(&self.keys).await?),
            other => bail!("{other:?} is no change"),
        };
        // People see the entry that says so.
        let line = json!({
            "event": "changed", "log": chat.log(), "what": what, "offset": changed.offset,
            "position": changed.position.as_str(),
        });
        Ok(Done::tell("", line))
    }

    async fn members(&self) -> anyhow::Result<Done> {
        let chat = self.chat()?;
        let mut members: Vec<ChatMember> = Vec::new();
        loop {
            let page = chat.members(members.last().map(|last| &last.user), PAGE).await?;
            members.extend(page.members);
            if page.at_end || members.len() >= TOLD_MAX {
                break;
            }
        }
        let users: Vec<UserId> = members.iter().map(|member| member.user.clone()).collect();
        self.people.meet(&users).await;
        let text = members.iter().map(|ChatMember { user, role, .. }| {
            let name = self.people.name(user);
            if proto::role_name(*role) == "member" {
                name
            } else {
                format!("{name} ({})", proto::role_name(*role))
            }
        });
        let text = format!("{} members: {}", members.len(), text.collect::<Vec<_>>().join(", "));
        let member = |ChatMember { user, role, joined_at }: &ChatMember| json!({ "user": user, "name": self.people.name(user), "role": proto::role_name(*role), "joined_at": joined_at });
        let told: Vec<Value> = members.iter().map(member).collect();
        Ok(Done::tell(text, json!({ "event": "members", "log": chat.log(), "members": told })))
    }

    async fn invites(&self) -> anyhow::Result<Done> {
        let chat = self.chat()?;
        let invites = chat.invites().await?;
        let mut done = Done::default();
        for invite in &invites {
            let (made_by, uses) = (self.people.name(&invite.made_by), invite.uses);
            let text =
                format!("invite {} by {made_by}, used {uses} times of {}", invite.name, invite.uses_max);
            done.told.push(Told { text, line: Value::Null });
        }
        if invites.is_empty() {
            done.told.push(Told { text: "there is no invite".to_owned(), line: Value::Null });
        }
        let invite = |invite: &client::Invite| {
            json!({
                "invite": invite.name, "made_by": invite.made_by, "expires_at_ms": invite.expires_at_ms,
                "uses_max": invite.uses_max, "uses": invite.uses,
            })
        };
        let told: Vec<Value> = invites.iter().map(invite).collect();
        let line = json!({ "event": "invites", "log": chat.log(), "invites": told });
        done.told.push(Told { text: String::new(), line });
        Ok(done)
    }

    async fn read(&self) -> anyhow::Result<Done> {
        let chat = self.chat()?;
        let mut receipts: Vec<Receipt> = Vec::new();
        loop {
            let page = chat.receipts(0, receipts.last().map(|last| &last.user), PAGE).await?;
            receipts.extend(page.receipts);
            if page.at_end || receipts.len() >= TOLD_MAX {
                break;
            }
        }
        let mut done = Done::default();
        for receipt in receipts.iter().filter(|receipt| receipt.user != *self.client.user()) {
            let name = self.people.name(&receipt.user);
            let offset = |reached: &Option<client::Reached>| reached.as_ref().map(|reached| reached.offset);
            let text = match (offset(&receipt.read), offset(&receipt.delivered)) {
                (Some(read), _) => format!("{name} has read up to [{read}]"),
                (None, Some(delivered)) => format!("{name} has received up to [{delivered}]"),
                (None, None) => format!("{name} has received nothing"),
            };
            done.told.push(Told { text, line: Value::Null });
        }
        let line: Vec<Value> = receipts.iter().map(told::receipt).collect();
        let line = json!({ "event": "read", "log": chat.log(), "receipts": line });
        done.told.push(Told { text: String::new(), line });
        Ok(done)
    }

    async fn listed(&self) -> anyhow::Result<(Vec<ListedChat>, usize)> {
        let mut query = ChatsQuery { limit: Some(CHATS_PAGE), ..ChatsQuery::default() };
        let (mut chats, mut unavailable) = (Vec::new(), 0);
        loop {
            let page = self.client.chats(&query).await.context("your chats cannot be listed")?;
            chats.extend(page.chats);
            unavailable = unavailable.max(page.unavailable);
            query.after = page.next;
            if query.after.is_none() || chats.len() >= TOLD_MAX {
                return Ok((chats, unavailable));
            }
        }
    }

    async fn chats(&self) -> anyhow::Result<Done> {
        let (chats, unavailable) = self.listed().await?;
        let others: Vec<UserId> = chats.iter().filter_map(|chat| chat.with.clone()).collect();
        self.people.meet(&others).await;
        let mut done = Done::default();
        let mut lines = Vec::new();
        for chat in &chats {
            let name = match &chat.with {
                Some(with) => self.people.name(with),
                None => room::group_name(&self.client.chat(chat.log)).await,
            };
            done.told.push(Told { text: room::listed_text(chat, &name), line: Value::Null });
            lines.push(told::listed(chat, &name));
        }
        let count = chats.len();
        let text = match unavailable {
            0 => format!("{count} chats"),
            missing => format!("{count} chats; {missing} more cannot be told now"),
        };
        let line = json!({ "event": "chats", "chats": lines, "unavailable": unavailable });
        done.told.push(Told { text, line });
        Ok(done)
    }

    async fn mark(&self, mark: Mark) -> anyhow::Result<Done> {
        let chat = self.chat()?;
        let (chats, _) = self.listed().await?;
        let listed = chats.iter().find(|listed| listed.log == chat.log());
        let mut marks = listed.context("the chat is not in your list yet")?.marks();
        match mark {
            Mark::Mute(until) => {
                marks.muted_until_ms = until.map_or(0, |time| now_ms() + time.as_millis() as u64)
            }
            Mark::Archive(archived) => marks.archived = archived,
            Mark::Pin(pinned) => marks.pinned = pinned,
        }
        chat.set_marks(marks).await?;
        let ChatMarks { muted_until_ms, archived, pinned, .. } = marks;
        let line = json!({
            "event": "marked", "log": chat.log(), "muted_until_ms": muted_until_ms, "archived": archived, "pinned": pinned,
        });
        Ok(Done::tell("the chat is marked", line))
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
