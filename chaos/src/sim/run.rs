//! A run: the world goes on a stretch at a time, things break and are mended, and in the end all is read.

use super::{
    disk::Disk,
    fault::{Fault, Planned},
    finals::{self, Copy},
    host::{Host, HostId, Process},
    machine::Simulated,
    net::{Delay, Later, Link, Net},
    observer::{self, Seen},
    party::{self, Desk, Party},
    plan::Plan,
    processes, world,
};
use crate::{
    check::{self, Violation},
    history::{self, Ack, Event, Header, History, Kind, Recorder},
    workload::Workload,
};
use global_directory::kv::Memory;
use log_store::memory::MemoryStore;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use types::StoreId;

/// How long all may take to come to rest once nothing is broken any more.
const REST_MAX_US: u64 = 60_000_000;
/// Steps between two looks at whether all has come to rest.
const STEPS_BETWEEN_LOOKS: u32 = 20;
/// A process that has ended by itself is started again after this.
const RESTART_US: u64 = 500_000;
/// A link within a region, one way.
const NEAR_US: u64 = 300;
/// A run's clock as the C library tells it begins here: nothing may come out negative.
const EPOCH_NS: u64 = 1_790_000_000_000_000_000;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was recorded.
    pub history: History,
    /// What is wrong with it.
    pub violations: Vec<Violation>,
    /// A hash of all packets and events.
    pub trace: u128,
    /// How long the run was, as its world counts.
    pub lasted_us: u64,
    /// Everything was answered, copied, salvaged and read before the run was ended.
    pub is_at_rest: bool,
}

/// What a host is there for.
#[derive(Debug, Clone)]
enum Role {
    Directory(usize),
    Node(usize),
    Replicator(usize),
    Party(usize),
    Observer,
}

/// A run.
pub(super) struct Run {
    plan: Plan,
    rng: StdRng,
    now_us: u64,
    hosts: Vec<Host>,
    roles: Vec<Role>,
    /// When a process that is down starts; none: not before a fault ends.
    starts: BTreeMap<HostId, Option<u64>>,
    disks: Vec<Disk>,
    /// Of each directory replica.
    rows: Vec<Arc<Memory>>,
    desk: Arc<Desk>,
    seen: Seen,
    recorder: Recorder,
    pending: Vec<Planned>,
    active: Vec<(Planned, history::Fault)>,
}

impl Run {
    /// Sets a world up. Once in a process, by a thread that has done nothing else.
    pub(super) fn new(seed: u64, prints: bool) -> Self {
        libc_hooks::seed(seed);
        libc_hooks::set_clock(EPOCH_NS);
        let _one_per_process = host::install(Box::new(Simulated));
        let mut plan = Plan::draw(seed);
        let mut rng = StdRng::seed_from_u64(plan.rng.random());
        world::begin(Net::new(StdRng::seed_from_u64(plan.rng.random()), prints));
        let disks = (0..plan.nodes.len())
            .map(|_| Disk::new(MemoryStore::new(StoreId::from_bytes(rng.random()))))
            .collect();
        let pending = std::mem::take(&mut plan.faults).into_iter().rev().collect();
        let mut run = Self {
            rng,
            now_us: 0,
            hosts: Vec::new(),
            roles: Vec::new(),
            starts: BTreeMap::new(),
            disks,
            rows: plan.regions.iter().map(|_| Arc::default()).collect(),
            desk: Arc::default(),
            seen: Seen::default(),
            recorder: Recorder::in_memory(Header::new("simulation", seed, true), world::now_us),
            pending,
            active: Vec::new(),
            plan,
        };
        run.add_hosts();
        run
    }

    /// Runs to the end, and judges.
    pub(super) fn finish(mut self) -> Outcome {
        while self.now_us < self.plan.work_ends_us || !self.pending.is_empty() || !self.active.is_empty() {
            self.step();
        }
        let rest_ends_us = self.now_us + REST_MAX_US;
        while self.now_us < rest_ends_us && !self.is_at_rest() {
            // A party that was late begins to write now.
            self.desk.with(|workloads| workloads.iter().for_each(Workload::stop_writing));
            for _ in 0..STEPS_BETWEEN_LOOKS {
                self.step();
            }
        }
        let is_at_rest = self.is_at_rest();
        let placement = self.seen.lock().clone();
        finals::record(&self.copies(), &placement, &self.recorder);
        let trace = world::net(|net| net.trace_hash()) ^ self.recorder.trace_hash();
        self.desk.close();
        for host in &mut self.hosts {
            host.kill();
        }
        let history = self.recorder.finish().expect("what was recorded is a history");
        let violations =
            if self.plan.is_wild { check::all(&without_home_acks(&history)) } else { check::all(&history) };
        Outcome { history, violations, trace, lasted_us: self.now_us, is_at_rest }
    }

    fn copies(&self) -> Vec<Copy<'_>> {
        let nodes = self.plan.nodes.iter().zip(&self.disks);
        nodes
            .map(|((node, region), disk)| Copy {
                node,
                region: &self.plan.regions[*region],
                store: disk.store(),
            })
            .collect()
    }

    /// Whether nothing is under way any more: everything is answered, copied, and read.
    fn is_at_rest(&self) -> bool {
        let (copies, placement) = (self.copies(), self.seen.lock().clone());
        let is_settled = self.desk.is_open(self.plan.regions.len())
            && self.desk.with(|workloads| workloads.iter().all(|workload| workload.pending() == 0))
            && finals::are_salvaged(&copies)
            && finals::agree(&copies, &placement);
        is_settled && {
            let ends = finals::ends(&copies, &placement, &self.recorder);
            self.desk.with(|all| all.iter().all(|workload| workload.heads().behind(&ends).is_empty()))
        }
    }

    // ---- the world goes on

    fn step(&mut self) {
        world::step();
        self.now_us += self.plan.stretch_us;
        libc_hooks::set_clock(EPOCH_NS + self.now_us * 1_000);
        let mut later = Later::default();
        world::net(|net| net.deliver(self.now_us, &mut later));
        later.run();
        for disk in &mut self.disks {
            disk.step(self.now_us, &self.plan.sync_us, &mut self.rng);
        }
        self.turn_faults();
        self.start_processes();
        let first = self.rng.random_range(0..self.hosts.len());
        for at in 0..self.hosts.len() {
            let at = (first + at) % self.hosts.len();
            self.hosts[at].run_until(self.now_us);
        }
    }

    fn start_processes(&mut self) {
        for at in 0..self.hosts.len() {
            let id = self.hosts[at].id;
            if self.hosts[at].has_ended() {
                self.stop(id);
                self.starts.insert(id, Some(self.now_us + RESTART_US));
            }
            if let Some(Some(at_us)) = self.starts.get(&id)
                && *at_us <= self.now_us
            {
                self.starts.remove(&id);
                let process = self.process(at);
                self.hosts[at].start(self.now_us, process);
            }
        }
    }

    /// Kills a process; what its disk had not synced may be gone.
    fn stop(&mut self, id: HostId) {
        self.hosts[usize::from(id.0)].kill();
        if let Role::Node(node) = self.roles[usize::from(id.0)] {
            self.disks[node].crash(&mut self.rng);
        }
    }

    // ---- hosts

    fn add_hosts(&mut self) {
        for region in 0..self.plan.regions.len() {
            self.add_host(Role::Directory(region));
        }
        for node in 0..self.plan.nodes.len() {
            self.add_host(Role::Node(node));
        }
        for region in 0..self.plan.regions.len() {
            self.add_host(Role::Replicator(region));
        }
        for region in 0..self.plan.regions.len() {
            self.add_host(Role::Party(region));
        }
        self.add_host(Role::Observer);
        self.set_delays();
    }

    fn add_host(&mut self, role: Role) {
        let id = HostId(u8::try_from(self.hosts.len()).expect("few hosts"));
        let address = address(id);
        let clock = self.plan.draw_clock();
        world::net(|net| net.add_host(id, address));
        self.hosts.push(Host::new(id, address, clock));
        self.starts.insert(id, Some(self.rng.random_range(0..500_000)));
        self.roles.push(role);
    }

    /// The region that a host is in; the observer is in none.
    fn region_of(&self, host: usize) -> Option<usize> {
        match self.roles[host] {
            Role::Node(node) => Some(self.plan.nodes[node].1),
            Role::Directory(region) | Role::Replicator(region) | Role::Party(region) => Some(region),
            Role::Observer => None,
        }
    }

    fn set_delays(&mut self) {
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                let is_near = self.region_of(from) == self.region_of(to);
                let least_us = if is_near { NEAR_US } else { self.plan.apart_us };
                let delay = Delay { least_us, jitter_us: least_us / 4 };
                world::net(|net| net.links().set_delay(link(from, to), delay));
            }
        }
    }

    fn host_of(&self, is: impl Fn(&Role) -> bool) -> Option<HostId> {
        self.roles.iter().position(is).map(|at| self.hosts[at].id)
    }

    fn node_host(&self, node: usize) -> Option<HostId> {
        self.host_of(|role| matches!(role, Role::Node(it) if *it == node))
    }

    fn directories(&self) -> Vec<IpAddr> {
        let hosts = self.roles.iter().zip(&self.hosts);
        hosts.filter(|(role, _)| matches!(role, Role::Directory(_))).map(|(_, host)| host.address).collect()
    }

    /// The directory's addresses as a host of this region knows them, the nearest first.
    fn directory_urls(&self, region: Option<usize>) -> Vec<String> {
        let mut addresses = self.directories();
        addresses.rotate_left(region.unwrap_or(0));
        addresses.into_iter().map(|address| format!("http://{}", processes::at(address))).collect()
    }

    fn process(&mut self, at: usize) -> Process {
        let address = self.hosts[at].address;
        let directories = self.directory_urls(self.region_of(at));
        let plan = &self.plan;
        match self.roles[at] {
            Role::Directory(replica) => {
                let rows = self.rows[replica].clone();
                let peers = self.directories();
                processes::directory(replica, &peers, rows, &plan.regions, plan.partitions_per_region)
            }
            Role::Node(node) => {
                let (id, region) = &plan.nodes[node];
                let store = self.disks[node].store().clone();
                processes::node(address, id, &plan.regions[*region], &directories, store)
            }
            Role::Replicator(region) => processes::replicator(address, &plan.regions[region], &directories),
            Role::Party(region) => {
                let party = self.party(region);
                Box::pin(party::live(party, self.recorder.clone(), self.desk.clone()))
            }
            Role::Observer => {
                Box::pin(observer::watch(directories, self.seen.clone(), self.recorder.clone()))
            }
        }
    }

    fn party(&mut self, region: usize) -> Party {
        let mut nodes: Vec<_> = (0..self.plan.nodes.len()).collect();
        // The nearest first, then the others as a client knows them.
        nodes.sort_by_key(|node| (self.plan.nodes[*node].1 != region, *node));
        let edges = nodes.into_iter().filter_map(|node| {
            let host = self.node_host(node)?;
            Some(format!("ws://{}/v1/ws", processes::at(self.hosts[usize::from(host.0)].address)))
        });
        Party {
            regions: self.plan.regions.clone(),
            at: region,
            edges: edges.collect(),
            load: self.plan.load,
            rng: StdRng::seed_from_u64(self.rng.random()),
        }
    }

    // ---- faults

    fn turn_faults(&mut self) {
        while self.pending.last().is_some_and(|next| next.from_us <= self.now_us) {
            let Some(planned) = self.pending.pop() else { return };
            let recorder = &self.recorder;
            let regions = planned.fault.takes_homes_of(&self.plan.nodes);
            let regions = regions.into_iter().map(|at| recorder.region(&self.plan.regions[at])).collect();
            let number = recorder.fault_began(planned.fault.to_string(), regions);
            tracing::info!(fault = %planned.fault, "begins");
            self.apply(&planned.fault, true);
            self.active.push((planned, number));
        }
        let now_us = self.now_us;
        let (over, active) = std::mem::take(&mut self.active)
            .into_iter()
            .partition::<Vec<_>, _>(|(planned, _)| planned.until_us <= now_us);
        self.active = active;
        for (planned, number) in over {
            tracing::info!(fault = %planned.fault, "ends");
            self.apply(&planned.fault, false);
            self.recorder.fault_ended(number);
        }
        self.hold_active();
    }

    /// What ended may have mended what another fault still breaks.
    fn hold_active(&mut self) {
        let cuts: Vec<Link> =
            self.active.iter().flat_map(|(planned, _)| self.cut_links(&planned.fault)).collect();
        world::net(|net| net.set_cut(cuts, true));
    }

    fn apply(&mut self, fault: &Fault, begins: bool) {
        match fault {
            Fault::NodeKilled(node) => self.turn(self.node_host(*node), begins),
            Fault::ReplicatorKilled(region) => {
                self.turn(self.host_of(|role| matches!(role, Role::Replicator(it) if it == region)), begins);
            }
            Fault::DirectoryKilled(replica) => {
                self.turn(self.host_of(|role| matches!(role, Role::Directory(it) if it == replica)), begins);
            }
            Fault::RegionDark(region) => self.turn_dark(*region, begins),
            Fault::NodePaused(node) => {
                if let Some(host) = self.node_host(*node) {
                    self.hosts[usize::from(host.0)].is_paused = begins;
                }
            }
            Fault::DiskStalls(node) => self.disks[*node].stalls = begins,
            Fault::RegionSlow { region, by_ms } => {
                let by_us = if begins { by_ms * 1_000 } else { 0 };
                for link in self.links(|run, from, to| run.crosses(*region, from, to)) {
                    world::net(|net| net.links().slow(link, by_us));
                }
            }
            Fault::RegionReset(region) if begins => {
                for link in self.links(|run, from, to| run.crosses(*region, from, to)) {
                    world::net(|net| net.reset_all(link));
                }
            }
            Fault::RegionReset(_) => {}
            Fault::RegionCut(_)
            | Fault::RegionHalfCut { .. }
            | Fault::CutFromDirectory(_)
            | Fault::ReplicatorBlind(_)
            | Fault::PeersCut(..) => {
                let links = self.cut_links(fault);
                world::net(|net| net.set_cut(links, begins));
            }
        }
    }

    /// Kills a process, or starts it again.
    fn turn(&mut self, host: Option<HostId>, begins: bool) {
        let Some(host) = host else { return };
        if begins {
            self.stop(host);
            self.starts.insert(host, None);
        } else if !self.hosts[usize::from(host.0)].is_running() {
            self.starts.insert(host, Some(self.now_us));
        }
    }

    fn turn_dark(&mut self, region: usize, begins: bool) {
        for at in 0..self.hosts.len() {
            if self.region_of(at) != Some(region) || matches!(self.roles[at], Role::Party(_)) {
                continue;
            }
            let host = self.hosts[at].id;
            if begins {
                world::net(|net| net.go_dark(host));
                self.turn(Some(host), true);
            } else {
                world::net(|net| net.light(host));
                self.turn(Some(host), false);
            }
        }
    }

    fn cut_links(&self, fault: &Fault) -> Vec<Link> {
        match fault {
            Fault::RegionCut(region) => self.links(|run, from, to| run.crosses(*region, from, to)),
            Fault::RegionHalfCut { region, into } => self.links(|run, from, to| {
                run.crosses(*region, from, to) && (run.region_of(to) == Some(*region)) == *into
            }),
            Fault::CutFromDirectory(node) => {
                self.links_to_directory(|role| matches!(role, Role::Node(it) if it == node))
            }
            Fault::ReplicatorBlind(region) => {
                self.links_to_directory(|role| matches!(role, Role::Replicator(it) if it == region))
            }
            Fault::PeersCut(one, other) => self.links(|run, from, to| {
                let pair = [run.region_of(from), run.region_of(to)];
                let is_server = |at: usize| matches!(run.roles[at], Role::Node(_) | Role::Replicator(_));
                is_server(from)
                    && is_server(to)
                    && (pair == [Some(*one), Some(*other)] || pair == [Some(*other), Some(*one)])
            }),
            _ => Vec::new(),
        }
    }

    fn links_to_directory(&self, is: impl Fn(&Role) -> bool) -> Vec<Link> {
        let is_directory = |role: &Role| matches!(role, Role::Directory(_));
        self.links(|run, from, to| {
            let (from, to) = (&run.roles[from], &run.roles[to]);
            (is(from) && is_directory(to)) || (is_directory(from) && is(to))
        })
    }

    fn crosses(&self, region: usize, from: usize, to: usize) -> bool {
        (self.region_of(from) == Some(region)) != (self.region_of(to) == Some(region))
    }

    fn links(&self, is: impl Fn(&Self, usize, usize) -> bool) -> Vec<Link> {
        let count = self.hosts.len();
        let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to && is(self, *from, *to)).map(|(from, to)| link(from, to)).collect()
    }
}

/// With clocks as wrong as in a wild run only what was replicated is promised.
fn without_home_acks(history: &History) -> History {
    let is_home = |event: &Event| matches!(event.kind, Kind::Ok { ack: Ack::Home, .. });
    let events = history.events().iter().filter(|event| !is_home(event)).cloned().collect();
    History::new(history.header().clone(), events).expect("it names as much as before")
}

fn link(from: usize, to: usize) -> Link {
    let id = |at: usize| HostId(u8::try_from(at).expect("few hosts"));
    Link { from: id(from), to: id(to) }
}

/// Loopback, because development mode is for loopback only.
fn address(id: HostId) -> IpAddr {
    Ipv4Addr::new(127, 1, 0, id.0 + 1).into()
}
