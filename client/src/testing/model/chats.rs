//! Groups of the server in memory: members, terms, invites and deletions. Roles are told and not judged.

use super::{Ask, Log, Model, Say};
use proto::client as wire;
use std::collections::BTreeMap;
use types::{Code, LogId, chat::InviteHash};

/// What a chat's changes add up to.
#[derive(Default)]
pub(super) struct State {
    /// Roles, and the offsets of the entries by which they came.
    members: BTreeMap<String, (String, u64)>,
    settings: wire::SettingsChange,
    invites: BTreeMap<String, wire::Invite>,
}

impl State {
    /// The chat begins.
    pub(super) fn created(&mut self, members: &[wire::Member]) {
        let member = |member: &wire::Member| (member.user.clone(), (member.role.clone(), 1));
        self.members = members.iter().map(member).collect();
    }

    fn change(&mut self, user: &str, change: &wire::chat_change::Change, offset: u64) {
        use wire::chat_change::Change;
        match change {
            Change::Members(members) => {
                for wire::MemberChange { user, role } in &members.changes {
                    match role.is_empty() {
                        true => drop(self.members.remove(user)),
                        false => self
                            .members
                            .entry(user.clone())
                            .or_insert((String::new(), offset))
                            .0
                            .clone_from(role),
                    }
                }
            }
            Change::Settings(change) => {
                let wire::SettingsChange { name, avatar, expiry_ms, inviters, writers } = change.clone();
                let now = &mut self.settings;
                now.name = name.or(now.name.take());
                now.avatar = avatar.or(now.avatar.take());
                now.expiry_ms = expiry_ms.or(now.expiry_ms);
                now.inviters = inviters.or(now.inviters.take());
                now.writers = writers.or(now.writers.take());
            }
            Change::InviteMade(made) => {
                let invite = wire::Invite {
                    invite: made.invite.clone(),
                    made_by: user.to_owned(),
                    expires_at_ms: made.lifetime_ms,
                    uses_max: made.uses_max,
                    uses: 0,
                };
                self.invites.insert(made.invite.clone(), invite);
            }
            Change::InviteRevoked(named) => drop(self.invites.remove(&named.invite)),
            Change::Joined(named) => {
                if let Some(invite) = self.invites.get_mut(&named.invite) {
                    invite.uses += 1;
                }
                self.members.insert(user.to_owned(), ("member".to_owned(), offset));
            }
        }
    }
}

impl Model {
    /// Requests about a chat beside its messages.
    pub(super) fn chat_frame(&mut self, session: u64, id: u64, ask: Ask) {
        use wire::chat_change::Change;
        let (log, message_id, change) = match ask {
            Ask::ChangeMembers(wire::ChangeMembers { log, message_id, changes }) => {
                (log, message_id, Change::Members(wire::MemberChanges { changes }))
            }
            Ask::ChangeSettings(wire::ChangeSettings { log, message_id, change }) => {
                (log, message_id, Change::Settings(change.unwrap_or_default()))
            }
            Ask::MakeInvite(make) => {
                let invite = name_of(&make.log, &make.secret);
                let wire::MakeInvite { log, message_id, lifetime_ms, uses_max, .. } = make;
                (log, message_id, Change::InviteMade(wire::InviteMade { invite, lifetime_ms, uses_max }))
            }
            Ask::RevokeInvite(wire::RevokeInvite { log, message_id, invite }) => {
                (log, message_id, Change::InviteRevoked(wire::InviteName { invite }))
            }
            Ask::JoinChat(wire::JoinChat { log, message_id, secret }) => {
                let invite = name_of(&log, &secret);
                (log, message_id, Change::Joined(wire::InviteName { invite }))
            }
            Ask::DeleteMessages(deletion) => return self.delete(session, id, &deletion),
            Ask::ReadChat(wire::ReadChat { log }) => return self.look(session, id, &log, chat_info),
            Ask::ReadInvites(wire::ReadInvites { log }) => return self.look(session, id, &log, invites),
            Ask::ReadMembers(read) => {
                return self.look(session, id, &read.log, |log, known, _| members(log, known, &read));
            }
            _ => return self.refuse(session, id, Code::BadRequest, "a frame that this server does not know"),
        };
        let judge = |state: &State, user: &str| judge(state, user, &change);
        let body = wire::entry::Body::Chat(wire::ChatChange { change: Some(change.clone()) });
        self.write(session, id, &log, &message_id, judge, body);
    }

    /// Writes an entry once, and answers when it is replicated.
    fn write(
        &mut self,
        session: u64,
        id: u64,
        log: &str,
        message_id: &str,
        judge: impl FnOnce(&State, &str) -> Result<(), Code>,
        body: wire::entry::Body,
    ) {
        let (user, device) = self.who(session);
        let Some(log) = log.parse().ok().filter(|log| self.logs.contains_key(log)) else {
            return self.refuse(session, id, Code::UnknownChat, log);
        };
        let fault = self.faults.pop_front();
        if let Some(code) = fault.and_then(super::Fault::refusal) {
            return self.refuse(session, id, code, "as the test wants it");
        }
        let offset = match self.logs[&log].find(&user, device, message_id) {
            Some(offset) => offset,
            None => {
                if let Err(code) = judge(&self.logs[&log].state, &user) {
                    return self.refuse(session, id, code, "the chat is not so");
                }
                let offset = self.append(log, &user, device, message_id, body.clone());
                if let (wire::entry::Body::Chat(wire::ChatChange { change: Some(change) }), Some(known)) =
                    (&body, self.logs.get_mut(&log))
                {
                    known.state.change(&user, change, offset);
                }
                offset
            }
        };
        if fault.is_some() {
            return self.refuse(session, id, Code::Indeterminate, "as the test wants it");
        }
        self.sent_when(session, id, log, offset, wire::AckPolicy::Replicated.into());
    }

    fn delete(&mut self, session: u64, id: u64, deletion: &wire::DeleteMessages) {
        let log: Option<LogId> = deletion.log.parse().ok();
        let known = log.and_then(|log| self.logs.get_mut(&log));
        let Some(known) = known else { return self.refuse(session, id, Code::UnknownChat, &deletion.log) };
        let find = |of: &wire::Reference| known.find(&of.sender, of.device, &of.message_id);
        let Some(offsets) = deletion.messages.iter().map(find).collect::<Option<Vec<u64>>>() else {
            return self.refuse(session, id, Code::UnknownMessage, "there is no such message");
        };
        for offset in &offsets {
            known.entries[*offset as usize - 1].entry.body = Some(wire::entry::Body::Erased(wire::Erased {}));
        }
        let body = wire::entry::Body::Deleted(wire::Deleted { offsets });
        self.write(session, id, &deletion.log, &deletion.message_id, |_, _| Ok(()), body);
    }

    fn look(&mut self, session: u64, id: u64, log: &str, tell: impl FnOnce(String, &Log, &str) -> Say) {
        let (user, _) = self.who(session);
        let known = log.parse().ok().and_then(|log: LogId| self.logs.get(&log));
        match known {
            None => self.refuse(session, id, Code::UnknownChat, log),
            Some(known) if !known.state.members.contains_key(&user) => {
                self.refuse(session, id, Code::Forbidden, &user);
            }
            Some(known) => {
                let answer = tell(log.to_owned(), known, &user);
                self.say(session, id, answer);
            }
        }
    }
}

fn name_of(log: &str, secret: &[u8]) -> String {
    log.parse().map(|log| InviteHash::of(log, secret).to_string()).unwrap_or_default()
}

fn judge(state: &State, user: &str, change: &wire::chat_change::Change) -> Result<(), Code> {
    use wire::chat_change::Change;
    let is_member = |user: &str| state.members.contains_key(user);
    match change {
        Change::Joined(named) => match state.invites.contains_key(&named.invite) {
            false => Err(Code::UnknownInvite),
            true if is_member(user) => Err(Code::Conflict),
            true => Ok(()),
        },
        _ if !is_member(user) => Err(Code::Forbidden),
        Change::Members(members) => {
            let is_so = |change: &wire::MemberChange| match state.members.get(&change.user) {
                None => change.role.is_empty(),
                Some((role, _)) => *role == change.role,
            };
            if members.changes.iter().any(is_so) { Err(Code::Conflict) } else { Ok(()) }
        }
        Change::InviteRevoked(named) if !state.invites.contains_key(&named.invite) => {
            Err(Code::UnknownInvite)
        }
        _ => Ok(()),
    }
}

fn chat_info(log: String, known: &Log, user: &str) -> Say {
    let State { members, settings, .. } = &known.state;
    let role = |role: &Option<String>, first: &str| role.clone().unwrap_or(first.to_owned());
    Say::ChatInfo(wire::ChatInfo {
        log,
        name: settings.name.clone().unwrap_or_default(),
        avatar: settings.avatar.clone().unwrap_or_default(),
        expiry_ms: settings.expiry_ms.unwrap_or_default(),
        inviters: role(&settings.inviters, "admin"),
        writers: role(&settings.writers, "member"),
        members: members.len() as u32,
        role: members.get(user).map(|(role, _)| role.clone()).unwrap_or_default(),
        created_at_ms: known.entries.first().map_or(0, |first| first.entry.accepted_at_ms),
    })
}

fn members(log: String, known: &Log, read: &wire::ReadMembers) -> Say {
    let mut behind = known.state.members.iter().filter(|(user, _)| **user > read.after);
    let limit = if read.limit == 0 { 50 } else { read.limit as usize };
    let member = |(user, (role, joined_at)): (&String, &(String, u64))| wire::ChatMember {
        user: user.clone(),
        role: role.clone(),
        joined_at: *joined_at,
    };
    let members = behind.by_ref().take(limit).map(member).collect();
    Say::MembersPage(wire::MembersPage { log, members, at_end: behind.next().is_none() })
}

fn invites(log: String, known: &Log, _: &str) -> Say {
    Say::InvitesPage(wire::InvitesPage { log, invites: known.state.invites.values().cloned().collect() })
}
