//! Reads and position checks: from this node's copy where it knows enough, else from the home.
//!
//! A node without a copy asks one of its region that has one before it asks a home abroad.
//! A copy that has not reached a position is given a moment, then the home is asked. A copy of an older
//! epoch than the placement's may hold what a failover undid, so its word on a position counts only where
//! the home cannot be reached; the position is checked again when it can.
//!
//! A log that was re-homed has its history in several partitions, in stretches that the pin tells. The present
//! one knows all its eras, so it judges users and positions; what lies in an earlier stretch is read from
//! whoever holds the seal at its end, and never changes any more. An answer that shows that the log may have
//! moved on makes the pin be read anew.

mod chat;

use super::{Router, pins::Stretch};
use crate::{
    peer::{Channel, client::answer, wire, wire::Asked},
    service::{LocateAnswer, NotHome, Page, ReadFrom, ReadRefusal},
};
use log_store::locate::Located;
use proto::node::{peer_reply::Reply, peer_request::Request};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::{
    Code, Epoch, Generation, LogId, NodeRow, Offset, PartitionId, PinSegment, Position, Record, Refusal,
    UserId,
};

/// How long a copy is given to reach a position.
const CATCH_UP: Duration = Duration::from_millis(300);
const CATCH_UP_STEP: Duration = Duration::from_millis(20);
/// How long another copy in the region is waited for.
const NEARBY_PATIENCE: Duration = Duration::from_millis(500);
/// How long the home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);

impl Router {
    /// What a position is.
    ///
    /// # Errors
    /// Never [`ReadRefusal::Ahead`]: where nobody can tell it is `behind`.
    pub(crate) async fn locate(
        &self,
        log: LogId,
        user: &UserId,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let mut pin = self.pin_for(log, position).await?;
        loop {
            let asked = Asked { log, partition: pin.partition, user: user.clone() };
            let answer = self.locate_by(&asked, pin, position).await;
            match self.pin_beyond(log, pin, closed_in(&answer, |answer| answer.closed)).await? {
                Some(later) => pin = later,
                None => return answer,
            }
        }
    }

    async fn locate_by(
        &self,
        asked: &Asked,
        pin: PinSegment,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        let (log, partition) = (asked.log, asked.partition);
        if self.is_home_here(partition) {
            match self.locate_at_home(asked, position).await {
                Err(ReadRefusal::NotHere(_)) => {}
                answer => return answer,
            }
        }
        let era = (pin.generation, self.epoch(partition));
        let mut here = self.locate_here(asked, position).await;
        if matches!(here, Err(ReadRefusal::NotHere(_))) {
            here = self.locate_nearby(asked, position).await;
        }
        match here {
            Ok(answer) if (answer.generation, answer.epoch) >= era => Ok(answer),
            Err(ReadRefusal::Refused(refusal)) if !refusal.is_retryable() => Err(refusal.into()),
            here => match (self.locate_at_home(asked, position).await, here) {
                (Err(ReadRefusal::NotHere(_)), Ok(answer)) => Ok(answer),
                (Err(ReadRefusal::NotHere(_)), Err(ReadRefusal::Ahead)) => Err(behind(log).into()),
                (Err(ReadRefusal::NotHere(_)), Err(_)) => Err(unavailable(partition).into()),
                (answer, _) => answer,
            },
        }
    }

    /// What a position is to the home; [`ReadRefusal::NotHere`] where it cannot be reached.
    pub(crate) async fn locate_at_home(
        &self,
        asked: &Asked,
        position: Position,
    ) -> Result<LocateAnswer, ReadRefusal> {
        if self.is_home_here(asked.partition) {
            let homes = &self.parts().homes;
            return homes.locate(asked.partition, asked.log, &asked.user, position).await;
        }
        wire::located(self.ask_home(asked.partition, wire::locate_request(asked, position, false)).await?)
    }

    /// What a position is to another copy in this region; what it does not know it may just not know yet.
    async fn locate_nearby(&self, asked: &Asked, position: Position) -> Result<LocateAnswer, ReadRefusal> {
        let request = wire::locate_request(asked, position, true);
        match wire::located(self.ask_nearby(asked.partition, request).await?) {
            Ok(LocateAnswer { located: Located::Ahead, .. }) => Err(ReadRefusal::Ahead),
            Err(ReadRefusal::Refused(_)) => Err(self.not_here(asked.partition)),
            answer => answer,
        }
    }

    async fn read_nearby(
        &self,
        asked: &Asked,
        generation: Generation,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let request = wire::read_request(asked, from, limit, Generation::ZERO);
        match wire::page(self.ask_nearby(asked.partition, request).await?) {
            Ok(page) if page.generation < generation => Err(ReadRefusal::Ahead),
            Err(ReadRefusal::Refused(_)) => Err(self.not_here(asked.partition)),
            page => page,
        }
    }

    /// Reads a page. `known_head`: where the caller knows of more than a copy may have, so that an empty
    /// page of this node's copy is no answer. A page ends where another partition holds what follows.
    ///
    /// # Errors
    /// Never [`ReadRefusal::Ahead`]: where nobody has it, it is `behind`.
    pub(crate) async fn read(
        &self,
        log: LogId,
        user: &UserId,
        from: ReadFrom,
        limit: usize,
        known_head: Position,
    ) -> Result<Page, ReadRefusal> {
        let position = match from {
            ReadFrom::After(position) | ReadFrom::Before(Some(position)) => position,
            ReadFrom::Before(None) => Position::START,
        };
        let mut pin = self.pin_for(log, position).await?;
        loop {
            let (current, stretches) = self.stretches_above(log, before(pin.generation)).await?;
            let asked = Asked { log, partition: current.partition, user: user.clone() };
            if let Some(stretches) = stretches.as_deref().filter(|stretches| is_earlier(stretches, from)) {
                return self.read_earlier(&asked, position, stretches, from, limit).await;
            }
            let page = self.read_present(&asked, current.generation, from, limit, known_head).await;
            if let Some(later) = self.pin_beyond(log, current, closed_in(&page, |page| page.closed)).await? {
                pin = later;
                continue;
            }
            let is_start = matches!(from, ReadFrom::Before(None));
            match (&page, stretches.as_deref()) {
                // Nothing was written since the log came to where it is: its end is in the stretch before.
                (Ok(Page { records, .. }), Some(stretches @ [_, .., present]))
                    if is_start && records.is_empty() && present.first > Offset::FIRST =>
                {
                    return self.read_earlier(&asked, position, stretches, from, limit).await;
                }
                _ => return page,
            }
        }
    }

    async fn read_present(
        &self,
        asked: &Asked,
        generation: Generation,
        from: ReadFrom,
        limit: usize,
        known_head: Position,
    ) -> Result<Page, ReadRefusal> {
        let (log, partition) = (asked.log, asked.partition);
        let mut here = self.read_here(asked, generation, from, limit).await;
        if matches!(here, Err(ReadRefusal::NotHere(_))) {
            here = self.read_nearby(asked, generation, from, limit).await;
        }
        let has_more = match from {
            ReadFrom::After(position) => known_head.offset > position.offset,
            ReadFrom::Before(_) => false,
        };
        match here {
            Ok(page) if !(page.records.is_empty() && has_more) => Ok(page),
            Err(ReadRefusal::Diverged { .. }) => here,
            Err(ReadRefusal::Refused(ref refusal)) if !refusal.is_retryable() => here,
            here => match (self.read_at_home(asked, from, limit).await, here) {
                (Err(ReadRefusal::NotHere(_)), Ok(page)) => Ok(page),
                (Err(ReadRefusal::NotHere(_)), Err(ReadRefusal::Ahead)) => Err(behind(log).into()),
                (Err(ReadRefusal::NotHere(_)), Err(_)) => Err(unavailable(partition).into()),
                (Err(ReadRefusal::Ahead), _) => Err(behind(log).into()),
                (answer, _) => answer,
            },
        }
    }

    /// Reads what another partition holds than the one that is written now. Whether the user may, and whether
    /// the position stands, is told by the present one, which knows all of the log's eras.
    async fn read_earlier(
        &self,
        asked: &Asked,
        position: Position,
        stretches: &[Stretch],
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let (log, head, until) = match self.locate(asked.log, &asked.user, position).await? {
            LocateAnswer { located: Located::Continue, head, until, .. } => (asked.log, head, until),
            LocateAnswer { located: Located::Diverged { common }, .. } => {
                return Err(ReadRefusal::Diverged { common });
            }
            LocateAnswer { located: Located::Ahead, .. } => return Err(behind(asked.log).into()),
        };
        let earlier = stretches.split_last().map_or(&[][..], |(_, earlier)| earlier);
        // For a user who has left, the log ends where that happened.
        let last = earlier.last().map_or(Offset::ZERO, |stretch| stretch.last.min(head.offset));
        let wanted = match from {
            ReadFrom::After(position) => position.offset.plus(1),
            ReadFrom::Before(Some(position)) => position.offset.prev().min(last),
            ReadFrom::Before(None) => last,
        };
        let holds = |stretch: &&Stretch| (stretch.first..=stretch.last).contains(&wanted);
        let Some(stretch) = earlier.iter().find(holds).filter(|_| wanted <= last).copied() else {
            let (generation, closed) = (Generation::ZERO, Generation::ZERO);
            return Ok(Page { records: Vec::new(), at_end: true, generation, closed, until });
        };
        let end = Position { offset: stretch.last.min(head.offset).plus(1), ..Position::START };
        let from = match from {
            ReadFrom::Before(Some(position)) if position.offset <= end.offset => from,
            ReadFrom::Before(_) => ReadFrom::Before(Some(end)),
            ReadFrom::After(_) => from,
        };
        let (partition, generation) = (stretch.partition, stretch.generation);
        let replicas = &self.parts().replicas;
        let page = match replicas.read_stretch(partition, log, generation, from, limit).await {
            Ok(page) if !page.records.is_empty() => page,
            _ => {
                let there = Asked { partition, ..asked.clone() };
                let request = wire::read_request(&there, from, limit, generation);
                let reply = match self.is_home_here(partition) {
                    true => return Err(behind(log).into()),
                    false => self.ask_home(partition, request).await,
                };
                match reply.and_then(wire::page) {
                    Err(ReadRefusal::NotHere(_)) => return Err(unavailable(partition).into()),
                    Err(ReadRefusal::Ahead) => return Err(behind(log).into()),
                    answer => answer?,
                }
            }
        };
        Ok(Page { until, ..within(page, stretch, from, head) })
    }

    /// The pin by which a position is asked for: one of its own generation, or a later one.
    async fn pin_for(&self, log: LogId, position: Position) -> Result<PinSegment, ReadRefusal> {
        let pin = self.pin_above(log, before(position.generation)).await?;
        if pin.generation < position.generation {
            let why = format!("chat {log} has never given out position {position}");
            return Err(Refusal::new(Code::PositionUnknown, why).into());
        }
        Ok(pin)
    }

    /// A later pin than the one that was asked by, where the answer says that its generation is over.
    async fn pin_beyond(
        &self,
        log: LogId,
        pin: PinSegment,
        closed: Generation,
    ) -> Result<Option<PinSegment>, ReadRefusal> {
        if closed < pin.generation {
            return Ok(None);
        }
        match self.pin_above(log, closed).await {
            Ok(later) => Ok((later.generation > pin.generation).then_some(later)),
            // What was answered still stands: it may only be that there is more elsewhere.
            Err(why) => {
                tracing::debug!(%log, %why, "the pin of a log that may have moved cannot be read");
                Ok(None)
            }
        }
    }

    async fn read_at_home(&self, asked: &Asked, from: ReadFrom, limit: usize) -> Result<Page, ReadRefusal> {
        if self.is_home_here(asked.partition) {
            let replicas = &self.parts().replicas;
            return replicas.read(asked.partition, asked.log, &asked.user, from, limit).await;
        }
        let request = wire::read_request(asked, from, limit, Generation::ZERO);
        wire::page(self.ask_home(asked.partition, request).await?)
    }

    async fn locate_here(&self, asked: &Asked, position: Position) -> Result<LocateAnswer, ReadRefusal> {
        let replicas = &self.parts().replicas;
        let give_up = Instant::now() + CATCH_UP;
        loop {
            if !replicas.serves(asked.partition) {
                return Err(self.not_here(asked.partition));
            }
            let answer = replicas.locate(asked.partition, asked.log, &asked.user, position).await;
            match answer {
                Ok(LocateAnswer { located: Located::Ahead, .. }) | Err(ReadRefusal::Ahead) => {}
                Err(ReadRefusal::Refused(refusal)) if refusal.code == Code::UnknownChat => {}
                answer => return answer,
            }
            if Instant::now() >= give_up || position == Position::START {
                return Err(ReadRefusal::Ahead);
            }
            sleep(CATCH_UP_STEP).await;
        }
    }

    async fn read_here(
        &self,
        asked: &Asked,
        generation: Generation,
        from: ReadFrom,
        limit: usize,
    ) -> Result<Page, ReadRefusal> {
        let replicas = &self.parts().replicas;
        let has_position = !matches!(from, ReadFrom::After(Position::START) | ReadFrom::Before(None));
        let give_up = Instant::now() + CATCH_UP;
        loop {
            if !replicas.serves(asked.partition) {
                return Err(self.not_here(asked.partition));
            }
            match replicas.read(asked.partition, asked.log, &asked.user, from, limit).await {
                Err(ReadRefusal::Ahead) => {}
                // The log was here before, and this copy does not know yet that it is back.
                Ok(page) if page.generation < generation => {}
                Err(ReadRefusal::Refused(refusal)) if refusal.code == Code::UnknownChat => {}
                answer => return answer,
            }
            if Instant::now() >= give_up || !has_position {
                return Err(ReadRefusal::Ahead);
            }
            sleep(CATCH_UP_STEP).await;
        }
    }

    pub(crate) fn is_home_here(&self, partition: PartitionId) -> bool {
        self.bus_route(partition).is_some_and(|route| route.channel == Channel::HERE)
    }

    pub(crate) fn epoch(&self, partition: PartitionId) -> Epoch {
        self.parts().view.load().partition(partition).map_or(Epoch::ZERO, |row| row.epoch)
    }

    pub(super) fn not_here(&self, partition: PartitionId) -> ReadRefusal {
        self.no_home(partition).into()
    }

    pub(crate) fn no_home(&self, partition: PartitionId) -> NotHome {
        let (epoch, closed) = (self.epoch(partition), Generation::ZERO);
        NotHome { partition, epoch, home: None, moving: false, closed }
    }

    /// Asks another node of this region that keeps a copy; not where the home is in the region, since that knows
    /// more.
    async fn ask_nearby(&self, partition: PartitionId, request: Request) -> Result<Reply, ReadRefusal> {
        let placement = self.parts().view.load();
        let config = &self.parts().config;
        let is_near = |node: &&NodeRow| node.live && node.region == config.region;
        let row = placement.partition(partition).filter(|row| {
            let home = row.home.as_ref().and_then(|home| placement.node(&home.node));
            !home.is_some_and(|home| is_near(&home))
        });
        let copies = row.into_iter().flat_map(|row| &row.replicas);
        let near = copies
            .filter_map(|copy| placement.node(&copy.node))
            .filter(is_near)
            .find(|node| node.node != config.node && self.peers().channel(&node.node).is_some());
        let node = &near.ok_or_else(|| self.not_here(partition))?.node;
        let receiver = self.peers().ask(node, None, request).map_err(|_| self.not_here(partition))?;
        answer(receiver, NEARBY_PATIENCE).await.map_err(|why| {
            tracing::debug!(%partition, peer = %node, why, "a copy nearby did not answer a question");
            self.not_here(partition)
        })
    }

    pub(crate) async fn ask_home(
        &self,
        partition: PartitionId,
        request: Request,
    ) -> Result<Reply, ReadRefusal> {
        let route = self.bus_route(partition).ok_or_else(|| self.not_here(partition))?;
        let receiver = self
            .peers()
            .ask(&route.node, Some(route.channel), request)
            .map_err(|_| self.not_here(partition))?;
        answer(receiver, HOME_PATIENCE).await.map_err(|why| {
            tracing::debug!(%partition, peer = %route.node, why, "the home did not answer a question");
            self.not_here(partition)
        })
    }
}

/// Whether a read begins in a stretch before the present one.
fn is_earlier(stretches: &[Stretch], from: ReadFrom) -> bool {
    let Some((_, earlier)) = stretches.split_last() else { return false };
    let wanted = match from {
        ReadFrom::After(position) => position.offset.plus(1),
        ReadFrom::Before(Some(position)) => position.offset.prev(),
        ReadFrom::Before(None) => return false,
    };
    earlier.iter().any(|stretch| (stretch.first..=stretch.last).contains(&wanted))
}

/// A page of an earlier stretch without what does not belong to it: a copy of its partition may hold more.
fn within(mut page: Page, stretch: Stretch, from: ReadFrom, head: Position) -> Page {
    let offset = |record: &Record| record.entry().map_or(Offset::ZERO, |entry| entry.offset);
    let last = stretch.last.min(head.offset);
    page.records.retain(|record| (stretch.first..=last).contains(&offset(record)));
    page.at_end = match from {
        ReadFrom::After(_) => page.records.last().is_none_or(|last| offset(last) >= head.offset),
        ReadFrom::Before(_) => page.records.first().is_none_or(|first| offset(first) == Offset::FIRST),
    };
    page
}

/// Up to which generation an answer says that the log is not written where it was asked.
pub(super) fn closed_in<T>(answer: &Result<T, ReadRefusal>, closed: impl Fn(&T) -> Generation) -> Generation {
    match answer {
        Ok(answer) => closed(answer),
        Err(ReadRefusal::NotHere(not_home)) => not_home.closed,
        Err(_) => Generation::ZERO,
    }
}

/// The generation below one.
pub(super) const fn before(generation: Generation) -> Generation {
    Generation::new(generation.get().saturating_sub(1))
}

fn behind(log: LogId) -> Refusal {
    let why = format!("this replica of {log} does not hold the position yet, and the home cannot be reached");
    Refusal::new(Code::Behind, why).retry_after_ms(500)
}

fn unavailable(partition: PartitionId) -> Refusal {
    let why = format!("this node holds no copy of partition {partition}, and its home cannot be reached");
    Refusal::new(Code::HomeUnavailable, why).retry_after_ms(500)
}
