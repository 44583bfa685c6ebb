//! From the wire to commands: every field is checked, and a wrong one is named.

use crate::{
    bounds,
    command::{
        AbortedRehome, AloneWish, FailOverWish, Follow, IsrProposal, NewRehome, NodeRetirement, PinWish,
        RegionWish, Registration,
    },
    config::check_address,
    status,
};
use proto::{Malformed, directory as wire};
use std::collections::BTreeMap;
use tonic::Status;
use types::{
    Epoch, Generation, Home, IdError, Incarnation, LogId, Lsn, NodeId, PartitionId, RegionId, Replica,
    RequestId, limits,
};

/// What is said of an operator whose request names none.
const SOMEBODY: &str = "an operator";

pub(super) fn check_version(version: u32) -> Result<(), Status> {
    if version == limits::PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "protocol version {version} is not spoken here: {} is",
        limits::PROTOCOL_VERSION
    )))
}

pub(super) fn register(wire: wire::RegisterRequest) -> Result<(RequestId, Registration), Status> {
    check_version(wire.protocol_version)?;
    let request = request_id(&wire.request_id)?;
    check_address(&wire.address).map_err(|why| {
        let shown: String = wire.address.chars().take(80).collect();
        Status::invalid_argument(format!("field register.address is {shown:?}: {why}"))
    })?;
    let registration = Registration {
        node: name("register.node", NodeId::new(&wire.node))?,
        region: name("register.region", RegionId::new(&wire.region))?,
        address: wire.address,
        store: read(proto::store_id("register.store", &wire.store))?,
    };
    Ok((request, registration))
}

pub(super) fn renew(wire: &wire::RenewRequest) -> Result<(Home, BTreeMap<Home, u64>), Status> {
    bounded("renew.observed", wire.observed.len(), bounds::NODES_MAX)?;
    let boot = |field, node: &str, incarnation| {
        Ok::<Home, Status>(Home {
            node: name(field, NodeId::new(node))?,
            incarnation: Incarnation::new(incarnation),
        })
    };
    let mut observed = BTreeMap::new();
    for one in &wire.observed {
        let watched = boot("renew.observed.node", &one.node, one.incarnation)?;
        if observed.insert(watched, u64::from(one.failing_ms)).is_some() {
            return Err(Status::invalid_argument(format!("field renew.observed names {} twice", one.node)));
        }
    }
    Ok((boot("renew.node", &wire.node, wire.incarnation)?, observed))
}

pub(super) fn fail_over(wire: wire::FailOverRequest) -> Result<(RequestId, FailOverWish, bool), Status> {
    let request = request_id(&wire.request_id)?;
    let region = name("fail_over.region", RegionId::new(&wire.region))?;
    Ok((request, FailOverWish { region, by: operator("fail_over.by", wire.by)? }, wire.even_if_heard))
}

pub(super) fn pin(wire: wire::PinRequest) -> Result<(RequestId, Vec<PinWish>), Status> {
    let request = request_id(&wire.request_id)?;
    bounded("pin.wishes", wire.wishes.len(), limits::PIN_BATCH_MAX)?;
    let wish = |wish: wire::PinWish| {
        bounded("pin.allowed_regions", wish.allowed_regions.len(), limits::REGIONS_MAX)?;
        let allowed = wish.allowed_regions.iter();
        Ok(PinWish {
            log: read(proto::log_id("pin.log", &wish.log))?,
            region: name("pin.region", RegionId::new(&wish.region))?,
            allowed_regions: allowed
                .map(|region| name("pin.allowed_regions", RegionId::new(region)))
                .collect::<Result<_, _>>()?,
        })
    };
    Ok((request, wire.wishes.into_iter().map(wish).collect::<Result<_, Status>>()?))
}

pub(super) fn promote_unsafe(
    wire: wire::PromoteUnsafeRequest,
) -> Result<(RequestId, PartitionId, NodeId, String), Status> {
    let node = name("promote_unsafe.node", NodeId::new(&wire.node))?;
    let by = operator("promote_unsafe.by", wire.by)?;
    Ok((request_id(&wire.request_id)?, PartitionId::new(wire.partition), node, by))
}

pub(super) fn allow_alone(wire: wire::AllowAloneRequest) -> Result<(RequestId, AloneWish), Status> {
    let region = name("allow_alone.region", RegionId::new(&wire.region))?;
    let by = operator("allow_alone.by", wire.by)?;
    Ok((request_id(&wire.request_id)?, AloneWish { region, until_ms: wire.until_ms, by }))
}

pub(super) fn get_pins(wire: &wire::GetPinsRequest) -> Result<Vec<LogId>, Status> {
    bounded("get_pins.logs", wire.logs.len(), limits::PIN_BATCH_MAX)?;
    wire.logs.iter().map(|log| read(proto::log_id("get_pins.logs", log))).collect()
}

pub(super) fn propose_isr(wire: wire::ProposeIsrRequest) -> Result<(RequestId, IsrProposal), Status> {
    let request = request_id(&wire.request_id)?;
    let Some(home) = wire.home else {
        return Err(status::malformed(&Malformed::Missing { field: "propose_isr.home" }));
    };
    let members = |field, members: Vec<wire::Replica>| {
        bounded(field, members.len(), bounds::MEMBERS_MAX)?;
        members.into_iter().map(|member| read(Replica::try_from(member))).collect::<Result<Vec<_>, Status>>()
    };
    let proposal = IsrProposal {
        partition: PartitionId::new(wire.partition),
        epoch: Epoch::new(wire.epoch),
        home: read(Home::try_from(home))?,
        isr_version: wire.isr_version,
        isr: members("propose_isr.isr", wire.isr)?,
        lost: members("propose_isr.lost", wire.lost)?,
        watermark: Lsn::new(wire.watermark),
    };
    Ok((request, proposal))
}

pub(super) fn retire_node(wire: wire::RetireNodeRequest) -> Result<(RequestId, NodeRetirement), Status> {
    let node = name("retire_node.node", NodeId::new(&wire.node))?;
    let by = operator("retire_node.by", wire.by)?;
    Ok((request_id(&wire.request_id)?, NodeRetirement { node, keep: wire.keep, by }))
}

pub(super) fn retire_region(wire: wire::RetireRegionRequest) -> Result<(RequestId, RegionWish), Status> {
    let region = name("retire_region.region", RegionId::new(&wire.region))?;
    let by = operator("retire_region.by", wire.by)?;
    Ok((request_id(&wire.request_id)?, RegionWish { region, by }))
}

pub(super) fn add_region(wire: wire::AddRegionRequest) -> Result<(RequestId, RegionWish), Status> {
    let region = name("add_region.region", RegionId::new(&wire.region))?;
    let by = operator("add_region.by", wire.by)?;
    Ok((request_id(&wire.request_id)?, RegionWish { region, by }))
}

pub(super) fn rehome(wire: wire::RehomeRequest) -> Result<(RequestId, NewRehome), Status> {
    let request = request_id(&wire.request_id)?;
    let log = read(proto::log_id("rehome.log", &wire.log))?;
    let region = name("rehome.region", RegionId::new(&wire.region))?;
    Ok((request, NewRehome { log, region, by: operator("rehome.by", wire.by)?, follows: None }))
}

pub(super) fn follow(wire: wire::FollowRequest) -> Result<(RequestId, NewRehome), Status> {
    let request = request_id(&wire.request_id)?;
    bounded("follow.allowed_regions", wire.allowed_regions.len(), limits::REGIONS_MAX)?;
    let Some(home) = wire.home else {
        return Err(status::malformed(&Malformed::Missing { field: "follow.home" }));
    };
    let allowed = wire.allowed_regions.iter();
    let follow = Follow {
        home: read(Home::try_from(home))?,
        generation: Generation::new(wire.generation),
        allowed_regions: allowed
            .map(|region| name("follow.allowed_regions", RegionId::new(region)))
            .collect::<Result<_, _>>()?,
    };
    let log = read(proto::log_id("follow.log", &wire.log))?;
    let region = name("follow.region", RegionId::new(&wire.region))?;
    Ok((request, NewRehome { log, region, by: "following".into(), follows: Some(follow) }))
}

pub(super) fn leave(wire: wire::LeaveRequest) -> Result<Home, Status> {
    let Some(home) = wire.home else {
        return Err(status::malformed(&Malformed::Missing { field: "leave.home" }));
    };
    read(Home::try_from(home))
}

pub(super) fn abort_rehome(wire: wire::AbortRehomeRequest) -> Result<(RequestId, AbortedRehome), Status> {
    let request = request_id(&wire.request_id)?;
    let log = read(proto::log_id("abort_rehome.log", &wire.log))?;
    let by = operator("abort_rehome.by", wire.by)?;
    Ok((request, AbortedRehome { log, id: None, by, why: "an operator gave it up".into() }))
}

/// Whom an audit event is by; somebody, where the request names nobody.
pub(super) fn operator(field: &'static str, name: String) -> Result<String, Status> {
    bounded(field, name.len(), bounds::OPERATOR_MAX_BYTES)?;
    if name.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!("field {field} holds a control character")));
    }
    Ok(if name.is_empty() { SOMEBODY.to_owned() } else { name })
}

pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, Status> {
    read(proto::request_id("request_id", bytes))
}

fn read<T>(value: Result<T, Malformed>) -> Result<T, Status> {
    value.map_err(|error| status::malformed(&error))
}

pub(super) fn name<T>(field: &'static str, value: Result<T, IdError>) -> Result<T, Status> {
    read(value.map_err(|source| Malformed::Id { field, source }))
}

pub(super) fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), Status> {
    if len <= max {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("field {field} is {len} long: at most {max} are allowed")))
}
