//! Whom the app watches: said on each connection, kept until the app says otherwise.

use super::{Output, SessionCore};
use crate::Event;
use proto::client::{self as wire, client_frame::Frame};
use types::{LogId, UserId};

/// Users that are watched, at most: as many as a server takes.
const WATCHED_MAX: usize = 256;

impl SessionCore {
    pub(super) fn watch(&mut self, users: Vec<UserId>, chat: Option<LogId>, out: &mut Vec<Output>) {
        let mut fresh = Vec::new();
        for user in users {
            if self.watched.len() < WATCHED_MAX || self.watched.contains_key(&user) {
                self.watched.insert(user.clone(), chat);
                fresh.push(user);
            }
        }
        if self.link.is_live() {
            say(&fresh, chat, false, out);
        }
    }

    pub(super) fn unwatch(&mut self, users: &[UserId], out: &mut Vec<Output>) {
        self.watched.retain(|user, _| !users.contains(user));
        if self.link.is_live() {
            say(users, None, true, out);
        }
    }

    /// A connection has begun: the server knows of nobody who is watched.
    pub(super) fn watch_again(&self, out: &mut Vec<Output>) {
        let mut watched: Vec<(Option<LogId>, &UserId)> =
            self.watched.iter().map(|(user, chat)| (*chat, user)).collect();
        watched.sort_unstable();
        for of_chat in watched.chunk_by(|(chat, _), (next, _)| chat == next) {
            let users: Vec<UserId> = of_chat.iter().map(|(_, user)| (*user).clone()).collect();
            say(&users, of_chat[0].0, false, out);
        }
    }

    /// Tells the app what is known; what cannot be read is passed over.
    pub(super) fn presence_told(presence: wire::Presence, out: &mut Vec<Output>) {
        for user in presence.users {
            if let Ok(presence) = user.try_into() {
                out.push(Output::Event(Event::Presence(presence)));
            }
        }
    }
}

fn say(users: &[UserId], chat: Option<LogId>, stop: bool, out: &mut Vec<Output>) {
    if users.is_empty() {
        return;
    }
    let watch = wire::WatchPresence {
        users: users.iter().map(UserId::to_string).collect(),
        log: chat.map(|chat| chat.to_string()).unwrap_or_default(),
        stop,
    };
    out.push(Output::Frame(wire::ClientFrame { request_id: 0, frame: Some(Frame::WatchPresence(watch)) }));
}
