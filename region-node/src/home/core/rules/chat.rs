//! The rules of chats: who may do what, and which change may follow.
//!
//! A change is judged against the fold as it will stand when it is written, what is under way included: of two that
//! race, the home's order decides, and the other is judged behind the first.

use super::{PENDING_RETRY_MS, Verdict, role_of, unknown_chat};
use crate::service::{Salvaged, Write};
use log_store::fold::LogState;
use std::collections::BTreeSet;
use types::{
    Code, LogId, LogKind, MemberRole, Refusal, UserId,
    chat::{
        ChatChange, EXPIRY_MS, INVITE_LIFETIME_MAX_MS, INVITES_MAX, InviteHash, MEMBER_CHANGES_MAX,
        MemberChange, NAME_MAX_BYTES, NewInvite, Settings, SettingsChange,
    },
};

/// What a member wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Write a message.
    Write,
    /// Take away what others wrote.
    DeleteOthers,
    /// Let somebody in as a member.
    Add,
    /// Make an invite, or see those that there are.
    Invite,
    /// Revoke an invite of one's own, or of another.
    Revoke { own: bool },
    /// Take out a member of this role.
    Remove(MemberRole),
    /// Give somebody another role, or let somebody in with more than that of a member.
    Promote,
    /// Take a lower role, or leave.
    StepDown,
    /// Change name, picture and expiry.
    Describe,
    /// Say who may invite and write.
    Govern,
}

/// Whether a role may do something in a group of these terms.
pub(crate) fn may(role: MemberRole, act: Act, settings: &Settings) -> bool {
    let lowest = match act {
        Act::StepDown | Act::Revoke { own: true } => MemberRole::Member,
        Act::Write => settings.writers,
        Act::Add | Act::Invite => settings.inviters,
        Act::DeleteOthers | Act::Describe | Act::Revoke { own: false } | Act::Remove(MemberRole::Member) => {
            MemberRole::Admin
        }
        Act::Remove(MemberRole::Admin | MemberRole::Owner) | Act::Promote | Act::Govern => MemberRole::Owner,
    };
    role >= lowest
}

/// Refuses what the user may not do.
pub(crate) fn allow(log: LogId, state: &LogState, user: &UserId, act: Act) -> Result<(), Refusal> {
    let role = role_of(log, state, user)?;
    if may(role, act, state.settings()) {
        return Ok(());
    }
    let what = match act {
        Act::Write => "write",
        Act::DeleteOthers => "delete what others wrote",
        Act::Add | Act::Invite => "invite",
        Act::Revoke { .. } => "revoke this invite",
        Act::Remove(_) => "remove this member",
        Act::Promote => "give roles",
        Act::StepDown => "step down",
        Act::Describe => "change name, picture and expiry",
        Act::Govern => "say who may invite and write",
    };
    Err(Refusal::new(Code::Forbidden, format!("{user} may not {what} in chat {log}")))
}

/// Refuses what somebody writes in a direct chat whose other user takes nothing of them, or is not there any more.
pub(crate) fn reaches(log: LogId, state: &LogState, user: &UserId) -> Result<(), Refusal> {
    if log.kind() != LogKind::Direct {
        return Ok(());
    }
    if let Some(other) = state.chat.as_ref().and_then(|chat| chat.blocked_by.iter().find(|by| *by != user)) {
        let message = format!("{other} takes no messages of {user} in chat {log}");
        return Err(Refusal::new(Code::Forbidden, message));
    }
    if state.members.len() < 2 && state.members.contains_key(user) {
        let message = format!("the other user of chat {log} has no account any more");
        return Err(Refusal::new(Code::UnknownAccount, message));
    }
    Ok(())
}

/// Judges a change of a chat.
pub(super) fn judge(
    write: &Write,
    change: &ChatChange,
    state: Option<&LogState>,
    now_ms: u64,
    members_max: usize,
) -> Result<Verdict, Refusal> {
    let log = write.log;
    let state = state.ok_or_else(|| unknown_chat(log))?;
    if log.kind() == LogKind::Direct && !matches!(change, ChatChange::Settings(change) if is_of_both(change))
    {
        return Err(bad(log, "a direct chat has two members and no terms but an expiry"));
    }
    match &write.salvage {
        Some(salvaged) => put_back(write, change, state, salvaged)?,
        None => reaches(log, state, &write.sender)?,
    }
    match change {
        ChatChange::Members(changes) => members(write, changes, state, members_max)?,
        ChatChange::Settings(change) => settings(write, change, state)?,
        ChatChange::InviteMade(new) => invite(write, new, state, now_ms)?,
        ChatChange::InviteRevoked(hash) => {
            let invites = state.chat.as_ref().map(|chat| &chat.invites);
            role_of(log, state, &write.sender)?;
            let invite = invites.and_then(|invites| invites.get(hash)).ok_or_else(|| unknown_invite(log))?;
            allow(log, state, &write.sender, Act::Revoke { own: invite.made_by == write.sender })?;
        }
        ChatChange::Joined(hash) => join(write, hash, state, now_ms, members_max)?,
    }
    Ok(Verdict::Append)
}

/// Of a change that was never acked only what takes something away comes back, unless its subject was changed since.
fn put_back(
    write: &Write,
    change: &ChatChange,
    state: &LogState,
    salvaged: &Salvaged,
) -> Result<(), Refusal> {
    let log = write.log;
    let refused = |why: &str| Refusal::new(Code::Conflict, format!("a change of chat {log} {why}"));
    match change {
        ChatChange::InviteRevoked(_) => Ok(()),
        ChatChange::Members(changes) if changes.iter().all(|change| change.role.is_none()) => {
            let of_before = |change: &MemberChange| {
                let member = state.members.get(&change.user)?;
                let changed = state.position_at(member.changed_at)?;
                (changed.era() <= salvaged.era).then_some(())
            };
            let is_untouched = changes.iter().all(|change| of_before(change).is_some());
            if is_untouched { Ok(()) } else { Err(refused("removes who was changed meanwhile")) }
        }
        _ => Err(Refusal::new(
            Code::BadRequest,
            format!("a change of chat {log} that was never acked is not put back"),
        )),
    }
}

fn members(
    write: &Write,
    changes: &[MemberChange],
    state: &LogState,
    members_max: usize,
) -> Result<(), Refusal> {
    let (log, sender) = (write.log, &write.sender);
    role_of(log, state, sender)?;
    if changes.is_empty() || changes.len() > MEMBER_CHANGES_MAX {
        return Err(bad(
            log,
            &format!("{} members are changed, not 1 to {MEMBER_CHANGES_MAX}", changes.len()),
        ));
    }
    if changes.iter().map(|change| &change.user).collect::<BTreeSet<_>>().len() != changes.len() {
        return Err(bad(log, "a member is named twice"));
    }
    let mut count = state.members.len();
    let mut grows = false;
    for MemberChange { user, role } in changes {
        let is_own = user == sender;
        let act = match (state.members.get(user).map(|member| member.role), role) {
            (None, None) => return Err(conflict(log, &format!("{user} is no member"))),
            (Some(now), Some(role)) if now == *role => {
                return Err(conflict(log, &format!("{user} is {} already", proto::role_name(now))));
            }
            (None, Some(MemberRole::Member)) => Act::Add,
            (Some(_), None) if is_own => Act::StepDown,
            (Some(now), Some(role)) if is_own && *role < now => Act::StepDown,
            (Some(now), None) => Act::Remove(now),
            (_, Some(_)) => Act::Promote,
        };
        allow(log, state, sender, act)?;
        match (state.members.contains_key(user), role) {
            (false, Some(_)) => (count, grows) = (count + 1, true),
            (true, None) => count -= 1,
            _ => {}
        }
    }
    has_room_to_tell(log, state, changes.len())?;
    if grows { has_room(log, count, members_max) } else { Ok(()) }
}

fn settings(write: &Write, change: &SettingsChange, state: &LogState) -> Result<(), Refusal> {
    let log = write.log;
    let SettingsChange { name, avatar, expiry_ms, inviters, writers } = change;
    if *change == SettingsChange::default() {
        return Err(bad(log, "nothing is changed"));
    }
    if let Some(bytes) = name.as_ref().map(bytes::Bytes::len).filter(|bytes| *bytes > NAME_MAX_BYTES) {
        let message =
            format!("the name of chat {log} would have {bytes} bytes, and {NAME_MAX_BYTES} is the most");
        return Err(Refusal::new(Code::TooLarge, message));
    }
    if let Some(ms) = expiry_ms.filter(|ms| *ms != 0 && !EXPIRY_MS.contains(ms)) {
        let (min, max) = (EXPIRY_MS.start(), EXPIRY_MS.end());
        return Err(bad(log, &format!("messages would expire after {ms} ms, which is not {min} to {max}")));
    }
    if log.kind() == LogKind::Direct {
        return role_of(log, state, &write.sender).map(drop);
    }
    if name.is_some() || avatar.is_some() || expiry_ms.is_some() {
        allow(log, state, &write.sender, Act::Describe)?;
    }
    if inviters.is_some() || writers.is_some() {
        allow(log, state, &write.sender, Act::Govern)?;
    }
    Ok(())
}

/// Whether a change is one that a direct chat can take.
fn is_of_both(change: &SettingsChange) -> bool {
    *change == SettingsChange { expiry_ms: change.expiry_ms, ..SettingsChange::default() }
}

fn invite(write: &Write, new: &NewInvite, state: &LogState, now_ms: u64) -> Result<(), Refusal> {
    let log = write.log;
    allow(log, state, &write.sender, Act::Invite)?;
    let NewInvite { hash, lifetime_ms, uses_max } = new;
    if *lifetime_ms == 0 || *lifetime_ms > INVITE_LIFETIME_MAX_MS || *uses_max == 0 {
        let why = format!("an invite for {lifetime_ms} ms and {uses_max} users cannot be made");
        return Err(bad(log, &why));
    }
    let Some(chat) = &state.chat else { return Ok(()) };
    if chat.invites.contains_key(hash) {
        return Err(conflict(log, "there is an invite with this secret"));
    }
    if chat.invites.values().filter(|invite| invite.expires_at_ms > now_ms).count() >= INVITES_MAX {
        let message = format!("chat {log} has {INVITES_MAX} invites, the most there may be");
        return Err(Refusal::new(Code::TooLarge, message));
    }
    Ok(())
}

fn join(
    write: &Write,
    hash: &InviteHash,
    state: &LogState,
    now_ms: u64,
    members_max: usize,
) -> Result<(), Refusal> {
    let (log, user) = (write.log, &write.sender);
    let invite = state.chat.as_ref().and_then(|chat| chat.invites.get(hash));
    if invite.is_none_or(|invite| invite.expires_at_ms <= now_ms.max(state.accepted_at_ms)) {
        return Err(unknown_invite(log));
    }
    if state.members.contains_key(user) {
        return Err(conflict(log, &format!("{user} is a member already")));
    }
    has_room_to_tell(log, state, 1)?;
    has_room(log, state.members.len() + 1, members_max)
}

/// Refuses to change who is in a chat while too many of those who came and went before are not told yet.
fn has_room_to_tell(log: LogId, state: &LogState, users: usize) -> Result<(), Refusal> {
    if state.has_room_to_tell(users) {
        return Ok(());
    }
    let message = format!("too many who came to chat {log} or left it are not told yet");
    Err(Refusal::new(Code::Overloaded, message).retry_after_ms(PENDING_RETRY_MS))
}

/// Refuses more members than a chat may have.
pub(super) fn has_room(log: LogId, count: usize, members_max: usize) -> Result<(), Refusal> {
    if count <= members_max {
        return Ok(());
    }
    let message = format!("chat {log} would have {count} members, and {members_max} is the most");
    Err(Refusal::new(Code::TooLarge, message))
}

fn bad(log: LogId, why: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("chat {log}: {why}"))
}

fn conflict(log: LogId, why: &str) -> Refusal {
    Refusal::new(Code::Conflict, format!("chat {log}: {why}"))
}

fn unknown_invite(log: LogId) -> Refusal {
    Refusal::new(
        Code::UnknownInvite,
        format!("there is no such invite to chat {log}, or it can't be used any more"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberRole::{Admin, Member, Owner};

    #[test]
    fn each_role_may_what_the_table_says() {
        let own = Act::Revoke { own: true };
        let others = Act::Revoke { own: false };
        // What is done, and whether a member, an admin and an owner may, on the terms that a group begins with.
        let table = [
            (Act::Write, [true, true, true]),
            (Act::StepDown, [true, true, true]),
            (own, [true, true, true]),
            (Act::Add, [false, true, true]),
            (Act::Invite, [false, true, true]),
            (others, [false, true, true]),
            (Act::DeleteOthers, [false, true, true]),
            (Act::Describe, [false, true, true]),
            (Act::Remove(Member), [false, true, true]),
            (Act::Remove(Admin), [false, false, true]),
            (Act::Remove(Owner), [false, false, true]),
            (Act::Promote, [false, false, true]),
            (Act::Govern, [false, false, true]),
        ];
        for (act, expected) in table {
            let allowed = [Member, Admin, Owner].map(|role| may(role, act, &Settings::default()));
            assert_eq!(allowed, expected, "{act:?}");
        }
    }

    #[test]
    fn the_terms_say_who_invites_and_writes() {
        let settings = Settings { inviters: Member, writers: Admin, ..Settings::default() };
        for (act, expected) in [
            (Act::Add, [true, true, true]),
            (Act::Invite, [true, true, true]),
            (Act::Write, [false, true, true]),
            (Act::Promote, [false, false, true]),
        ] {
            assert_eq!([Member, Admin, Owner].map(|role| may(role, act, &settings)), expected, "{act:?}");
        }
    }
}
