//! Runs the controller: shows it the time and the placement, carries out what it answers. Decides nothing.

use crate::{
    bounds, clock,
    command::{Answer, Command, Deployment, Envelope},
    controller::{Action, Controller, Input, Page, Settings},
    engine::{Engine, SubmitError},
    failover::Policy,
    fence,
    movers::Movers,
    random,
    retiring::Retiring,
    state::State,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use types::{NodeId, NodeRow, PartitionState, Placement};

/// The controller with all that it acts on.
pub(crate) struct Driver {
    pub(crate) state: Arc<State>,
    pub(crate) engine: Engine,
    pub(crate) deployment: Deployment,
    pub(crate) policy: Policy,
    pub(crate) settings: Settings,
    pub(crate) dial: BTreeMap<NodeId, String>,
    pub(crate) movers: Movers,
    pub(crate) retiring: Retiring,
    /// By name, the last command that changed nothing: it is not written to the log at each tick.
    pub(crate) futile: Mutex<BTreeMap<&'static str, (Futile, Instant)>>,
    pub(crate) shutdown: CancellationToken,
}

/// A command that the rows did not allow, and the version of the placement that it was meant for.
#[derive(Debug, PartialEq)]
pub(crate) struct Futile {
    command: Command,
    version: u64,
}

impl Driver {
    /// Runs until shutdown. Fence calls that are under way then are dropped: their fences do no harm.
    pub(crate) async fn run(mut self) {
        let (answers, mut fenced) = mpsc::channel(bounds::FENCE_ANSWERS_MAX);
        let beside = Beside { answers, clearing: Arc::default() };
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut versions = self.state.versions();
        // There is a controller where this process leads, a new one for each term. A leader that lacks a majority
        // for a moment keeps it: what is under way, and its time limits, go on.
        let mut leading: Option<(u64, Controller)> = None;
        let mut lost_ms = None;
        loop {
            let input = tokio::select! {
                () = self.shutdown.cancelled() => return,
                Some(input) = fenced.recv() => input,
                Some(input) = self.movers.hear() => input,
                _ = versions.changed() => Input::Tick,
                _ = ticks.tick() => Input::Tick,
            };
            let leads = self.engine.leads();
            let now_ms = clock::boot_ms();
            let is_over = match leads {
                Some(term) => leading.as_ref().is_none_or(|(known, _)| *known != term),
                None => now_ms.saturating_sub(*lost_ms.get_or_insert(now_ms)) > bounds::LEADS_AGAIN_MS,
            };
            if is_over {
                leading = self.begin(leads).await;
                self.movers.forget_calls();
            }
            if leads.is_some() {
                lost_ms = None;
            }
            let decides = self.policy.decides(&self.engine.voter_regions());
            let brake = match leading.as_mut().filter(|_| leads.is_some()) {
                Some((_, controller)) => {
                    controller.allow_failover(decides.is_ok());
                    self.drive(controller, input, &beside).await;
                    self.state.set_listens_from_ms(controller.listens_from_ms());
                    metrics::gauge!("hearth_nodes_failing_canaries").set(controller.verdicts().len() as f64);
                    controller.brake().map(ToString::to_string)
                }
                None => None,
            };
            metrics::gauge!("hearth_failover_stopped").set(if brake.is_some() { 1.0 } else { 0.0 });
            match decides {
                Ok(()) => self.state.set_failover(true, brake.unwrap_or_default()),
                Err(off) => self.state.set_failover(false, off.to_string()),
            }
        }
    }

    /// A new leader listens before it judges anyone: its controller starts with nothing heard.
    async fn begin(&self, leads: Option<u64>) -> Option<(u64, Controller)> {
        let term = leads?;
        if let Err(error) = self.engine.found(&self.deployment).await {
            tracing::warn!(%error, "the deployment could not be founded");
            return None;
        }
        match self.policy.decides(&self.engine.voter_regions()) {
            Ok(()) => tracing::info!(term, "this directory decides now; automatic failover is ON"),
            Err(off) => {
                tracing::warn!(term, why = %off, "this directory decides now; automatic failover is OFF")
            }
        }
        Some((term, Controller::new(self.settings.clone(), clock::boot_ms())))
    }

    async fn drive(&self, controller: &mut Controller, input: Input, beside: &Beside) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            self.state.look(|view, leases| {
                controller.handle(clock::boot_ms(), view, leases, input, &mut actions);
                report(view);
            });
            // What a command changed may call for more at once.
            if self.carry_out(actions, beside).await {
                next = Some(Input::Tick);
            }
        }
    }

    /// Answers whether a command changed anything.
    async fn carry_out(&self, actions: Vec<Action>, beside: &Beside) -> bool {
        let mut changed = false;
        for action in actions {
            match action {
                Action::Submit(command @ Command::ClearWaiting(_)) => beside.clear(&self.engine, command),
                Action::Submit(Command::FinishRetirement(nodes)) => self.finish_retirement(&nodes),
                Action::Submit(command) => changed |= self.submit(command).await,
                Action::Fence { node, partitions } => {
                    let address = self.dial.get(&node.node).unwrap_or(&node.address).clone();
                    let answers = beside.answers.clone();
                    tokio::spawn(async move {
                        let input = fence::raise(node.node, address, partitions).await;
                        let _stopped = answers.send(input).await;
                    });
                }
                Action::Move(action) => self.movers.carry_out(action),
                Action::Page(page) => self.page(page).await,
            }
        }
        changed
    }

    fn finish_retirement(&self, nodes: &[NodeId]) {
        let rows: Vec<NodeRow> =
            self.state.look(|view, _| nodes.iter().filter_map(|node| view.node(node).cloned()).collect());
        let at = |row: NodeRow| {
            let address = self.dial.get(&row.node).unwrap_or(&row.address).clone();
            (row, address)
        };
        self.retiring.finish(self.engine.clone(), rows.into_iter().map(at).collect());
    }

    async fn submit(&self, command: Command) -> bool {
        let name = command.name();
        let version = self.state.look(|view, _| view.version());
        let futile = Futile { command: command.clone(), version };
        if self.futile.lock().get(name).is_some_and(|(known, since)| {
            *known == futile && since.elapsed() < Duration::from_millis(bounds::FUTILE_AGAIN_MS)
        }) {
            return false;
        }
        match self.engine.submit(envelope(command)).await {
            Ok(Answer::Applied(rows)) => {
                if rows == 0 {
                    tracing::debug!(command = name, "the rows did not allow it");
                    self.futile.lock().insert(name, (futile, Instant::now()));
                } else {
                    tracing::info!(command = name, rows, "the placement has changed");
                }
                rows > 0
            }
            Ok(Answer::Done | Answer::Registered(_) | Answer::IsrVersion(_) | Answer::Moving(_)) => true,
            Err(error @ SubmitError::Refused(_)) => {
                tracing::warn!(command = name, %error, "the rows have moved on");
                false
            }
            Err(error) => {
                tracing::error!(command = name, %error, "a command of the controller got no answer");
                false
            }
        }
    }

    async fn page(&self, page: Page) {
        tracing::error!(%page, "an operator is needed");
        metrics::counter!("hearth_pages_total").increment(1);
        self.submit(Command::Note(format!("page: {page}"))).await;
    }
}

/// What goes on beside the controller.
struct Beside {
    answers: mpsc::Sender<Input>,
    /// A command that clears whom nobody waits for any more is under way.
    clearing: Arc<AtomicBool>,
}

impl Beside {
    /// A commit takes round trips, and the promotion that is next must not wait for this one. Their order does not
    /// matter: a new home inherits whom to wait for, and acks once that is cleared.
    fn clear(&self, engine: &Engine, command: Command) {
        if self.clearing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (engine, clearing) = (engine.clone(), Arc::clone(&self.clearing));
        tokio::spawn(async move {
            let name = command.name();
            match engine.submit(envelope(command)).await {
                Ok(_) => tracing::info!(command = name, "the placement has changed"),
                Err(error) => tracing::warn!(command = name, %error, "it is asked for again"),
            }
            clearing.store(false, Ordering::Relaxed);
        });
    }
}

/// Wraps a command that is asked for by the directory itself.
pub(crate) fn envelope(command: Command) -> Envelope {
    Envelope { request: random::request_id(), at_ms: clock::wall_ms(), command }
}

fn report(view: &Placement) {
    let count = |state| view.partitions().filter(|row| row.state == state).count() as f64;
    metrics::gauge!("hearth_partitions", "state" => "vacant").set(count(PartitionState::Vacant));
    metrics::gauge!("hearth_partitions", "state" => "homed").set(count(PartitionState::Homed));
    metrics::gauge!("hearth_partitions", "state" => "failing_over").set(count(PartitionState::FailingOver));
    let waiting = view.partitions().filter(|row| !row.waiting.is_empty()).count();
    metrics::gauge!("hearth_partitions_waiting").set(waiting as f64);
    let lost = view.partitions().filter(|row| !row.lost.is_empty()).count();
    metrics::gauge!("hearth_partitions_with_lost_replicas").set(lost as f64);
    metrics::gauge!("hearth_placement_version").set(view.version() as f64);
}
