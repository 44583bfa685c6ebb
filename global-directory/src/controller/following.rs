//! Whether a log may go where it is written from, just now.
//!
//! Homes tell where their logs are written from; the rows decide whether a log can go there (`command/rehome`), and
//! this decides whether it is the time: not while anything fails over, not so soon after it went or tried to go the
//! last time, and not more of them than a rate.
//!
//! Pure, and in the memory of the one who leads: whoever leads next has seen nothing, and goes by its rates alone.

use crate::bounds;
use std::collections::{BTreeMap, VecDeque};
use types::{LogId, PartitionState, Placement, RegionId, RegionStatus};

/// How logs follow those who write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowSettings {
    /// Whether they do.
    pub on: bool,
    /// How long a log that went, or tried to, stays.
    pub cooldown_ms: u64,
    /// Logs a minute that may go, all together.
    pub per_minute: u32,
    /// Logs a minute that may go to one region.
    pub region_per_minute: u32,
}

/// Why not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The configuration says so.
    #[error("chats follow nobody: it is switched off in the directory's configuration")]
    Off,
    /// There is no such region, or it takes no homes.
    #[error("region {0} takes no homes just now")]
    Closed(RegionId),
    /// Something is amiss.
    #[error("partitions are failing over")]
    Restless,
    /// It went a while ago.
    #[error("it went, or tried to, {ago_ms} ms ago")]
    Cooling {
        /// How long ago.
        ago_ms: u64,
        /// How long it stays still.
        left_ms: u64,
    },
    /// There are enough for now.
    #[error("enough chats have gone {0} for now")]
    TooMany(String),
}

impl NotNow {
    /// How long it is of no use to ask again.
    pub const fn retry_after_ms(&self) -> u64 {
        match self {
            Self::Off | Self::Closed(_) => bounds::FOLLOW_REFUSED_MS,
            Self::Restless => bounds::FOLLOW_RESTLESS_MS,
            Self::Cooling { left_ms, .. } => *left_ms,
            Self::TooMany(_) => bounds::FOLLOW_RATE_MS,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Follows {
    settings: FollowSettings,
    all: Bucket,
    regions: BTreeMap<RegionId, Bucket>,
    /// When logs went, the latest ones.
    gone_ms: BTreeMap<LogId, u64>,
    order: VecDeque<(u64, LogId)>,
}

impl Follows {
    /// Nothing has gone yet.
    pub fn new(settings: FollowSettings) -> Self {
        let all = Bucket::full(settings.per_minute);
        Self { settings, all, regions: BTreeMap::new(), gone_ms: BTreeMap::new(), order: VecDeque::new() }
    }

    /// How they follow.
    pub const fn settings(&self) -> &FollowSettings {
        &self.settings
    }

    /// Lets a log try to go to a region, or says why not. One that may is counted.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn admit(
        &mut self,
        now_ms: u64,
        view: &Placement,
        log: LogId,
        region: &RegionId,
    ) -> Result<(), NotNow> {
        if !self.settings.on {
            return Err(NotNow::Off);
        }
        if view.region(region).is_none_or(|row| row.status != RegionStatus::Active) {
            return Err(NotNow::Closed(region.clone()));
        }
        let is_calm =
            |row: &types::PartitionRow| row.state != PartitionState::FailingOver && row.waiting.is_empty();
        if !view.partitions().all(is_calm) {
            return Err(NotNow::Restless);
        }
        self.forget_old(now_ms);
        if let Some(gone_ms) = self.gone_ms.get(&log) {
            let ago_ms = now_ms.saturating_sub(*gone_ms);
            return Err(NotNow::Cooling {
                ago_ms,
                left_ms: self.settings.cooldown_ms.saturating_sub(ago_ms),
            });
        }
        let per_minute = self.settings.region_per_minute;
        let there = self.regions.entry(region.clone()).or_insert_with(|| Bucket::full(per_minute));
        if !self.all.has_one(now_ms, self.settings.per_minute) {
            return Err(NotNow::TooMany("anywhere".into()));
        }
        if !there.has_one(now_ms, per_minute) {
            return Err(NotNow::TooMany(format!("to {region}")));
        }
        self.all.take_one();
        there.take_one();
        Ok(())
    }

    /// A log is on its way.
    pub fn gone(&mut self, now_ms: u64, log: LogId) {
        if self.order.len() >= bounds::FOLLOWS_REMEMBERED_MAX {
            self.forget_first();
        }
        self.gone_ms.insert(log, now_ms);
        self.order.push_back((now_ms, log));
    }

    fn forget_old(&mut self, now_ms: u64) {
        let cooldown_ms = self.settings.cooldown_ms;
        while self.order.front().is_some_and(|(at_ms, _)| now_ms.saturating_sub(*at_ms) >= cooldown_ms) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((at_ms, log)) = self.order.pop_front() else { return };
        // It may have gone again since.
        if self.gone_ms.get(&log) == Some(&at_ms) {
            self.gone_ms.remove(&log);
        }
    }
}

/// So many a minute, and a sixth of that at once.
#[derive(Debug)]
struct Bucket {
    thousandths: u64,
    at_ms: u64,
}

impl Bucket {
    fn full(per_minute: u32) -> Self {
        Self { thousandths: Self::room(per_minute), at_ms: 0 }
    }

    fn room(per_minute: u32) -> u64 {
        (u64::from(per_minute) / 6).max(1) * 1_000
    }

    fn has_one(&mut self, now_ms: u64, per_minute: u32) -> bool {
        let come = now_ms.saturating_sub(self.at_ms).saturating_mul(u64::from(per_minute)) / 60;
        if come > 0 {
            self.thousandths = self.thousandths.saturating_add(come).min(Self::room(per_minute));
            self.at_ms = now_ms;
        }
        self.thousandths >= 1_000
    }

    const fn take_one(&mut self) {
        self.thousandths = self.thousandths.saturating_sub(1_000);
    }
}

#[cfg(test)]
mod tests;
