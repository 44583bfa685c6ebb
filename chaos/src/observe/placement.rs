//! Who becomes home of what, and what moves, as the directory tells.

use crate::history::{Kind, Move, MoveEnd, Node, Recorder};
use lab::Lab;
use parking_lot::Mutex;
use proto::directory::{WatchPlacementRequest, directory_client::DirectoryClient};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{
    Epoch, MoveId, NodeId, PartitionId, PartitionRow, PartitionState, PlacementDelta, RegionId, limits,
};

/// Before a process of the directory that does not answer is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The version of the directory's protocol.
const PROTOCOL_VERSION: u32 = 1;

/// Watches the placement at every process of the directory, and records each epoch that begins and each planned move,
/// as the first of them tells it, until `stop`.
pub async fn watch_placement(lab: Arc<Lab>, recorder: Recorder, stop: CancellationToken) {
    let seen = Arc::new(Mutex::new(Seen::new(recorder)));
    let mut watching = JoinSet::new();
    for address in lab.directory_addresses() {
        let seen = Arc::clone(&seen);
        watching.spawn(async move {
            loop {
                // One that is killed, or does not answer, is asked again.
                let _ = follow(&address, &seen).await;
                sleep(AGAIN_AFTER).await;
            }
        });
    }
    stop.cancelled().await;
}

async fn follow(address: &str, seen: &Mutex<Seen>) -> anyhow::Result<()> {
    let client = DirectoryClient::connect(address.to_owned()).await?;
    let mut client = client.max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let request = WatchPlacementRequest { protocol_version: PROTOCOL_VERSION, from_version: 0 };
    let mut deltas = client.watch_placement(request).await?.into_inner();
    while let Some(delta) = deltas.message().await? {
        seen.lock().take(&PlacementDelta::try_from(delta)?);
    }
    Ok(())
}

/// A planned move that has not ended.
struct Moving {
    id: MoveId,
    epoch: Epoch,
    target: NodeId,
    recorded: Move,
}

/// What has been told so far. The processes of the directory tell the same, one earlier than the other.
struct Seen {
    recorder: Recorder,
    regions: BTreeMap<NodeId, RegionId>,
    placed: HashMap<PartitionId, Epoch>,
    moving: HashMap<PartitionId, Moving>,
    last_move: HashMap<PartitionId, MoveId>,
}

impl Seen {
    fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            regions: BTreeMap::new(),
            placed: HashMap::new(),
            moving: HashMap::new(),
            last_move: HashMap::new(),
        }
    }

    fn take(&mut self, delta: &PlacementDelta) {
        for row in &delta.nodes {
            self.regions.insert(row.node.clone(), row.region.clone());
        }
        for row in &delta.partitions {
            self.end_move(row);
            self.place(row);
            self.begin_move(row);
        }
    }

    fn node(&self, node: &NodeId) -> Option<Node> {
        Some(self.recorder.node(node, self.regions.get(node)?))
    }

    fn place(&mut self, row: &PartitionRow) {
        for start in &row.history {
            if self.placed.get(&row.partition).is_some_and(|last| start.epoch <= *last) {
                continue;
            }
            let Some(node) = self.node(&start.home.node) else { continue };
            self.placed.insert(row.partition, start.epoch);
            self.recorder.record(Kind::Placed {
                partition: row.partition,
                epoch: start.epoch,
                node,
                incarnation: start.home.incarnation,
                start_lsn: start.start_lsn,
            });
        }
    }

    fn begin_move(&mut self, row: &PartitionRow) {
        let (Some(moving), Some(home)) = (&row.moving, &row.home) else { return };
        let known = self.last_move.get(&row.partition);
        if row.state != PartitionState::Draining || known.is_some_and(|known| moving.id <= *known) {
            return;
        }
        let (Some(from), Some(to)) = (self.node(&home.node), self.node(&moving.target.node)) else { return };
        let recorded = self.recorder.move_began(row.partition, from, to);
        let target = moving.target.node.clone();
        self.last_move.insert(row.partition, moving.id);
        self.moving.insert(row.partition, Moving { id: moving.id, epoch: row.epoch, target, recorded });
    }

    fn end_move(&mut self, row: &PartitionRow) {
        let over = |open: &Moving| {
            let goes_on = row.moving.as_ref().is_some_and(|moving| moving.id == open.id);
            row.epoch > open.epoch
                || (row.epoch == open.epoch && !goes_on && row.state != PartitionState::Homed)
        };
        if !self.moving.get(&row.partition).is_some_and(over) {
            return;
        }
        let Some(open) = self.moving.remove(&row.partition) else { return };
        let next = row.history.iter().find(|start| start.epoch > open.epoch);
        let end = match next.is_some_and(|start| start.home.node == open.target) {
            true => MoveEnd::Moved,
            false => MoveEnd::Aborted,
        };
        self.recorder.record(Kind::MoveEnded { moving: open.recorded, end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Header, History};
    use types::{EpochStart, Home, Incarnation, Lsn, MoveCause, NodeRow, Retirement, StoreId};

    fn home(node: &str) -> Home {
        Home { node: NodeId::new(node).expect("a name"), incarnation: Incarnation::new(1) }
    }

    fn node(name: &str) -> NodeRow {
        NodeRow {
            node: NodeId::new(name).expect("a name"),
            region: RegionId::new(name).expect("a name"),
            address: String::new(),
            incarnation: Incarnation::new(1),
            store: StoreId::from_bytes([1; 16]),
            live: true,
            retirement: Retirement::Serving,
            keys: Vec::new(),
        }
    }

    fn row(epochs: &[(u64, &str)], state: PartitionState, moving: Option<(u64, &str)>) -> PartitionRow {
        let starts = epochs.iter().map(|(epoch, at)| EpochStart {
            epoch: Epoch::new(*epoch),
            start_lsn: Lsn::new(*epoch * 10),
            home: home(at),
        });
        let history: Vec<EpochStart> = starts.collect();
        let last = history.last().expect("an epoch").clone();
        PartitionRow {
            partition: PartitionId::new(3),
            preferred: RegionId::new("a").expect("a name"),
            allowed: vec![],
            replicas: vec![],
            home: Some(last.home),
            waiting: vec![],
            epoch: last.epoch,
            state,
            isr: vec![],
            lost: vec![],
            isr_version: 1,
            history,
            away: vec![],
            moving: moving.map(|(id, target)| types::Move {
                id: MoveId::new(id),
                target: home(target),
                cause: MoveCause::Operator,
            }),
            stays: false,
        }
    }

    fn told(rows: Vec<PartitionRow>) -> History {
        let recorder = Recorder::in_memory(Header::new("a test", 1, true), || 1);
        let mut seen = Seen::new(recorder.clone());
        let delta = |nodes, partitions| PlacementDelta {
            from_version: 0,
            to_version: 1,
            regions: vec![],
            nodes,
            partitions,
        };
        seen.take(&delta(vec![node("a"), node("b")], vec![]));
        rows.into_iter().for_each(|row| seen.take(&delta(vec![], vec![row])));
        recorder.finish().expect("a history")
    }

    fn moves(history: &History) -> (usize, Vec<MoveEnd>) {
        let began = |kind: &Kind| matches!(kind, Kind::MoveBegan { .. });
        let ended = history.events().iter().filter_map(|event| match event.kind {
            Kind::MoveEnded { end, .. } => Some(end),
            _ => None,
        });
        (history.events().iter().filter(|event| began(&event.kind)).count(), ended.collect())
    }

    #[test]
    fn a_move_is_told_once_however_many_tell_it() {
        use PartitionState::{Draining, Homed};
        let moving = row(&[(1, "a")], Draining, Some((1, "b")));
        let moved = row(&[(1, "a"), (2, "b")], Homed, None);
        let before = row(&[(1, "a")], Homed, None);
        let told =
            told(vec![before.clone(), moving.clone(), before, moving.clone(), moved.clone(), moving, moved]);
        assert_eq!(moves(&told), (1, vec![MoveEnd::Moved]));
    }

    #[test]
    fn a_move_that_was_given_up_or_whose_source_died_is_aborted() {
        use PartitionState::{Draining, FailingOver, Homed};
        let moving = row(&[(1, "a")], Draining, Some((1, "b")));
        let given_up = told(vec![moving.clone(), row(&[(1, "a"), (2, "a")], Homed, None)]);
        assert_eq!(moves(&given_up), (1, vec![MoveEnd::Aborted]));
        let died = told(vec![moving, row(&[(1, "a")], FailingOver, None)]);
        assert_eq!(moves(&died), (1, vec![MoveEnd::Aborted]));
    }
}
