//! The directory's own parts with nodes around them, on a virtual clock: rows, stamps, controller, fences,
//! renewals that travel for a while, homes that append and followers that copy.
//!
//! Nodes are as simple as they can be and still do wrong if the directory lets them: a home goes on by what
//! it last heard, acks by its own lease, and moves its watermark by the in-sync set it knows. What is checked
//! after every step, beside the invariants of the rows:
//!
//! * P3: what was once `replicated` is in the log of every later home, at its place;
//! * P2: no `home` ack of an epoch follows the first ack of a later one;
//! * I7: (epoch, LSN) never names two records.

mod gray;
mod leaving;
mod moves;
mod node;
mod scenarios;
mod schedules;
mod several;

use crate::{
    bounds,
    command::{Answer, Command, Refusal},
    controller::{Action, Controller, Failback, FenceAnswer, Input, Settings, WishError},
    state::State,
    testing::{Directory, member, registration},
};
use node::{Node, Record, Wrote};
use std::collections::{BTreeMap, BTreeSet};
use types::{Epoch, Home, Lsn, MoveId, NodeId, PartitionId, PartitionState, Placement};

pub(crate) const TTL_MS: u64 = 4_000;
const SILENCE_MS: u64 = 3_000;
const RENEW_MS: u64 = 1_000;
const REPLACE_MS: u64 = 15_000;
const REBALANCE_MS: u64 = 5_000;
const COOLDOWN_MS: u64 = 5_000;
const STEP_MS: u64 = 50;

/// Something on its way.
#[derive(Debug)]
enum Call {
    Renewal {
        home: Home,
        sent_ms: u64,
    },
    Renewed {
        home: Home,
        sent_ms: u64,
    },
    Fence {
        node: NodeId,
        partitions: Vec<(PartitionId, Epoch)>,
    },
    Survey {
        node: NodeId,
        until_ms: u64,
    },
    AwaitSeal {
        node: NodeId,
        partition: PartitionId,
        epoch: Epoch,
        id: MoveId,
        until_ms: u64,
    },
    /// A command that the controller does not wait for.
    Move(Command),
    Answer(Input),
}

pub(crate) struct World {
    now_ms: u64,
    directory: Directory,
    state: State,
    controller: Controller,
    settings: Settings,
    nodes: BTreeMap<NodeId, Node>,
    calls: Vec<(u64, Call)>,
    /// One way, between the directory and nodes.
    delay_ms: u64,
    directory_stopped: bool,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Since when an observer has had no canary acked by a boot.
    failing_since_ms: BTreeMap<(NodeId, Home), u64>,
    replicated: BTreeMap<PartitionId, Vec<Record>>,
    acks: BTreeMap<PartitionId, BTreeMap<Epoch, (u64, u64)>>,
    names: BTreeMap<(PartitionId, Epoch, Lsn), u64>,
    serial: u64,
    pages: Vec<String>,
    /// What operators were told of the moves they wished for.
    told: Vec<Result<MoveId, WishError>>,
}

/// A defect of every node, to see that the checks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// A home acks although former ones are waited for.
    ForgetsToWait,
    /// A follower answers a fence that it does not keep.
    KeepsNoFence,
    /// A home counts a follower as far as it has sent, not as far as the follower has reported.
    CountsWhatWasSent,
    /// A home goes on to ack behind its seal.
    AcksBehindSeal,
    /// The target of a move says that it holds the seal, whatever it holds.
    SaysItHoldsSeal,
}

impl World {
    pub(crate) fn new(regions: &[&str], automatic_failover: bool) -> Self {
        Self::with_partitions(regions, 2, automatic_failover)
    }

    pub(crate) fn with_partitions(regions: &[&str], per_region: u32, automatic_failover: bool) -> Self {
        let directory = Directory::born(regions, per_region);
        let settings = Settings {
            automatic_failover,
            silence_ms: SILENCE_MS,
            canary_failing_ms: SILENCE_MS,
            canary_failover: true,
            renew_interval_ms: RENEW_MS,
            replace_after_ms: REPLACE_MS,
            rebalance_after_ms: REBALANCE_MS,
            fills_per_node_max: 2,
            homes_per_node_max: usize::MAX,
            failback: Failback { on: false, cooldown_ms: COOLDOWN_MS },
        };
        let state = State::new(directory.view.clone(), TTL_MS, 0);
        Self {
            now_ms: 0,
            state,
            directory,
            controller: Controller::new(settings.clone(), 0),
            settings,
            nodes: BTreeMap::new(),
            calls: Vec::new(),
            delay_ms: 50,
            directory_stopped: false,
            cut: BTreeSet::new(),
            failing_since_ms: BTreeMap::new(),
            replicated: BTreeMap::new(),
            acks: BTreeMap::new(),
            names: BTreeMap::new(),
            serial: 0,
            pages: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Boots a node; on the store it had, if it had one.
    pub(crate) fn boot(&mut self, name: &str) {
        if self.directory_stopped {
            return;
        }
        let id = crate::testing::node(name);
        let store = self.nodes.get(&id).map_or(self.nodes.len() as u8 + 1, |node| node.store);
        let command = Command::Register(registration(name, store));
        let Some(Answer::Registered(incarnation)) = self.submit(command) else { panic!("not registered") };
        let home = Home { node: id.clone(), incarnation };
        let node = self.nodes.entry(id).or_insert_with(|| Node::new(store));
        node.boot(home, self.now_ms);
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(&crate::testing::node(name)).expect("it has booted once")
    }

    /// Cuts or heals the link between two nodes.
    pub(crate) fn link(&mut self, a: &str, b: &str, is_cut: bool) {
        let (a, b) = (crate::testing::node(a), crate::testing::node(b));
        for pair in [(a.clone(), b.clone()), (b, a)] {
            if is_cut {
                self.cut.insert(pair)
            } else {
                self.cut.remove(&pair)
            };
        }
    }

    /// The directory process stands still, or goes on.
    pub(crate) fn stop_directory(&mut self, is_stopped: bool) {
        self.directory_stopped = is_stopped;
    }

    /// The directory process starts anew: only its rows are left.
    pub(crate) fn restart_directory(&mut self) {
        self.directory_stopped = false;
        self.state = State::new(self.directory.view.clone(), TTL_MS, self.now_ms);
        self.controller = Controller::new(self.settings.clone(), self.now_ms);
        self.calls.retain(|(_, call)| {
            !matches!(call, Call::Answer(_) | Call::Renewal { .. } | Call::Move(_) | Call::Survey { .. })
        });
    }

    pub(crate) fn plant(&mut self, plant: Plant) {
        for node in self.nodes.values_mut() {
            node.plant = Some(plant);
        }
    }

    /// Changes what the controller goes by; it forgets what it has seen.
    pub(crate) fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.controller = Controller::new(self.settings.clone(), self.now_ms);
    }

    /// An operator's command.
    pub(crate) fn order(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.try_submit(command)
    }

    pub(crate) fn view(&self) -> &Placement {
        &self.directory.view
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.step();
        }
    }

    /// Runs until it is so; panics after `within_ms`.
    pub(crate) fn run_until(&mut self, within_ms: u64, what: &str, is_so: impl Fn(&Self) -> bool) -> u64 {
        let started = self.now_ms;
        while !is_so(self) {
            assert!(self.now_ms < started + within_ms, "never came: {what}; {:#?}", self.pages);
            self.step();
        }
        self.now_ms - started
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        self.deliver();
        if !self.directory_stopped {
            self.control(Input::Tick);
        }
        self.nodes_act();
        self.send_canaries();
        self.check();
    }

    fn submit(&mut self, command: Command) -> Option<Answer> {
        self.try_submit(command).ok()
    }

    fn try_submit(&mut self, command: Command) -> Result<Answer, Refusal> {
        let registered = match &command {
            Command::Register(registration) => Some(registration.node.clone()),
            _ => None,
        };
        let before = self.directory.view.version();
        let handed_over = match &command {
            Command::FinishMove(sealed) => self.hands(sealed.partition),
            _ => None,
        };
        let answer = self.directory.run(command)?;
        if let Some((partition, source, target)) = handed_over {
            let holds_all = self.nodes[&target].log(partition) == self.nodes[&source].log(partition);
            assert!(holds_all, "P8: {target} lacks what {source} wrote in partition {partition}");
        }
        if self.directory.view.version() != before {
            let mut changes = crate::watch::Changes::starting_at(&self.directory.view);
            let mut delta = changes.since(before, &self.directory.view);
            delta.from_version = before;
            changes.record(&delta);
            let home = registered.zip(match answer {
                Answer::Registered(incarnation) => Some(incarnation),
                _ => None,
            });
            let home = home.map(|(node, incarnation)| Home { node, incarnation });
            self.state.publish(delta, home.as_ref(), self.now_ms);
        }
        Ok(answer)
    }

    fn control(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut actions = Vec::new();
            let (controller, now_ms) = (&mut self.controller, self.now_ms);
            self.state.look(|view, leases| controller.handle(now_ms, view, leases, input, &mut actions));
            for action in actions {
                match action {
                    Action::Submit(command) => {
                        if matches!(self.submit(command), Some(Answer::Applied(1..) | Answer::Done)) {
                            next = Some(Input::Tick);
                        }
                    }
                    Action::Fence { node, partitions } => {
                        let call = Call::Fence { node: node.node, partitions };
                        self.calls.push((self.now_ms + self.delay_ms, call));
                    }
                    Action::Move(action) => self.take_move(action),
                    Action::Page(page) => self.pages.push(page.to_string()),
                }
            }
        }
    }

    fn deliver(&mut self) {
        let now_ms = self.now_ms;
        let (due, later) =
            std::mem::take(&mut self.calls).into_iter().partition(|(at_ms, _)| *at_ms <= now_ms);
        self.calls = later;
        let due: Vec<(u64, Call)> = due;
        for (_, call) in due {
            self.deliver_one(call);
        }
    }

    fn deliver_one(&mut self, call: Call) {
        let back_ms = self.now_ms + self.delay_ms;
        match call {
            Call::Renewal { home, sent_ms } if !self.directory_stopped => {
                if self.state.renew(&home, self.now_ms).is_ok() {
                    self.state.observe(&home, self.observed(&home.node), self.now_ms);
                    self.calls.push((back_ms, Call::Renewed { home, sent_ms }));
                }
            }
            Call::Renewed { home, sent_ms } => {
                let node = self.nodes.get_mut(&home.node).expect("it sent it");
                node.renewed(&home, sent_ms + TTL_MS);
            }
            Call::Fence { node, partitions } => {
                let asked: Vec<PartitionId> = partitions.iter().map(|(partition, _)| *partition).collect();
                let target = self.nodes.get_mut(&node).expect("it has registered");
                let (at_ms, answers) = if target.reaches_directory() {
                    (back_ms, partitions.iter().map(|(it, epoch)| target.fence(*it, *epoch)).collect())
                } else {
                    (self.now_ms + bounds::FENCE_TIMEOUT_MS, Vec::<FenceAnswer>::new())
                };
                self.calls.push((at_ms, Call::Answer(Input::Fenced { node, asked, answers })));
            }
            Call::Survey { node, until_ms } => self.survey(node, until_ms),
            Call::AwaitSeal { node, partition, epoch, id, until_ms } => {
                self.await_seal(node, partition, epoch, id, until_ms);
            }
            Call::Move(command) if !self.directory_stopped => self.submit_move(command),
            Call::Answer(input) if !self.directory_stopped => self.control(input),
            // Whoever stands still reads later; what is still open then is sent again.
            call @ (Call::Answer(_) | Call::Renewal { .. } | Call::Move(_)) => {
                self.calls.push((back_ms, call));
            }
        }
    }

    fn nodes_act(&mut self) {
        let names: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for name in &names {
            let node = self.nodes.get_mut(name).expect("there");
            if node.reaches_directory() {
                if !self.directory_stopped && node.view.version() != self.directory.view.version() {
                    node.view = self.directory.view.clone();
                }
                if let Some(home) = node.wants_to_renew(self.now_ms, RENEW_MS) {
                    let call = Call::Renewal { home, sent_ms: self.now_ms };
                    self.calls.push((self.now_ms + self.delay_ms, call));
                }
            }
            if node.is_running() {
                for partition in node.homes() {
                    self.act_as_home(name, partition, &names);
                }
            }
        }
    }

    fn act_as_home(&mut self, name: &NodeId, partition: PartitionId, names: &[NodeId]) {
        self.serial += 1;
        let (serial, now_ms) = (self.serial, self.now_ms);
        let node = self.nodes.get_mut(name).expect("there");
        match node.write(partition, serial) {
            Wrote::Record(epoch, lsn, serial) => {
                let first = *self.names.entry((partition, epoch, lsn)).or_insert(serial);
                assert_eq!(first, serial, "I7: two records of partition {partition} have one name");
            }
            Wrote::Nothing => {}
            Wrote::Fenced => return,
        }
        if let Some(epoch) = node.acks_at_home(partition, now_ms) {
            let (_, last) = self.acks.entry(partition).or_default().entry(epoch).or_insert((now_ms, now_ms));
            *last = now_ms;
        }
        for other in names.iter().filter(|other| *other != name) {
            if self.cut.contains(&(name.clone(), other.clone())) {
                continue;
            }
            let mut home = self.nodes.remove(name).expect("there");
            home.feed(partition, other, self.nodes.get_mut(other).expect("there"));
            self.nodes.insert(name.clone(), home);
        }
        let node = &self.nodes[name];
        let reaches = node.reaches_directory() && !self.directory_stopped;
        if let Some(proposal) = node.proposes(partition).filter(|_| reaches) {
            // The reply may be lost: whatever the outcome, the home learns it from the placement only.
            self.nodes.get_mut(name).expect("there").proposed(&proposal);
            self.submit(Command::ProposeIsr(proposal));
        }
        let replicated = self.nodes.get_mut(name).expect("there").replicated(partition);
        let known = self.replicated.entry(partition).or_default();
        let shared = known.len().min(replicated.len());
        assert_eq!(known[..shared], replicated[..shared], "P3: partition {partition} at {name}");
        if replicated.len() > known.len() {
            *known = replicated.to_vec();
        }
    }

    fn check(&self) {
        for acks in self.acks.values() {
            for ((earlier, (_, last)), (later, (first, _))) in acks.iter().zip(acks.iter().skip(1)) {
                assert!(last < first, "P2: epoch {earlier} acked at {last}, epoch {later} at {first}");
            }
        }
        for row in self.view().partitions().filter(|row| row.state == PartitionState::Homed) {
            let home = row.home.as_ref().expect("homed");
            let log = self.nodes[&home.node].log(row.partition);
            let known = self.replicated.get(&row.partition).map_or(&[][..], Vec::as_slice);
            let holds = log.len() >= known.len() && log[..known.len()] == *known;
            assert!(
                holds,
                "P3: the home {} of partition {} lacks replicated records",
                home.node, row.partition
            );
        }
    }

    /// Every partition has a home that may ack, and every replica is in sync.
    pub(crate) fn is_whole(&self) -> bool {
        self.view().partitions().all(|row| {
            row.state == PartitionState::Homed
                && row.waiting.is_empty()
                && self.regions_of(&row.isr).len() == self.view().regions().count()
                && row.replicas.iter().all(|copy| row.isr.contains(copy))
                && row.lost.is_empty()
        })
    }

    /// Beyond that, each region has one copy, and nothing is away; a home that is not where its region's copy
    /// belongs keeps its own until it is moved.
    pub(crate) fn is_settled(&self) -> bool {
        let home_stays = |row: &types::PartitionRow| row.replicas.len() - self.regions_of(&row.isr).len();
        self.is_whole() && self.view().partitions().all(|row| row.away.is_empty() && home_stays(row) == 0)
    }

    fn regions_of(&self, members: &[types::Replica]) -> BTreeSet<&types::RegionId> {
        members.iter().filter_map(|it| self.view().node(&it.node)).map(|node| &node.region).collect()
    }

    fn replica_of(&self, name: &str) -> types::Replica {
        member(name, self.nodes[&crate::testing::node(name)].store)
    }
}
