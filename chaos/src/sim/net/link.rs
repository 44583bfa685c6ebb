//! Ways from host to host: how long each takes, and which are cut.

use crate::sim::host::HostId;
use std::collections::{BTreeMap, BTreeSet};

/// The way from one host to another; the way back is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct Link {
    pub(in crate::sim) from: HostId,
    pub(in crate::sim) to: HostId,
}

impl Link {
    /// The way back.
    pub(super) const fn back(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// How long a packet takes.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Delay {
    pub(in crate::sim) least_us: u64,
    /// Up to so much more.
    pub(in crate::sim) jitter_us: u64,
}

/// What is not listed takes this long.
const WITHIN_MACHINE: Delay = Delay { least_us: 50, jitter_us: 50 };

#[derive(Debug, Default)]
pub(in crate::sim) struct Links {
    delays: BTreeMap<Link, Delay>,
    slowed_us: BTreeMap<Link, u64>,
    cut: BTreeSet<Link>,
}

impl Links {
    pub(in crate::sim) fn set_delay(&mut self, link: Link, delay: Delay) {
        self.delays.insert(link, delay);
    }

    /// Makes a link slower by so much; 0 undoes it.
    pub(in crate::sim) fn slow(&mut self, link: Link, by_us: u64) {
        self.slowed_us.insert(link, by_us);
    }

    pub(super) fn set_cut(&mut self, link: Link, cut: bool) {
        if cut {
            self.cut.insert(link);
        } else {
            self.cut.remove(&link);
        }
    }

    pub(super) fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// How long a packet takes, given a number in 0..1.
    pub(super) fn delay_us(&self, link: Link, drawn: f64) -> u64 {
        let delay = self.delays.get(&link).copied().unwrap_or(WITHIN_MACHINE);
        let slowed_us = self.slowed_us.get(&link).copied().unwrap_or(0);
        delay.least_us + (delay.jitter_us as f64 * drawn) as u64 + slowed_us
    }
}
