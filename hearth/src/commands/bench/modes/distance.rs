//! How far regions are apart, as the lab says.

use super::Bench;
use anyhow::{Context as _, Result};
use lab::{LinkDescription, Place};
use types::RegionId;

/// One-way times between the processes of regions, in µs; half the jitter is in them.
#[derive(Debug)]
pub(super) struct Distances(Vec<LinkDescription>);

impl Distances {
    pub(super) async fn of(bench: &Bench) -> Result<Self> {
        Ok(Self(bench.deployment.control.links().await?))
    }

    /// From one region to another; none within a region.
    pub(super) fn one_way_us(&self, from: &RegionId, to: &RegionId) -> Result<u64> {
        if from == to {
            return Ok(0);
        }
        let ends = (Place::from(from.clone()), Place::from(to.clone()));
        let link = self.0.iter().find(|link| (&link.from, &link.to) == (&ends.0, &ends.1));
        let link = link.with_context(|| format!("there is no link from {from} to {to}"))?;
        Ok(link.delay_us + link.jitter_us / 2)
    }

    /// There and back.
    pub(super) fn round_trip_us(&self, a: &RegionId, b: &RegionId) -> Result<u64> {
        Ok(self.one_way_us(a, b)? + self.one_way_us(b, a)?)
    }
}
