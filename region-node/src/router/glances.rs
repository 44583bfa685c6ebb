//! Glances at many chats, wherever they are homed: from this node's copies where it has them, else from the homes.
//!
//! A list of chats is for people: a copy that lags shows them as they were a moment ago, and a chat whose copies cannot
//! be asked is left out rather than waited for.

use super::Router;
use crate::{
    peer::wire::{self, COUNTS_MAX, GLANCES_MAX, GlanceAsked},
    service::{Detail, Glance, ReadRefusal},
};
use futures_util::{StreamExt as _, stream};
use std::collections::{BTreeMap, HashSet};
use types::{Generation, LogId, PartitionId, PinSegment, UserId};

/// Pins that are read, and partitions that are asked, at a time.
const ASKED_MAX: usize = 16;

impl Router {
    /// How chats stand for a user, in no order. Those that the user is no member of,
    /// and those of which nothing can be told now, are left out.
    pub(crate) async fn glances(&self, user: &UserId, logs: &[LogId], detail: Detail<'_>) -> Vec<Glance> {
        let asked = logs.iter().map(|log| (*log, Generation::ZERO)).collect();
        let pins = self.pins_above(asked).await;
        let mut glances = self.glances_at(user, &pins, detail).await;
        let told: HashSet<LogId> = glances.iter().map(|glance| glance.log).collect();
        let untold = pins.into_iter().filter(|(log, _)| !told.contains(log));
        // Perhaps because they are written elsewhere by now.
        let moved: Vec<(LogId, Generation)> = untold.map(|(log, pin)| (log, pin.generation)).collect();
        if !moved.is_empty() {
            let later = self.pins_above(moved.clone()).await.into_iter().zip(moved);
            let later: Vec<_> = later
                .filter(|((log, pin), (of, before))| log == of && pin.generation > *before)
                .map(|(found, _)| found)
                .collect();
            glances.extend(self.glances_at(user, &later, detail).await);
        }
        glances
    }

    /// The pins of logs, in their order, each above a generation where one is known; without those that cannot be read.
    async fn pins_above(&self, logs: Vec<(LogId, Generation)>) -> Vec<(LogId, PinSegment)> {
        let pin = |(log, closed)| async move { self.pin_above(log, closed).await.ok().map(|pin| (log, pin)) };
        stream::iter(logs).map(pin).buffered(ASKED_MAX).filter_map(|pin| async move { pin }).collect().await
    }

    async fn glances_at(
        &self,
        user: &UserId,
        pins: &[(LogId, PinSegment)],
        detail: Detail<'_>,
    ) -> Vec<Glance> {
        let mut partitions: BTreeMap<PartitionId, Vec<LogId>> = BTreeMap::new();
        for (log, pin) in pins {
            partitions.entry(pin.partition).or_default().push(*log);
        }
        let count = detail == Detail::Unread;
        let most = if count { COUNTS_MAX } else { GLANCES_MAX };
        let known =
            |logs: &[LogId]| logs.iter().filter_map(|log| Some((*log, detail.receipts_of(*log)?))).collect();
        let questions: Vec<GlanceAsked> = partitions
            .iter()
            .flat_map(|(partition, logs)| logs.chunks(most).map(|logs| (*partition, logs)))
            .map(|(partition, logs)| {
                let receipts = known(logs);
                GlanceAsked { partition, user: user.clone(), logs: logs.to_vec(), count, receipts }
            })
            .collect();
        let answer = |asked: GlanceAsked| async move {
            self.glances_of(&asked).await.unwrap_or_else(|why| {
                tracing::debug!(partition = %asked.partition, %why, "chats cannot be looked at");
                Vec::new()
            })
        };
        let answers: Vec<Vec<Glance>> =
            stream::iter(questions).map(answer).buffer_unordered(ASKED_MAX).collect().await;
        answers.into_iter().flatten().collect()
    }

    async fn glances_of(&self, asked: &GlanceAsked) -> Result<Vec<Glance>, ReadRefusal> {
        let GlanceAsked { partition, user, logs, .. } = asked;
        let replicas = &self.parts().replicas;
        if replicas.serves(*partition) {
            match replicas.glance(*partition, user, logs, asked.detail()).await {
                Err(ReadRefusal::NotHere(_)) => {}
                answer => return answer,
            }
        }
        wire::glanced(self.ask_home(*partition, wire::glance_request(asked)).await?)
    }
}
