//! The fold of a chat's changes: who is in it, who was, and on which terms.
//!
//! Whether a change may follow is for the home to judge. Here each change does what it can, so that all copies
//! fold the same, whatever they are handed.
//!
//! Invariants:
//! - While somebody is in a chat whose members have changed, it has an owner: where the last one goes, the admin
//!   who has been in it longest follows, or where there is none, the member.
//! - Who goes is remembered with the entry by which that happened, and who comes back is forgotten there. Of those
//!   who went, the last [`LEFT_MAX`] are remembered.
//! - A direct chat is a request of who has opened it until the other one has written in it.
//! - What is over is not kept: invites that were used up, and with each new one those whose time is over.

use crate::{cursors::Cursors, fold::LogState};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use types::{
    EffectAct, Entry, Lsn, MemberRole, Offset, Position, UserId,
    chat::{Chat, ChatChange, Invite, LEFT_MAX, Member, MemberChange, Settings, SettingsChange},
};

static AS_CREATED: LazyLock<Settings> = LazyLock::new(Settings::default);

impl LogState {
    /// The terms of the chat.
    pub fn settings(&self) -> &Settings {
        self.chat.as_ref().map_or(&AS_CREATED, |chat| &chat.settings)
    }

    /// The last entry that somebody reads who is no member any more; `None`: is one, never was, or was too long ago.
    pub fn left_at(&self, user: &UserId) -> Option<Offset> {
        self.chat.as_ref()?.left.get(user).copied()
    }

    /// Takes in the change that an entry makes, accepted at a time in ms since 1970.
    pub(crate) fn change_chat(&mut self, entry: &Entry, change: &ChatChange, at_ms: u64) {
        match change {
            ChatChange::Members(changes) => self.change_members(entry.offset, changes),
            ChatChange::Settings(change) => change_settings(&mut self.chat_mut().settings, change),
            ChatChange::InviteMade(new) => {
                let expires_at_ms = at_ms.saturating_add(new.lifetime_ms);
                let made_by = entry.sender.clone();
                let invite = Invite { made_by, expires_at_ms, uses_max: new.uses_max, uses: 0 };
                let invites = &mut self.chat_mut().invites;
                invites.retain(|_, invite| invite.expires_at_ms > at_ms);
                invites.insert(new.hash, invite);
            }
            ChatChange::InviteRevoked(hash) => {
                self.chat_mut().invites.remove(hash);
            }
            ChatChange::Joined(hash) => {
                let invites = &mut self.chat_mut().invites;
                if let Some(invite) = invites.get_mut(hash) {
                    invite.uses += 1;
                    if invite.uses >= invite.uses_max {
                        invites.remove(hash);
                    }
                }
                let user = entry.sender.clone();
                let came = MemberChange { user, role: Some(MemberRole::Member) };
                self.change_members(entry.offset, &[came]);
            }
        }
    }

    /// Somebody has opened a direct chat: it is a request until the other one writes in it.
    pub(crate) fn ask_for_answer(&mut self, by: &UserId) {
        self.chat_mut().request_of = Some(by.clone());
    }

    /// Somebody has written a message, perhaps one that was erased since.
    pub(crate) fn note_answer(&mut self, by: &UserId) {
        if self.chat.as_ref().and_then(|chat| chat.request_of.as_ref()).is_none_or(|asker| asker == by) {
            return;
        }
        self.chat_mut().request_of = None;
        if self.chat.as_deref() == Some(&Chat::default()) {
            self.chat = None;
        }
    }

    /// Whether a chat is a request to a user.
    pub fn is_request_to(&self, user: &UserId) -> bool {
        let asker = self.chat.as_ref().and_then(|chat| chat.request_of.as_ref());
        asker.is_some_and(|asker| asker != user)
    }

    /// The accounts of those who came or went by the entry at `cause` are to be told.
    pub(crate) fn tell_who_came_and_went(
        &mut self,
        lsn: Lsn,
        cause: Position,
        before: &Arc<BTreeMap<UserId, Member>>,
    ) {
        let now = Arc::clone(&self.members);
        if Arc::ptr_eq(&now, before) {
            return;
        }
        let came = now.keys().filter(|user| !before.contains_key(user)).map(|user| (user, EffectAct::Joined));
        let went = before.keys().filter(|user| !now.contains_key(user)).map(|user| (user, EffectAct::Left));
        self.cause_memberships(lsn, cause, came.chain(went));
    }

    fn chat_mut(&mut self) -> &mut Chat {
        Arc::make_mut(self.chat.get_or_insert_default())
    }

    fn change_members(&mut self, at: Offset, changes: &[MemberChange]) {
        let members = Arc::make_mut(&mut self.members);
        let mut gone = Vec::new();
        for MemberChange { user, role } in changes {
            match role {
                Some(role) => {
                    let member = members.entry(user.clone()).or_insert(Member::since(*role, at));
                    (member.role, member.changed_at) = (*role, at);
                }
                None if members.remove(user).is_some() => gone.push(user),
                None => {}
            }
        }
        keep_an_owner(members, at);
        Cursors::forget(&mut self.cursors, &gone);
        let members = Arc::clone(&self.members);
        let left = &mut self.chat_mut().left;
        left.extend(gone.into_iter().map(|user| (user.clone(), at)));
        left.retain(|user, _| !members.contains_key(user));
        while left.len() > LEFT_MAX {
            let Some((first, _)) = left.iter().min_by_key(|(_, at)| **at) else { break };
            let first = first.clone();
            left.remove(&first);
        }
    }
}

/// Where the last owner has gone, another member is one.
fn keep_an_owner(members: &mut BTreeMap<UserId, Member>, at: Offset) {
    if members.values().any(|member| member.role == MemberRole::Owner) {
        return;
    }
    let heir = members.values_mut().min_by_key(|member| (member.role < MemberRole::Admin, member.joined_at));
    if let Some(heir) = heir {
        (heir.role, heir.changed_at) = (MemberRole::Owner, at);
    }
}

fn change_settings(settings: &mut Settings, change: &SettingsChange) {
    let SettingsChange { name, avatar, expiry_ms, inviters, writers } = change;
    if let Some(name) = name {
        settings.name = name.clone();
    }
    if let Some(avatar) = avatar {
        settings.avatar.clone_from(avatar);
    }
    settings.expiry_ms = expiry_ms.unwrap_or(settings.expiry_ms);
    settings.inviters = inviters.unwrap_or(settings.inviters);
    settings.writers = writers.unwrap_or(settings.writers);
}

#[cfg(test)]
mod tests;
