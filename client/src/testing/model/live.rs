//! Receipts and typing of the server in memory: told at once.

use super::{Log, Model, Say};
use proto::client::{self as wire, user_presence::State};
use types::{Code, LogId};

impl Model {
    /// All receipts are lost, as with a home that had not written them.
    pub fn forget_receipts(&mut self) {
        self.logs.values_mut().for_each(|log| log.reached.clear());
    }

    pub(super) fn mark(&mut self, session: u64, marks: &wire::MarkCursors) {
        let (user, _) = self.who(session);
        for mark in &marks.logs {
            let offset = |token: &str| match self.locate(&mark.log, token) {
                Ok((_, None, offset)) => offset,
                Ok((_, Some(common), _)) => common,
                Err(_) => 0,
            };
            let (delivered, read) = (offset(&mark.delivered), offset(&mark.read));
            let Ok(id) = mark.log.parse::<LogId>() else { continue };
            let Some(log) = self.logs.get_mut(&id) else { continue };
            let reached = log.reached.entry(user.clone()).or_default();
            let before = *reached;
            *reached = (reached.0.max(delivered).max(read), reached.1.max(read));
            if *reached != before {
                let receipts = vec![receipt(log, &user)];
                self.tell(id, "", Say::Receipts(wire::Receipts { log: mark.log.clone(), receipts }));
            }
        }
    }

    pub(super) fn receipts(&mut self, session: u64, id: u64, read: &wire::ReadReceipts) {
        let log = read.log.parse().ok().and_then(|log: LogId| self.logs.get(&log));
        let Some(log) = log else { return self.refuse(session, id, Code::UnknownChat, "no chat") };
        let users = log
            .reached
            .iter()
            .filter(|(user, (delivered, _))| **user > read.after_user && *delivered >= read.offset);
        let receipts = users.map(|(user, _)| receipt(log, user)).collect();
        let page = wire::ReceiptsPage { log: read.log.clone(), receipts, at_end: true };
        self.say(session, id, Say::ReceiptsPage(page));
    }

    /// Everyone is there who has a session; changes are not told.
    pub(super) fn watch(&mut self, session: u64, id: u64, watch: &wire::WatchPresence) {
        if watch.stop {
            return;
        }
        let presence = |user: &String| {
            let online = self.sessions.values().any(|session| session.user == *user);
            let state = if online { State::Online } else { State::Offline };
            wire::UserPresence { user: user.clone(), state: state.into(), last_seen_ms: None }
        };
        let users = watch.users.iter().map(presence).collect();
        self.say(session, id, Say::Presence(wire::Presence { users }));
    }

    pub(super) fn typing(&mut self, session: u64, typing: &wire::Typing) {
        let (user, _) = self.who(session);
        if let Ok(log) = typing.log.parse() {
            let seen = wire::TypingSeen { log: typing.log.clone(), user: user.clone(), ttl_ms: 5_000 };
            self.tell(log, &user, Say::TypingSeen(seen));
        }
    }

    /// Tells all who follow a log, but for one user.
    fn tell(&mut self, log: LogId, except: &str, frame: Say) {
        let follows = |session: &&mut super::Session| session.follows.contains_key(&log);
        for session in self.sessions.values_mut().filter(follows).filter(|session| session.user != except) {
            session.out.push_back(wire::ServerFrame { request_id: 0, frame: Some(frame.clone()) });
        }
    }
}

fn receipt(log: &Log, user: &str) -> wire::Receipt {
    let (delivered, read) = log.reached.get(user).copied().unwrap_or_default();
    let mark = |offset: u64| {
        (offset > 0).then(|| wire::ReceiptMark { position: log.token(offset), offset, at_ms: 1 })
    };
    wire::Receipt { user: user.to_owned(), delivered: mark(delivered), read: mark(read) }
}
