//! The directory's rows.

use crate::{
    convert::{Malformed, each, home, id, log_id, require, store_id},
    directory,
};
use bytes::Bytes;
use types::{
    Epoch, EpochStart, Generation, Home, Incarnation, Lsn, Move, MoveCause, MoveId, NodeId, NodeRow, Offset,
    PartitionId, PartitionRow, PartitionState, Pin, PinSegment, PlacementDelta, RegionId, RegionRow,
    RegionStatus, Retirement, VerifyingKey,
};

impl From<&PlacementDelta> for directory::PlacementDelta {
    fn from(delta: &PlacementDelta) -> Self {
        Self {
            from_version: delta.from_version,
            to_version: delta.to_version,
            regions: delta.regions.iter().map(Into::into).collect(),
            nodes: delta.nodes.iter().map(Into::into).collect(),
            partitions: delta.partitions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<directory::PlacementDelta> for PlacementDelta {
    type Error = Malformed;
    fn try_from(wire: directory::PlacementDelta) -> Result<Self, Malformed> {
        Ok(Self {
            from_version: wire.from_version,
            to_version: wire.to_version,
            regions: each(wire.regions)?,
            nodes: each(wire.nodes)?,
            partitions: each(wire.partitions)?,
        })
    }
}

impl From<&RegionRow> for directory::RegionRow {
    fn from(row: &RegionRow) -> Self {
        let status = match row.status {
            RegionStatus::Active => directory::RegionStatus::Active,
            RegionStatus::Draining => directory::RegionStatus::Draining,
            RegionStatus::Down => directory::RegionStatus::Down,
        };
        Self {
            region: row.region.to_string(),
            status: status.into(),
            retirement: retirement_to_wire(row.retirement).into(),
            failback_off: row.failback_off,
            alone_until_ms: row.alone_until_ms,
        }
    }
}

impl TryFrom<directory::RegionRow> for RegionRow {
    type Error = Malformed;
    fn try_from(wire: directory::RegionRow) -> Result<Self, Malformed> {
        let status = match directory::RegionStatus::try_from(wire.status) {
            Ok(directory::RegionStatus::Active) => RegionStatus::Active,
            Ok(directory::RegionStatus::Draining) => RegionStatus::Draining,
            Ok(directory::RegionStatus::Down) => RegionStatus::Down,
            _ => return Err(Malformed::value("region.status", wire.status, "it is not known")),
        };
        Ok(Self {
            region: id("region.region", RegionId::new(&wire.region))?,
            status,
            retirement: retirement("region.retirement", wire.retirement)?,
            failback_off: wire.failback_off,
            alone_until_ms: wire.alone_until_ms,
        })
    }
}

impl From<&NodeRow> for directory::NodeRow {
    fn from(row: &NodeRow) -> Self {
        Self {
            node: row.node.to_string(),
            region: row.region.to_string(),
            address: row.address.clone(),
            incarnation: row.incarnation.get(),
            store: Bytes::copy_from_slice(row.store.as_bytes()),
            live: row.live,
            retirement: retirement_to_wire(row.retirement).into(),
            keys: row.keys.iter().map(Into::into).collect(),
        }
    }
}

impl From<&VerifyingKey> for directory::VerifyingKey {
    fn from(key: &VerifyingKey) -> Self {
        Self { id: key.id, public: Bytes::copy_from_slice(&key.public) }
    }
}

impl TryFrom<directory::VerifyingKey> for VerifyingKey {
    type Error = Malformed;
    fn try_from(wire: directory::VerifyingKey) -> Result<Self, Malformed> {
        let public = <[u8; 32]>::try_from(wire.public.as_ref()).map_err(|_| {
            Malformed::value("key.public", format!("{} bytes", wire.public.len()), "it needs 32")
        })?;
        Ok(Self { id: wire.id, public })
    }
}

impl TryFrom<directory::NodeRow> for NodeRow {
    type Error = Malformed;
    fn try_from(wire: directory::NodeRow) -> Result<Self, Malformed> {
        Ok(Self {
            node: id("node.node", NodeId::new(&wire.node))?,
            region: id("node.region", RegionId::new(&wire.region))?,
            address: wire.address,
            incarnation: Incarnation::new(wire.incarnation),
            store: store_id("node.store", &wire.store)?,
            live: wire.live,
            retirement: retirement("node.retirement", wire.retirement)?,
            keys: wire.keys.into_iter().map(VerifyingKey::try_from).collect::<Result<_, _>>()?,
        })
    }
}

const fn retirement_to_wire(retirement: Retirement) -> directory::Retirement {
    match retirement {
        Retirement::Serving => directory::Retirement::Unspecified,
        Retirement::Retiring => directory::Retirement::Retiring,
        Retirement::Retired => directory::Retirement::Retired,
    }
}

fn retirement(field: &'static str, wire: i32) -> Result<Retirement, Malformed> {
    match directory::Retirement::try_from(wire) {
        Ok(directory::Retirement::Unspecified) => Ok(Retirement::Serving),
        Ok(directory::Retirement::Retiring) => Ok(Retirement::Retiring),
        Ok(directory::Retirement::Retired) => Ok(Retirement::Retired),
        Err(_) => Err(Malformed::value(field, wire, "it is not known")),
    }
}

impl From<&EpochStart> for directory::EpochStart {
    fn from(start: &EpochStart) -> Self {
        Self { epoch: start.epoch.get(), start_lsn: start.start_lsn.get(), home: Some((&start.home).into()) }
    }
}

impl TryFrom<directory::EpochStart> for EpochStart {
    type Error = Malformed;
    fn try_from(wire: directory::EpochStart) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: Epoch::new(wire.epoch),
            start_lsn: Lsn::new(wire.start_lsn),
            home: Home::try_from(require("epoch_start.home", wire.home)?)?,
        })
    }
}

impl From<&PartitionRow> for directory::PartitionRow {
    fn from(row: &PartitionRow) -> Self {
        let state = match row.state {
            PartitionState::Vacant => directory::PartitionState::Vacant,
            PartitionState::Homed => directory::PartitionState::Homed,
            PartitionState::Draining => directory::PartitionState::Draining,
            PartitionState::FailingOver => directory::PartitionState::FailingOver,
        };
        Self {
            partition: row.partition.get(),
            preferred: row.preferred.to_string(),
            allowed: row.allowed.iter().map(RegionId::to_string).collect(),
            replicas: row.replicas.iter().map(Into::into).collect(),
            home: row.home.as_ref().map(Into::into),
            waiting: row.waiting.iter().map(Into::into).collect(),
            epoch: row.epoch.get(),
            state: state.into(),
            isr: row.isr.iter().map(Into::into).collect(),
            lost: row.lost.iter().map(Into::into).collect(),
            isr_version: row.isr_version,
            history: row.history.iter().map(Into::into).collect(),
            away: row.away.iter().map(Into::into).collect(),
            moving: row.moving.as_ref().map(Into::into),
            stays: row.stays,
        }
    }
}

impl TryFrom<directory::PartitionRow> for PartitionRow {
    type Error = Malformed;
    fn try_from(wire: directory::PartitionRow) -> Result<Self, Malformed> {
        let state = match directory::PartitionState::try_from(wire.state) {
            Ok(directory::PartitionState::Vacant) => PartitionState::Vacant,
            Ok(directory::PartitionState::Homed) => PartitionState::Homed,
            Ok(directory::PartitionState::Draining) => PartitionState::Draining,
            Ok(directory::PartitionState::FailingOver) => PartitionState::FailingOver,
            _ => return Err(Malformed::value("partition.state", wire.state, "it is not known")),
        };
        let allowed = wire
            .allowed
            .iter()
            .map(|region| id("partition.allowed", RegionId::new(region)))
            .collect::<Result<_, Malformed>>()?;
        Ok(Self {
            partition: PartitionId::new(wire.partition),
            preferred: id("partition.preferred", RegionId::new(&wire.preferred))?,
            allowed,
            replicas: each(wire.replicas)?,
            home: home(wire.home)?,
            waiting: each(wire.waiting)?,
            epoch: Epoch::new(wire.epoch),
            state,
            isr: each(wire.isr)?,
            lost: each(wire.lost)?,
            isr_version: wire.isr_version,
            history: each(wire.history)?,
            away: each(wire.away)?,
            moving: wire.moving.map(Move::try_from).transpose()?,
            stays: wire.stays,
        })
    }
}

impl From<&Move> for directory::Move {
    fn from(moving: &Move) -> Self {
        let cause = match moving.cause {
            MoveCause::Operator => directory::MoveCause::Operator,
            MoveCause::Drain => directory::MoveCause::Drain,
            MoveCause::Failback => directory::MoveCause::Failback,
            MoveCause::Leaving => directory::MoveCause::Leaving,
        };
        Self { id: moving.id.get(), target: Some((&moving.target).into()), cause: cause.into() }
    }
}

impl TryFrom<directory::Move> for Move {
    type Error = Malformed;
    fn try_from(wire: directory::Move) -> Result<Self, Malformed> {
        let cause = match directory::MoveCause::try_from(wire.cause) {
            Ok(directory::MoveCause::Operator) => MoveCause::Operator,
            Ok(directory::MoveCause::Drain) => MoveCause::Drain,
            Ok(directory::MoveCause::Failback) => MoveCause::Failback,
            Ok(directory::MoveCause::Leaving) => MoveCause::Leaving,
            Ok(directory::MoveCause::Unspecified) | Err(_) => {
                return Err(Malformed::value("move.cause", wire.cause, "it is not known"));
            }
        };
        let target = Home::try_from(require("move.target", wire.target)?)?;
        Ok(Self { id: MoveId::new(wire.id), target, cause })
    }
}

impl From<&PinSegment> for directory::PinSegment {
    fn from(segment: &PinSegment) -> Self {
        Self {
            generation: segment.generation.get(),
            partition: segment.partition.get(),
            first_offset: segment.first_offset.get(),
        }
    }
}

impl From<directory::PinSegment> for PinSegment {
    fn from(wire: directory::PinSegment) -> Self {
        Self {
            generation: Generation::new(wire.generation),
            partition: PartitionId::new(wire.partition),
            first_offset: Offset::new(wire.first_offset),
        }
    }
}

impl From<&Pin> for directory::Pin {
    fn from(pin: &Pin) -> Self {
        Self {
            log: Bytes::copy_from_slice(&pin.log.to_bytes()),
            segments: pin.segments.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<directory::Pin> for Pin {
    type Error = Malformed;
    fn try_from(wire: directory::Pin) -> Result<Self, Malformed> {
        Ok(Self {
            log: log_id("pin.log", &wire.log)?,
            segments: wire.segments.into_iter().map(Into::into).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Replica, StoreId};

    #[test]
    fn a_partition_row_survives_the_wire() {
        let replica = |name: &str| Replica {
            node: NodeId::new(name).expect("a valid name"),
            store: StoreId::from_bytes([8; 16]),
        };
        let home = Home { node: replica("us-east-1").node, incarnation: Incarnation::new(3) };
        let row = PartitionRow {
            partition: PartitionId::new(7),
            preferred: RegionId::new("us-east").expect("a valid name"),
            allowed: vec![],
            replicas: vec![replica("us-east-1"), replica("eu-west-1")],
            home: Some(home.clone()),
            waiting: vec![home.clone()],
            epoch: Epoch::new(4),
            state: PartitionState::Draining,
            isr: vec![replica("us-east-1")],
            lost: vec![],
            isr_version: 5,
            away: vec![replica("us-east-2")],
            history: vec![EpochStart { epoch: Epoch::new(4), start_lsn: Lsn::new(12), home: home.clone() }],
            moving: Some(Move { id: MoveId::new(9), target: home, cause: MoveCause::Failback }),
            stays: true,
        };
        assert_eq!(PartitionRow::try_from(directory::PartitionRow::from(&row)), Ok(row));
    }
}
