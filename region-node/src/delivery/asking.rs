//! What delivery asks of homes and replicas, each question in a task of its own that ends in an input of a feed.

use super::{
    Delivery, FILL_MAX_ENTRIES, HOME_PATIENCE, Hub, REFUSED_PAUSE,
    feed::{FillId, Input, SessionId},
    frames::{Shared, frames},
    live,
    removed::{self, Removals},
};
use crate::{
    edge::queue::SessionQueue,
    peer::{Channel, client::answer, wire, wire::Asked},
    router::Route,
    service::{Page, ReadFrom, ReadRefusal, Subscribed},
};
use std::sync::Arc;
use tokio::time::sleep;
use types::{Code, Generation, LogId, PartitionId, Position, UserId};

impl Delivery {
    /// Reads the pin of a log that is written in `generation` by now.
    pub(super) fn find_again(&self, log: LogId, generation: Generation) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let closed = Generation::new(generation.get().saturating_sub(1));
            match delivery.0.router.pin_above(log, closed).await {
                Ok(pin) => delivery.pinned(&mut delivery.0.hub.lock(), log, pin),
                // The next subscription at the old place finds it out anew.
                Err(why) => tracing::debug!(%log, %why, "the pin of a log that has moved cannot be read"),
            }
        });
    }

    pub(super) fn subscribe(&self, log: LogId, partition: PartitionId, route: Arc<Route>) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let answer = delivery.ask_for_bus(log, partition, &route).await;
            let closed = answer.err().filter(|closed| !closed.is_zero());
            {
                let mut hub = delivery.0.hub.lock();
                delivery.drive(&mut hub, log, Input::Subscribed(route, answer.ok()));
                if answer.is_ok() {
                    live::ring(&hub, log);
                }
            }
            let pin = match closed {
                Some(closed) => delivery.0.router.pin_above(log, closed).await.ok(),
                None => None,
            };
            let is_elsewhere = pin.is_some_and(|pin| Some(pin.generation) > closed);
            if answer.is_err() && !is_elsewhere {
                // The placement may name a home that has yet to open: asking at once would never end.
                sleep(REFUSED_PAUSE).await;
            }
            let mut hub = delivery.0.hub.lock();
            if let Some(pin) = pin {
                return delivery.pinned(&mut hub, log, pin);
            }
            let Some(partition) = hub.feeds.get(&log).map(|feed| feed.partition()) else { return };
            let route = delivery.route(&mut hub, partition);
            delivery.drive(&mut hub, log, Input::Route(route));
        });
    }

    /// Subscribes at a home; else up to which generation the log is not written there.
    async fn ask_for_bus(
        &self,
        log: LogId,
        partition: PartitionId,
        route: &Route,
    ) -> Result<Subscribed, Generation> {
        if route.channel == Channel::HERE {
            let subscribed = self.0.router.parts().homes.subscribe(partition, log, &self.0.sink).await;
            return subscribed.map_err(|not_home| not_home.closed);
        }
        let request = wire::subscribe_request(partition, log);
        let asked = self.0.router.peers().ask(&route.node, Some(route.channel), request);
        let receiver = asked.map_err(|_| Generation::ZERO)?;
        wire::subscribed(answer(receiver, HOME_PATIENCE).await.map_err(|_| Generation::ZERO)?)
    }

    pub(super) fn unsubscribe(&self, log: LogId, partition: PartitionId, route: &Route) {
        if route.channel == Channel::HERE {
            self.0.router.parts().homes.unsubscribe(partition, log, self.0.sink.id());
        } else {
            self.0.router.peers().tell(&route.node, route.channel, wire::unsubscribe_request(log));
        }
    }

    pub(super) fn check(&self, asked: Asked, position: Position) {
        let delivery = self.clone();
        tokio::spawn(async move {
            let _permit = delivery.0.reads.acquire().await;
            let answer = delivery.0.router.locate_at_home(&asked, position).await;
            delivery.drive(&mut delivery.0.hub.lock(), asked.log, Input::Checked(position, answer));
        });
    }

    /// Reads for sessions that stand at one position. One whose queue is congested waits for itself.
    pub(super) fn fill(
        &self,
        hub: &Hub,
        log: LogId,
        to: Vec<(SessionId, FillId)>,
        (after, known_head): (Position, Position),
    ) {
        let Some(user) = to.iter().find_map(|(session, _)| hub.user(*session)) else { return };
        let read = Read { after, user, known_head };
        let mut together = Vec::new();
        for (session, fill) in to {
            let Some(queue) = hub.queue(session) else { continue };
            if queue.is_congested() {
                let (delivery, queue, read) = (self.clone(), Arc::clone(queue), read.clone());
                tokio::spawn(async move {
                    queue.room().await;
                    delivery.read_for(log, &[(session, fill)], &read).await;
                });
            } else {
                together.push((session, fill));
            }
        }
        if !together.is_empty() {
            let delivery = self.clone();
            tokio::spawn(async move { delivery.read_for(log, &together, &read).await });
        }
    }

    async fn read_for(&self, log: LogId, to: &[(SessionId, FillId)], read: &Read) {
        let _permit = self.0.reads.acquire().await;
        if !self.is_awaited(log, to) {
            return;
        }
        let from = ReadFrom::After(read.after);
        let (mut to, mut user) = (to.to_vec(), Some(read.user.clone()));
        // As a rule one page is for all of them.
        while let Some(reader) = user {
            let page = self.0.router.read(log, &reader, from, FILL_MAX_ENTRIES, read.known_head).await;
            let mut hub = self.0.hub.lock();
            to = self.hand_page(&mut hub, log, to, &reader, read.after, page);
            user = to.iter().find_map(|(session, _)| hub.user(*session));
        }
    }

    /// Hands a page that was read on behalf of a user to sessions; answers those for which it does not count.
    fn hand_page(
        &self,
        hub: &mut Hub,
        log: LogId,
        to: Vec<(SessionId, FillId)>,
        reader: &UserId,
        after: Position,
        page: Result<Page, ReadRefusal>,
    ) -> Vec<(SessionId, FillId)> {
        let is_own = |hub: &Hub, session| hub.user(session).as_ref() == Some(reader);
        let page = match page {
            Ok(page) => page,
            Err(why) => {
                tracing::debug!(%log, %after, %why, "sessions could not be filled");
                let is_of_reader =
                    matches!(&why, ReadRefusal::Refused(refusal) if refusal.code == Code::Forbidden);
                let (told, others): (Vec<_>, Vec<_>) =
                    to.into_iter().partition(|(session, _)| !is_of_reader || is_own(hub, *session));
                for (session, fill) in told {
                    self.drive(hub, log, Input::NotFilled { session, fill, why: why.clone() });
                }
                return others;
            }
        };
        let removals = Removals::of(page.records.iter());
        let frames = frames(log, page.records.iter());
        let mut others = Vec::new();
        for (session, fill) in to {
            if !hub.feeds.get(&log).is_some_and(|feed| feed.awaits(session, fill)) {
                continue;
            }
            let (Some(queue), Some(user)) = (hub.queue(session), hub.user(session)) else { continue };
            if user != *reader && (page.until.is_some() || removals.get(&user).is_some()) {
                others.push((session, fill));
                continue;
            }
            let (has, is_all) = hand(queue, &frames, after);
            let at_end = page.at_end && is_all;
            if at_end && page.until.is_some() {
                removed::tell(hub, session, log, has);
                self.drive(hub, log, Input::Leave(session));
            } else {
                self.drive(hub, log, Input::Filled { session, fill, to: has, at_end });
            }
        }
        others
    }

    fn is_awaited(&self, log: LogId, to: &[(SessionId, FillId)]) -> bool {
        let hub = self.0.hub.lock();
        let Some(feed) = hub.feeds.get(&log) else { return false };
        to.iter().any(|(session, fill)| feed.awaits(*session, *fill))
    }
}

#[derive(Debug, Clone)]
struct Read {
    after: Position,
    user: UserId,
    known_head: Position,
}

/// Offers frames to a session that has everything up to `after`: what it has then, and whether that is all.
pub(super) fn hand(queue: &SessionQueue, frames: &[Shared], after: Position) -> (Position, bool) {
    let taken = frames.iter().take_while(|shared| queue.offer(&shared.frame)).count();
    let has = taken.checked_sub(1).and_then(|last| frames.get(last)).map_or(after, |last| last.reaches);
    (has, taken == frames.len())
}
