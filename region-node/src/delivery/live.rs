//! What is live, handed to the sessions that follow its log. What finds no room is dropped: nothing is read again for it.

use super::{Hub, Inner, feed::SessionId};
use crate::{
    edge::{frame::SharedFrame, queue::SessionQueue},
    live::{LiveEvent, Receipt, Said, Seen, TYPING_TTL_MS, presence},
};
use proto::client::{self, server_frame::Frame};
use std::{collections::BTreeMap, sync::Arc};
use types::{LogId, LogKind, UserId};

pub(super) fn hand(hub: &Hub, event: &LiveEvent) {
    let Some(feed) = hub.feeds.get(&event.log) else { return };
    let sessions = feed.sessions().filter_map(|session| follower(hub, session));
    match &event.said {
        Said::Receipts { receipts, own_only } => {
            for (queue, user) in sessions {
                hand_receipts(queue, user, event.log, receipts, *own_only);
            }
        }
        Said::Typing { user: who, .. } => {
            let (log, user) = (event.log.to_string(), who.to_string());
            let seen = client::TypingSeen { log, user, ttl_ms: TYPING_TTL_MS };
            let frame = SharedFrame::new(Frame::TypingSeen(seen));
            for (queue, _) in sessions.filter(|(_, user)| *user != who) {
                // Whoever does not keep up has more to read than this.
                let _dropped = queue.is_congested() || queue.offer(&frame);
            }
        }
        // Those who have a use for it read the account.
        Said::Chats => sessions.for_each(|(queue, _)| queue.ring()),
    }
}

/// What was said of a user's chats may have got lost: those who follow the account look for themselves.
pub(super) fn ring(hub: &Hub, log: LogId) {
    let feed = hub.feeds.get(&log).filter(|_| log.kind() == LogKind::Account);
    let sessions = feed.into_iter().flat_map(|feed| feed.sessions());
    sessions.filter_map(|session| hub.queue(session)).for_each(|queue| queue.ring());
}

/// The same, of all accounts.
pub(super) fn ring_all(hub: &Hub) {
    hub.feeds.keys().for_each(|log| ring(hub, *log));
}

/// Tells those who watch a user.
pub(super) fn hand_presence(hub: &Hub, delivery: &Inner, seen: &[Seen]) {
    let mut told: BTreeMap<SessionId, Vec<client::UserPresence>> = BTreeMap::new();
    for seen in seen {
        let Some(partition) = presence::partition_of(&delivery.router, &seen.user) else { continue };
        for (session, seen) in delivery.desk.lock().seen(partition, seen) {
            told.entry(session).or_default().push(client_presence(&seen));
        }
    }
    for (session, users) in told {
        if let Some(queue) = hub.queue(session) {
            // There are few of them: as many as a session may watch, and only changes.
            queue.answer(0, Frame::Presence(client::Presence { users }));
        }
    }
}

/// Whether a user is there, as clients are told.
pub(crate) fn client_presence(seen: &Seen) -> client::UserPresence {
    use client::user_presence::State;
    let state = if seen.online { State::Online } else { State::Offline };
    let last_seen_ms = (seen.last_seen_ms > 0).then_some(seen.last_seen_ms);
    client::UserPresence { user: seen.user.to_string(), state: state.into(), last_seen_ms }
}

fn follower(hub: &Hub, session: SessionId) -> Option<(&Arc<SessionQueue>, &UserId)> {
    let follower = hub.sessions.get(&session)?;
    Some((&follower.queue, follower.user.as_ref()?))
}

fn hand_receipts(queue: &SessionQueue, to: &UserId, log: LogId, receipts: &[Receipt], own_only: bool) {
    for receipt in receipts {
        let is_own = receipt.user == *to;
        if (is_own || !own_only) && !queue.offer_receipt(log, receipt.shown(is_own)) {
            metrics::counter!("hearth_edge_receipts_dropped_total").increment(1);
        }
    }
}
