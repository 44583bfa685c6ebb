//! Sequences of faults that are aimed at one state each, which chance alone hardly ever brings about.

use super::{Draw, Fault, Planned};
use crate::sim::{
    operator::{Command, Commanded},
    plan::PARTITIONS_PER_REGION,
    trap::{Sight, Trap},
};
use rand::RngExt as _;

/// Each answers how many commands of the operator a run like this has at most.
impl Draw<'_> {
    /// Nobody but the directory has lost the home, which goes on writing while its lease runs. As it is given up, the
    /// followers' disks stall: they are fenced behind what was under way to their disks, and what the home sends next
    /// lies behind the fence. All of it is synced at once, before anybody there has heard of the fence.
    ///
    /// ```text
    ///    first   home ──✕ not heard ── given up ──(writes, until its lease ends)──┤
    ///    others  ─────────────────────────┤ disks stall: fence, then records ├─ synced ─ new home ──▶
    /// ```
    pub(super) fn fenced_under_way(&mut self) -> usize {
        let order = self.order();
        let mut at_us = self.when.start + self.rng.random_range(4_500_000..6_500_000);
        for first in order {
            if at_us >= self.when.end {
                break;
            }
            let until_us = at_us + self.rng.random_range(5_000_000..8_000_000);
            for node in self.nodes_of(first) {
                self.add(at_us, until_us, Fault::CutFromDirectory(node));
            }
            // Shorter than a call to fence may take.
            let stalls_us = self.rng.random_range(150_000..800_000);
            let others = (0..self.regions).filter(|other| *other != first);
            let stalled = others.flat_map(|other| self.nodes_of(other)).map(|node| Planned {
                from_us: 0,
                until_us: stalls_us,
                fault: Fault::DiskStalls(node),
            });
            let stalled = stalled.collect();
            self.drawn.traps.push(Trap::new(Sight::GivenUp { region: first }, (at_us, until_us), stalled));
            at_us = until_us + self.rng.random_range(1_500_000..4_000_000);
        }
        0
    }

    /// A follower that holds more than the new home, and did not hear of it, hears of it late; the new home goes
    /// while the follower is being told what of it to drop, and nobody but the follower can follow it.
    ///
    /// ```text
    ///    first   home ──✕ dead ───────────────────────────────────────────────────┤ back
    ///    second  holds all, hears nothing ──┤ obeys: told what to drop, disk stalls ──┤ home
    ///    third   lags ──────── home ────────────────────────✕ gone
    /// ```
    pub(super) fn judged_late(&mut self) -> usize {
        let [first, second, third] = self.order();
        let at_us = self.when.start + self.rng.random_range(6_500_000..9_500_000);
        let by_ms = self.rng.random_range(300..700);
        let slow = Fault::PeersSlow { one: second, other: third, by_ms };
        self.add(at_us - 2_500_000, at_us + 16_000_000, slow);
        // What is written in this time is at the second alone, and acked by the first.
        let behind_us = self.rng.random_range(500_000..2_000_000);
        self.add(at_us - behind_us, at_us + 1_000_000, Fault::PeersCut(first, third));
        let heard_us = at_us + self.rng.random_range(5_500_000..8_000_000);
        let deaf_us = at_us - self.rng.random_range(0..300_000);
        self.add(deaf_us, heard_us, Fault::ServersDeaf(second));
        let back_us = heard_us + self.rng.random_range(6_000_000..12_000_000);
        self.down(first, at_us, back_us);
        // It is asked, and its word comes back.
        let word_us = 2 * by_ms * 1_000;
        let stalls_us = self.rng.random_range(word_us / 8..word_us);
        let gone_us = word_us + self.rng.random_range(100_000..700_000);
        // Longer than it takes to find the home gone, and shorter than a disk may stall.
        let stalled_us = gone_us + self.rng.random_range(2_500_000..4_200_000);
        let gone_until_us = stalled_us + self.rng.random_range(1_000_000..4_000_000);
        let mut then = Vec::new();
        if self.rng.random_bool(0.8) {
            then.extend(self.nodes_of(second).into_iter().map(|node| Planned {
                from_us: stalls_us,
                until_us: stalled_us,
                fault: Fault::DiskStalls(node),
            }));
        }
        let gone = Fault::RegionCut(third);
        then.push(Planned { from_us: gone_us, until_us: gone_until_us, fault: gone });
        let sight = Sight::Judged { region: second, by: third };
        self.drawn.traps.push(Trap::new(sight, (heard_us, heard_us + 8_000_000), then));
        0
    }

    /// A follower that was gone, and is always a little behind, is cut off as soon as it has joined again; the home
    /// goes soon after that, while the other follower hears nothing.
    pub(super) fn joined_early(&mut self) -> usize {
        let [first, second, third] = self.order();
        let at_us = self.when.start + self.rng.random_range(6_500_000..9_500_000);
        let by_ms = self.rng.random_range(400..900);
        let back_us = at_us + self.rng.random_range(4_500_000..5_500_000);
        for other in [first, second] {
            let slow = Fault::PeersSlow { one: third, other, by_ms };
            self.add(at_us - 500_000, back_us + 12_000_000, slow);
        }
        self.down(third, at_us, back_us);
        let alone_us = self.rng.random_range(0..by_ms * 800);
        let gone_us = alone_us + self.rng.random_range(100_000..1_500_000);
        let until_us = gone_us + self.rng.random_range(6_000_000..8_000_000);
        let mut then = Vec::new();
        let mut add = |from_us, fault| then.push(Planned { from_us, until_us, fault });
        add(alone_us, Fault::PeersCut(third, first));
        add(alone_us, Fault::PeersCut(third, second));
        add(gone_us.saturating_sub(100_000), Fault::ServersDeaf(second));
        let is_paused = self.rng.random_bool(0.5);
        for node in self.nodes_of(first) {
            add(gone_us, if is_paused { Fault::NodePaused(node) } else { Fault::NodeKilled(node) });
        }
        let sight = Sight::Joined { region: third, home: first };
        self.drawn.traps.push(Trap::new(sight, (back_us, back_us + 8_000_000), then));
        0
    }

    /// A region is alone for longer than followers may lag, and then loses its disks. Nothing else breaks: what
    /// two regions lose is lost.
    pub(super) fn alone_then_lost(&mut self) -> usize {
        let region = self.region();
        // Partitions are born with their home alone: followers have joined it by then.
        let at_us = self.when.start + self.rng.random_range(5_000_000..8_000_000);
        let lost_us = at_us + self.rng.random_range(2_000_000..9_000_000);
        if self.rng.random_bool(0.7) {
            for other in (0..self.regions).filter(|other| *other != region) {
                let until_us = lost_us + self.rng.random_range(0..1_000_000);
                self.add(at_us, until_us, Fault::PeersCut(region, other));
            }
        }
        let until_us = lost_us + self.rng.random_range(500_000..9_000_000);
        for node in self.nodes_of(region) {
            self.add(lost_us, until_us, Fault::StoreLost(node));
        }
        self.harmless();
        0
    }

    /// Homes are moved away from a region that hears late, or not at all, how the moves end. It is not drained: its
    /// clients would leave it. A third region still knows nothing of the move.
    ///
    /// ```text
    ///    from   home ───────── SEAL ──────(still knows no other home)──────┤
    ///    to                       home ─────────────────────────────────────────▶
    ///    third  (still sends to the former home) ─────────────────────┤
    /// ```
    pub(super) fn moved_unheard(&mut self) -> usize {
        let [region, to, third] = self.order();
        let mut at_us = self.when.start + self.rng.random_range(1_500_000..4_000_000);
        while at_us < self.when.end {
            self.moved(region, to, at_us);
            let until_us = if self.rng.random_bool(0.75) {
                self.late(region, third, at_us)
            } else {
                // A move begins 200 to 600 ms behind the command, and takes 150 to 400 ms.
                let from_us = at_us + self.rng.random_range(150_000..900_000);
                let until_us = from_us + self.rng.random_range(1_000_000..4_000_000);
                self.gone(region, from_us, until_us);
                until_us
            };
            let back_us = until_us + self.rng.random_range(1_000_000..3_000_000);
            self.moved(region, region, back_us);
            at_us = back_us + self.rng.random_range(1_500_000..4_000_000);
        }
        0
    }

    /// What the directory says comes late to the former home, and later still to a third region.
    fn late(&mut self, former: usize, third: usize, moved_us: u64) -> u64 {
        let former_ms = self.rng.random_range(500..1_500);
        let third_ms = former_ms + self.rng.random_range(600..1_200);
        let from_us = moved_us - 1_000_000;
        let until_us = moved_us + 1_000_000 + (2 * former_ms).max(third_ms) * 1_000;
        for (region, by_ms) in [(former, former_ms), (third, third_ms)] {
            for node in self.nodes_of(region) {
                self.add(from_us, until_us, Fault::DirectoryLate { node, by_ms });
            }
        }
        // Nor does it hear from the pump who is home now.
        self.add(from_us, until_us, Fault::ReplicatorBlind(former));
        until_us
    }

    /// The partitions that prefer a region are moved. The directory numbers them in the order of the regions' names.
    fn moved(&mut self, preferred: usize, to: usize, at_us: u64) {
        let name = |region| self.nodes.iter().find(|(_, it)| *it == region).map(|(node, _)| node);
        let before = (0..self.regions).filter(|region| name(*region) < name(preferred)).count() as u32;
        for partition in before * PARTITIONS_PER_REGION..(before + 1) * PARTITIONS_PER_REGION {
            let command = Command::Move { partition, region: to };
            self.drawn.commands.push(Commanded { at_us, command });
        }
    }
}
