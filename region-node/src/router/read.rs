//! Reads and position checks: from this node's copy where it knows enough, else from the home.
//!
//! A node without a copy asks one of its region that has one before it asks a home abroad.
//! A copy that has not reached a position is given a moment, then the home is asked. A copy of an older
//! epoch than the placement's may hold what a failover undid, so its word on a position counts only where
//! the home cannot be reached; the position is checked again when it can.

use super::Router;
use crate::{
    peer::{Channel, client::answer, wire, wire::Asked},
    service::{LocateAnswer, NotHome, Page, ReadFrom, ReadRefusal},
};
use log_store::locate::Located;
use proto::node::{peer_reply::Reply, peer_request::Request};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::{Code, Epoch, LogId, NodeRow, PartitionId, Position, Refusal, UserId};

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
        let partition = self.pin_of(log).await?.partition;
        let asked = Asked { log, partition, user: user.clone() };
        if self.is_home_here(partition) {
            match self.locate_at_home(&asked, position).await {
                Err(ReadRefusal::NotHere(_)) => {}
                answer => return answer,
            }
        }
        let epoch = self.epoch(partition);
        let mut here = self.locate_here(&asked, position).await;
        if matches!(here, Err(ReadRefusal::NotHere(_))) {
            here = self.locate_nearby(&asked, position).await;
        }
        match here {
            Ok(answer) if answer.epoch >= epoch => Ok(answer),
            Err(ReadRefusal::Refused(refusal)) => Err(refusal.into()),
            here => match (self.locate_at_home(&asked, position).await, here) {
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

    async fn read_nearby(&self, asked: &Asked, from: ReadFrom, limit: usize) -> Result<Page, ReadRefusal> {
        let request = wire::read_request(asked, from, limit);
        match wire::page(self.ask_nearby(asked.partition, request).await?) {
            Err(ReadRefusal::Refused(_)) => Err(self.not_here(asked.partition)),
            page => page,
        }
    }

    /// Reads a page. `known_head`: where the caller knows of more than a copy may have, so that an empty
    /// page of this node's copy is no answer.
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
        let partition = self.pin_of(log).await?.partition;
        let asked = Asked { log, partition, user: user.clone() };
        let mut here = self.read_here(&asked, from, limit).await;
        if matches!(here, Err(ReadRefusal::NotHere(_))) {
            here = self.read_nearby(&asked, from, limit).await;
        }
        let has_more = match from {
            ReadFrom::After(position) => known_head.offset > position.offset,
            ReadFrom::Before(_) => false,
        };
        match here {
            Ok(page) if !(page.records.is_empty() && has_more) => Ok(page),
            Err(ReadRefusal::Refused(_) | ReadRefusal::Diverged { .. }) => here,
            here => match (self.read_at_home(&asked, from, limit).await, here) {
                (Err(ReadRefusal::NotHere(_)), Ok(page)) => Ok(page),
                (Err(ReadRefusal::NotHere(_)), Err(ReadRefusal::Ahead)) => Err(behind(log).into()),
                (Err(ReadRefusal::NotHere(_)), Err(_)) => Err(unavailable(partition).into()),
                (Err(ReadRefusal::Ahead), _) => Err(behind(log).into()),
                (answer, _) => answer,
            },
        }
    }

    async fn read_at_home(&self, asked: &Asked, from: ReadFrom, limit: usize) -> Result<Page, ReadRefusal> {
        if self.is_home_here(asked.partition) {
            let replicas = &self.parts().replicas;
            return replicas.read(asked.partition, asked.log, &asked.user, from, limit).await;
        }
        wire::page(self.ask_home(asked.partition, wire::read_request(asked, from, limit)).await?)
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

    async fn read_here(&self, asked: &Asked, from: ReadFrom, limit: usize) -> Result<Page, ReadRefusal> {
        let replicas = &self.parts().replicas;
        let has_position = !matches!(from, ReadFrom::After(Position::START) | ReadFrom::Before(None));
        let give_up = Instant::now() + CATCH_UP;
        loop {
            if !replicas.serves(asked.partition) {
                return Err(self.not_here(asked.partition));
            }
            match replicas.read(asked.partition, asked.log, &asked.user, from, limit).await {
                Err(ReadRefusal::Ahead) => {}
                Err(ReadRefusal::Refused(refusal)) if refusal.code == Code::UnknownChat => {}
                answer => return answer,
            }
            if Instant::now() >= give_up || !has_position {
                return Err(ReadRefusal::Ahead);
            }
            sleep(CATCH_UP_STEP).await;
        }
    }

    fn is_home_here(&self, partition: PartitionId) -> bool {
        self.bus_route(partition).is_some_and(|route| route.channel == Channel::HERE)
    }

    pub(crate) fn epoch(&self, partition: PartitionId) -> Epoch {
        self.parts().view.load().partition(partition).map_or(Epoch::ZERO, |row| row.epoch)
    }

    fn not_here(&self, partition: PartitionId) -> ReadRefusal {
        NotHome { partition, epoch: self.epoch(partition), home: None, moving: false }.into()
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

    async fn ask_home(&self, partition: PartitionId, request: Request) -> Result<Reply, ReadRefusal> {
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

fn behind(log: LogId) -> Refusal {
    let why = format!("this replica of {log} does not hold the position yet, and the home cannot be reached");
    Refusal::new(Code::Behind, why).retry_after_ms(500)
}

fn unavailable(partition: PartitionId) -> Refusal {
    let why = format!("this node holds no copy of partition {partition}, and its home cannot be reached");
    Refusal::new(Code::HomeUnavailable, why).retry_after_ms(500)
}
