//! Looks for what traps wait for.

use super::Run;
use crate::sim::{
    directory::Rows,
    trap::{Sight, Trap},
};
use futures_util::FutureExt as _;
use log_store::LogStore as _;
use std::cmp::Reverse;
use types::{NodeId, PartitionRow, PartitionState};

impl Run {
    /// The faults of traps that see what they wait for are planned.
    pub(super) fn spring_traps(&mut self) {
        let now_us = self.now_us;
        self.traps.retain(|trap| !trap.is_over(now_us));
        if !self.traps.iter().any(|trap| trap.looks(now_us)) {
            return;
        }
        let Some(rows) = Rows::furthest(&self.rows) else { return };
        let mut traps = std::mem::take(&mut self.traps);
        let springs = |trap: &mut Trap| {
            let (sight, looks) = (trap.sight, trap.looks(now_us));
            let seen = rows.placement.partitions().map(|row| (row.partition, self.is_so(sight, row)));
            looks && seen.fold(false, |any, (partition, is_so)| trap.sees(partition, is_so) || any)
        };
        let sprung: Vec<Trap> = traps.extract_if(.., springs).collect();
        for trap in sprung {
            tracing::info!(sight = ?trap.sight, "a trap is sprung");
            self.pending.extend(trap.sprung(now_us));
        }
        self.traps = traps;
        // The next one is last.
        self.pending.sort_by_key(|planned| Reverse(planned.from_us));
    }

    fn is_so(&self, sight: Sight, row: &PartitionRow) -> bool {
        let is_homed_in = |region| row.home.as_ref().is_some_and(|home| self.is_in(&home.node, region));
        match sight {
            Sight::Joined { region, home } => {
                is_homed_in(home) && row.isr.iter().any(|member| self.is_in(&member.node, region))
            }
            Sight::GivenUp { region } => is_homed_in(region) && row.state == PartitionState::FailingOver,
            Sight::Judged { region, by } => {
                let nodes = self.plan.nodes.iter().zip(&self.disks).filter(|((_, it), _)| *it == region);
                let mut ends = nodes.filter_map(|(_, disk)| {
                    disk.store().end(row.partition).now_or_never().and_then(Result::ok)
                });
                is_homed_in(by)
                    && ends.any(|end| {
                        end.fence == row.epoch
                            && end.last.epoch < row.epoch
                            && end.last.lsn >= row.start_lsn()
                    })
            }
        }
    }

    fn is_in(&self, node: &NodeId, region: usize) -> bool {
        self.plan.nodes.iter().any(|(it, of)| it == node && *of == region)
    }
}
