//! The `Directory` service: reads requests, checks their bounds, asks, answers. Decides nothing.

mod emergency;
pub(crate) mod homes;
pub(crate) mod members;
mod moves;
pub(crate) mod names;
mod observers;
pub(crate) mod replicas;
mod request;

use crate::{
    bounds, clock,
    command::{Answer, Command, Envelope, Rehome},
    controller::{Settings, canaries::Hearing},
    engine::{Engine, RenewFailure},
    kv::Kv,
    movers::Asked,
    rows,
    state::State,
    status, watch,
};
use proto::directory::{self as wire, directory_server::Directory};
use std::{collections::BTreeMap, pin::Pin as StdPin, sync::Arc};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use types::{Home, LogId, NodeId, Pin, RegionRow, RequestId, limits};

/// What the service asks.
pub(crate) struct Service {
    state: Arc<State>,
    engine: Engine,
    kv: Arc<dyn Kv>,
    facts: Facts,
    /// Where operators' moves are asked for.
    desk: mpsc::Sender<Asked>,
    watchers: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// What nodes and operators are told of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) lease_ttl_ms: u32,
    pub(crate) renew_interval_ms: u32,
    /// What the controller goes by.
    pub(crate) settings: Settings,
    /// Where nodes are dialled instead of where they say.
    pub(crate) dial: BTreeMap<NodeId, String>,
}

impl Service {
    pub(crate) fn new(
        state: Arc<State>,
        engine: Engine,
        kv: Arc<dyn Kv>,
        facts: Facts,
        desk: mpsc::Sender<Asked>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            state,
            engine,
            kv,
            facts,
            desk,
            watchers: Arc::new(Semaphore::new(bounds::WATCHERS_MAX)),
            shutdown,
        }
    }

    async fn submit(&self, request: RequestId, command: Command) -> Result<Answer, Status> {
        let envelope = Envelope { request, at_ms: clock::wall_ms(), command };
        self.engine.submit(envelope).await.map_err(|error| status::submit(&error))
    }

    /// What is read next holds all that was acknowledged before.
    async fn read_barrier(&self) -> Result<(), Status> {
        self.engine.read_barrier().await.map_err(|error| status::submit(&error))
    }

    /// What an earlier command with this request id was answered.
    fn answered(&self, request: RequestId) -> Result<Option<Answer>, Status> {
        let mut answer = None;
        let read = self.kv.read(&mut |tx| {
            answer = rows::answer_of(tx, request)?;
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(answer)
    }

    fn read_rehomes(&self) -> Result<Vec<Rehome>, Status> {
        let mut rehomes = Vec::new();
        let read = self.kv.read(&mut |tx| {
            rehomes = rows::rehomes(tx)?;
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(rehomes)
    }

    fn read_pins(&self, logs: &[LogId]) -> Result<Vec<Pin>, Status> {
        let mut pins = Vec::with_capacity(logs.len());
        let read = self.kv.read(&mut |tx| {
            pins.clear();
            for log in logs {
                pins.push(rows::pin(tx, *log)?.unwrap_or(Pin { log: *log, segments: Vec::new() }));
            }
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(pins)
    }
}

fn event_to_wire(event: rows::Event) -> wire::AuditEvent {
    wire::AuditEvent { at_ms: event.at_ms, what: event.what, who: event.who }
}

fn rehome_to_wire(rehome: &Rehome) -> wire::Rehome {
    wire::Rehome {
        id: rehome.id.get(),
        log: bytes::Bytes::copy_from_slice(&rehome.log.to_bytes()),
        from: Some((&rehome.from).into()),
        to: rehome.to.get(),
        at_ms: rehome.at_ms,
    }
}

fn to_wire(pins: &[Pin]) -> Vec<wire::Pin> {
    pins.iter().map(Into::into).collect()
}

#[async_trait::async_trait]
impl Directory for Service {
    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterReply>, Status> {
        let (id, registration) = request::register(request.into_inner())?;
        let (node, address) = (registration.node.clone(), registration.address.clone());
        let answer = self.submit(id, Command::Register(registration)).await?;
        let Answer::Registered(incarnation) = answer else {
            return Err(Status::already_exists(format!("request id {id} was used for another command")));
        };
        tracing::info!(%node, %incarnation, address, "a node has registered");
        Ok(Response::new(wire::RegisterReply {
            protocol_version: limits::PROTOCOL_VERSION,
            incarnation: incarnation.get(),
            lease_ttl_ms: self.facts.lease_ttl_ms,
            renew_interval_ms: self.facts.renew_interval_ms,
        }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewReply>, Status> {
        let (home, observed) = request::renew(&request.into_inner())?;
        let heard_ms = clock::boot_ms();
        let renewed = self.engine.renew(home.clone()).await;
        if renewed.is_ok() {
            self.state.observe(&home, observed, heard_ms);
        }
        let outcome = match &renewed {
            Ok(()) => "renewed",
            Err(RenewFailure::Refused(_)) => "refused",
            Err(RenewFailure::Unanswered(_)) => "unanswered",
        };
        metrics::counter!("hearth_lease_renewals_total", "outcome" => outcome).increment(1);
        renewed.map_err(|error| status::renew(&error))?;
        Ok(Response::new(wire::RenewReply {}))
    }

    type WatchPlacementStream = StdPin<Box<dyn Stream<Item = Result<wire::PlacementDelta, Status>> + Send>>;

    async fn watch_placement(
        &self,
        request: Request<wire::WatchPlacementRequest>,
    ) -> Result<Response<Self::WatchPlacementStream>, Status> {
        let request = request.into_inner();
        request::check_version(request.protocol_version)?;
        let version = self.state.look(|view, _| view.version());
        if self.engine.group().is_some() && request.from_version > version {
            // Versions never go back: the watcher was served by a replica that is ahead of this one.
            return Err(Status::unavailable(format!(
                "this replica is at placement version {version}, and the watcher has {} already",
                request.from_version
            )));
        }
        if self.engine.is_cut_off() {
            return Err(Status::unavailable("this replica of the directory has lost the others"));
        }
        let Ok(permit) = self.watchers.clone().try_acquire_owned() else {
            let max = bounds::WATCHERS_MAX;
            return Err(Status::resource_exhausted(format!("{max} watchers are there already")));
        };
        let (sender, deltas) = watch::queue();
        let beat_ms = u64::from(self.facts.renew_interval_ms.min(bounds::WATCH_BEAT_MAX_MS));
        let (state, engine, shutdown) = (self.state.clone(), self.engine.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let is_cut_off = || engine.is_cut_off();
            watch::feed(state, request.from_version, beat_ms, is_cut_off, sender, shutdown).await;
            drop(permit);
        });
        let deltas = ReceiverStream::new(deltas).map(|delta| Ok(wire::PlacementDelta::from(&delta)));
        Ok(Response::new(Box::pin(deltas)))
    }

    async fn pin(&self, request: Request<wire::PinRequest>) -> Result<Response<wire::PinReply>, Status> {
        let (id, wishes) = request::pin(request.into_inner())?;
        let logs: Vec<LogId> = wishes.iter().map(|wish| wish.log).collect();
        self.read_barrier().await?;
        let mut pins = self.read_pins(&logs)?;
        // A pin never goes away, so what is there needs no command.
        if pins.iter().any(|pin| pin.segments.is_empty()) {
            self.submit(id, Command::Pin(wishes)).await?;
            pins = self.read_pins(&logs)?;
        }
        Ok(Response::new(wire::PinReply { pins: to_wire(&pins) }))
    }

    async fn get_pins(
        &self,
        request: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        let logs = request::get_pins(&request.into_inner())?;
        self.read_barrier().await?;
        Ok(Response::new(wire::GetPinsReply { pins: to_wire(&self.read_pins(&logs)?) }))
    }

    async fn look_up_pins(
        &self,
        request: Request<wire::GetPinsRequest>,
    ) -> Result<Response<wire::GetPinsReply>, Status> {
        let logs = request::get_pins(&request.into_inner())?;
        Ok(Response::new(wire::GetPinsReply { pins: to_wire(&self.read_pins(&logs)?) }))
    }

    async fn propose_isr(
        &self,
        request: Request<wire::ProposeIsrRequest>,
    ) -> Result<Response<wire::ProposeIsrReply>, Status> {
        let (id, proposal) = request::propose_isr(request.into_inner())?;
        match self.submit(id, Command::ProposeIsr(proposal)).await? {
            Answer::IsrVersion(isr_version) => Ok(Response::new(wire::ProposeIsrReply { isr_version })),
            Answer::Done | Answer::Registered(_) | Answer::Applied(_) | Answer::Moving(_) => {
                Err(Status::already_exists(format!("request id {id} was used for another command")))
            }
        }
    }

    async fn drain(
        &self,
        request: Request<wire::DrainRequest>,
    ) -> Result<Response<wire::DrainReply>, Status> {
        let (id, wish, is_dry_run) = moves::drain(request.into_inner())?;
        let region = wish.region.clone();
        if !is_dry_run {
            self.submit(id, Command::Drain(wish)).await?;
        }
        self.read_barrier().await?;
        let voters = self.engine.voters().await;
        let (drain, moves) = self.state.look(|view, _| {
            (moves::region_drain(view, voters.as_ref(), &region), moves::planned(view, &region))
        });
        match drain {
            Some(drain) => Ok(Response::new(wire::DrainReply { drain: Some(drain), moves })),
            None => Err(Status::not_found(format!("region {region} is not one of this deployment's"))),
        }
    }

    async fn undrain(
        &self,
        request: Request<wire::UndrainRequest>,
    ) -> Result<Response<wire::UndrainReply>, Status> {
        let (id, wish) = moves::undrain(request.into_inner())?;
        self.submit(id, Command::Undrain(wish)).await?;
        Ok(Response::new(wire::UndrainReply {}))
    }

    async fn r#move(&self, request: Request<wire::MoveRequest>) -> Result<Response<wire::MoveReply>, Status> {
        let request = request.into_inner();
        // A repetition is answered with the move that the first one began.
        let known = self.answered(request::request_id(&request.request_id)?)?;
        let id = match known {
            Some(Answer::Moving(id)) => id,
            _ => moves::wish(&self.desk, request).await?,
        };
        Ok(Response::new(wire::MoveReply { move_id: id.get() }))
    }

    async fn abort_move(
        &self,
        request: Request<wire::AbortMoveRequest>,
    ) -> Result<Response<wire::AbortMoveReply>, Status> {
        let (id, command) = moves::abort(request.into_inner())?;
        self.submit(id, command).await?;
        Ok(Response::new(wire::AbortMoveReply {}))
    }

    async fn set_failback(
        &self,
        request: Request<wire::SetFailbackRequest>,
    ) -> Result<Response<wire::SetFailbackReply>, Status> {
        let (id, command) = moves::set_failback(request.into_inner())?;
        self.submit(id, command).await?;
        Ok(Response::new(wire::SetFailbackReply {}))
    }

    async fn moves(&self, _: Request<wire::MovesRequest>) -> Result<Response<wire::MovesReply>, Status> {
        self.read_barrier().await?;
        let voters = self.engine.voters().await;
        let (under_way, regions) = self.state.look(|view, _| {
            let of_region = |row: &RegionRow| moves::region_drain(view, voters.as_ref(), &row.region);
            let regions = view.regions().filter_map(of_region);
            (moves::moves_under_way(view), regions.collect())
        });
        Ok(Response::new(wire::MovesReply {
            moves: under_way,
            regions,
            failback: self.facts.settings.failback.on,
            failback_cooldown_ms: self.facts.settings.failback.cooldown_ms,
        }))
    }

    async fn audit(
        &self,
        request: Request<wire::AuditRequest>,
    ) -> Result<Response<wire::AuditReply>, Status> {
        self.read_barrier().await?;
        let most = usize::try_from(bounds::EVENTS_MAX).unwrap_or(usize::MAX);
        let limit = usize::try_from(request.into_inner().limit).unwrap_or(most).min(most);
        let mut events = Vec::new();
        let read = self.kv.read(&mut |tx| {
            events = rows::events(tx, limit)?;
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(Response::new(wire::AuditReply { events: events.into_iter().map(event_to_wire).collect() }))
    }

    async fn promote_unsafe(
        &self,
        request: Request<wire::PromoteUnsafeRequest>,
    ) -> Result<Response<wire::PromoteUnsafeReply>, Status> {
        let (id, partition, node, by) = request::promote_unsafe(request.into_inner())?;
        self.read_barrier().await?;
        if self.answered(id)?.is_some() {
            return Ok(Response::new(emergency::promoted_before(&self.state, partition)?));
        }
        let promotion = emergency::fenced(&self.state, &self.facts.dial, partition, &node, by).await?;
        let reply = emergency::promoted(&promotion);
        self.submit(id, Command::PromoteUnsafe(promotion)).await?;
        Ok(Response::new(reply))
    }

    async fn fail_over(
        &self,
        request: Request<wire::FailOverRequest>,
    ) -> Result<Response<wire::FailOverReply>, Status> {
        let (id, wish, even_if_heard) = request::fail_over(request.into_inner())?;
        self.read_barrier().await?;
        // A repetition is answered as the first one was, whatever has become of the region.
        if self.answered(id)?.is_none() && !even_if_heard {
            let silence_ms = self.facts.settings.silence_ms;
            emergency::check_is_silent(&self.state, &wish.region, silence_ms, clock::boot_ms())?;
        }
        match self.submit(id, Command::FailOver(wish)).await? {
            Answer::Applied(homes) => Ok(Response::new(wire::FailOverReply { homes })),
            Answer::Done | Answer::Registered(_) | Answer::IsrVersion(_) | Answer::Moving(_) => {
                Err(Status::already_exists(format!("request id {id} was used for another command")))
            }
        }
    }

    async fn allow_alone(
        &self,
        request: Request<wire::AllowAloneRequest>,
    ) -> Result<Response<wire::AllowAloneReply>, Status> {
        let (id, wish) = request::allow_alone(request.into_inner())?;
        self.submit(id, Command::AllowAlone(wish)).await?;
        Ok(Response::new(wire::AllowAloneReply {}))
    }

    async fn rehome(
        &self,
        request: Request<wire::RehomeRequest>,
    ) -> Result<Response<wire::RehomeReply>, Status> {
        let (id, new) = request::rehome(request.into_inner())?;
        let log = new.log;
        let begun = self.submit(id, Command::BeginRehome(new)).await? == Answer::Applied(1);
        self.state.rehomings().notify_one();
        let rehomes = if begun { self.read_rehomes()? } else { Vec::new() };
        // One that is over by now is told like one that need not begin.
        let rehome = rehomes.iter().find(|rehome| rehome.log == log).map(rehome_to_wire);
        Ok(Response::new(wire::RehomeReply { rehome }))
    }

    async fn abort_rehome(
        &self,
        request: Request<wire::AbortRehomeRequest>,
    ) -> Result<Response<wire::AbortRehomeReply>, Status> {
        let (id, aborted) = request::abort_rehome(request.into_inner())?;
        self.submit(id, Command::AbortRehome(aborted)).await?;
        Ok(Response::new(wire::AbortRehomeReply {}))
    }

    async fn rehomes(
        &self,
        _: Request<wire::RehomesRequest>,
    ) -> Result<Response<wire::RehomesReply>, Status> {
        self.read_barrier().await?;
        let rehomes = self.read_rehomes()?.iter().map(rehome_to_wire).collect();
        Ok(Response::new(wire::RehomesReply { rehomes }))
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        self.read_barrier().await?;
        let now_ms = clock::boot_ms();
        let listens_from_ms = self.state.listens_from_ms();
        let (placement_version, nodes, observers, failing) = self.state.look(|view, leases| {
            let hearing = Hearing::new(&self.facts.settings, now_ms, listens_from_ms, view, leases);
            let nodes = view.nodes().filter_map(|row| {
                let home = Home { node: row.node.clone(), incarnation: row.incarnation };
                let renewed_ago_ms = leases.silent_ms(&home, now_ms)?;
                Some(wire::NodeLiveness { node: row.node.to_string(), renewed_ago_ms })
            });
            let (observers, failing) = (observers::observers(&hearing), observers::failing(&hearing));
            (view.version(), nodes.collect(), observers, failing)
        });
        let (automatic_failover, automatic_failover_note) = self.state.failover();
        let (mut pins, mut events) = (0, Vec::new());
        let read = self.kv.read(&mut |tx| {
            pins = rows::meta(tx)?.map_or(0, |meta| meta.pins);
            events = rows::events(tx, bounds::STATUS_EVENTS_MAX)?;
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(Response::new(wire::StatusReply {
            placement_version,
            lease_ttl_ms: self.facts.lease_ttl_ms,
            automatic_failover,
            automatic_failover_note,
            pins,
            nodes,
            events: events.into_iter().map(event_to_wire).collect(),
            observers,
            failing,
        }))
    }
}
