//! Planned moves, as the placement tells of them.

use super::Seen;
use crate::{
    history::{self, Kind, MoveEnd, Recorder},
    sim::world,
};
use std::collections::BTreeMap;
use types::{Move, MoveId, PartitionId, Placement};

/// The moves that are under way.
#[derive(Default)]
pub(super) struct Moves(BTreeMap<PartitionId, UnderWay>);

struct UnderWay {
    moving: Move,
    number: history::Move,
}

impl Moves {
    /// Notes what began and what ended. Only what begins while nothing is broken is judged by the failed
    /// writes: others may fail for other reasons.
    pub(super) fn note(&mut self, placement: &Placement, seen: &Seen, recorder: &Recorder) {
        for row in placement.partitions() {
            let now = row.moving.as_ref();
            if let Some(known) = self.0.get(&row.partition)
                && now.map(|moving| moving.id) != Some(known.moving.id)
            {
                let is_there = row.home.as_ref() == Some(&known.moving.target);
                let end = if is_there { MoveEnd::Moved } else { MoveEnd::Aborted };
                recorder.record(Kind::MoveEnded { moving: known.number, end });
                self.0.remove(&row.partition);
            }
            let Some(moving) = now.filter(|moving| !self.knows(row.partition, moving.id)) else { continue };
            let source = row.home.as_ref().and_then(|home| placement.node(&home.node));
            let target = placement.node(&moving.target.node);
            if let (Some(source), Some(target), true) = (source, target, seen.is_calm(world::now_us())) {
                let node = |row: &types::NodeRow| recorder.node(&row.node, &row.region);
                let number = recorder.move_began(row.partition, node(source), node(target));
                self.0.insert(row.partition, UnderWay { moving: moving.clone(), number });
            }
        }
    }

    fn knows(&self, partition: PartitionId, id: MoveId) -> bool {
        self.0.get(&partition).is_some_and(|known| known.moving.id == id)
    }
}
