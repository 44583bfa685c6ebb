//! What a chat is now, told to its members.

use crate::{
    home::core::rules::chat::{Act, may},
    router::Router,
    service::ChatState,
};
use proto::client;
use std::ops::Bound;
use types::{
    Code, LogId, MemberRole, Refusal, UserId,
    chat::{Chat, Invite, InviteHash},
    limits,
};

impl Router {
    /// Name, terms and size of a chat.
    pub(crate) async fn chat_info(&self, log: LogId, user: &UserId) -> Result<client::ChatInfo, Refusal> {
        let state = self.chat(log, user).await?;
        let role = role_in(&state, log, user)?;
        let chat = state.chat.as_deref().cloned().unwrap_or_default();
        Ok(client::ChatInfo {
            log: log.to_string(),
            name: chat.settings.name,
            avatar: chat.settings.avatar.map(String::from).unwrap_or_default(),
            expiry_ms: chat.settings.expiry_ms,
            inviters: proto::role_name(chat.settings.inviters).to_owned(),
            writers: proto::role_name(chat.settings.writers).to_owned(),
            members: state.members.len() as u32,
            role: proto::role_name(role).to_owned(),
            created_at_ms: state.created_at_ms,
        })
    }

    /// Members in the order of their names, behind one.
    pub(crate) async fn chat_members(
        &self,
        log: LogId,
        user: &UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<client::MembersPage, Refusal> {
        let state = self.chat(log, user).await?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = state.members.range((from, Bound::Unbounded));
        let members = behind.by_ref().take(limit).map(|(user, member)| client::ChatMember {
            user: user.to_string(),
            role: proto::role_name(member.role).to_owned(),
            joined_at: member.joined_at.get(),
        });
        let members = members.collect();
        Ok(client::MembersPage { log: log.to_string(), members, at_end: behind.next().is_none() })
    }

    /// The invites that can be used, for those who may make some.
    pub(crate) async fn chat_invites(
        &self,
        log: LogId,
        user: &UserId,
        now_ms: u64,
    ) -> Result<client::InvitesPage, Refusal> {
        let state = self.chat(log, user).await?;
        let role = role_in(&state, log, user)?;
        let none = Chat::default();
        let chat = state.chat.as_deref().unwrap_or(&none);
        if !may(role, Act::Invite, &chat.settings) {
            let message = format!("{user} may not invite to chat {log}, nor see its invites");
            return Err(Refusal::new(Code::Forbidden, message));
        }
        let counts = |(_, invite): &(&InviteHash, &Invite)| invite.expires_at_ms > now_ms;
        let invites = chat.invites.iter().filter(counts).map(|(hash, invite)| client::Invite {
            invite: hash.to_string(),
            made_by: invite.made_by.to_string(),
            expires_at_ms: invite.expires_at_ms,
            uses_max: invite.uses_max,
            uses: invite.uses,
        });
        Ok(client::InvitesPage { log: log.to_string(), invites: invites.collect() })
    }
}

fn role_in(state: &ChatState, log: LogId, user: &UserId) -> Result<MemberRole, Refusal> {
    let no_member = || Refusal::new(Code::Forbidden, format!("{user} is no member of chat {log}"));
    state.members.get(user).map(|member| member.role).ok_or_else(no_member)
}

/// How many to answer with where a client asks for so many.
pub(crate) fn page_limit(limit: u32) -> Result<usize, Refusal> {
    match usize::try_from(limit).unwrap_or(usize::MAX) {
        0 => Ok(limits::PAGE_DEFAULT_ENTRIES),
        limit if limit > limits::PAGE_MAX_ENTRIES => {
            let why = format!("field limit is {limit}, and {} is the most", limits::PAGE_MAX_ENTRIES);
            Err(Refusal::new(Code::BadRequest, why))
        }
        limit => Ok(limit),
    }
}
