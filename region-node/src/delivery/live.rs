//! What is live, handed to the sessions that follow its log. What finds no room is dropped: nothing is read again for it.

use super::{Hub, feed::SessionId};
use crate::{
    edge::{frame::SharedFrame, queue::SessionQueue},
    live::{LiveEvent, Receipt, Said, TYPING_TTL_MS},
};
use proto::client::{self, server_frame::Frame};
use std::sync::Arc;
use types::{LogId, UserId};

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
    }
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
