//! A run: the world goes on a stretch at a time, things break and are mended, and in the end all is read.

mod faults;
mod traps;

use super::{
    directory::Rows,
    disk::Disk,
    fault::Planned,
    finals::{self, Copy},
    host::{Host, HostId, Process},
    machine::Simulated,
    net::{Delay, Later, Link, Net},
    observer::{self, Seen, Watched},
    operator::{self, Commanded},
    party::{self, Desk, Party},
    plan::Plan,
    processes,
    trap::Trap,
    world,
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
    /// What was not at rest when the run was ended: empty where everything was answered, copied, salvaged and read.
    pub restless: Vec<String>,
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
    /// What has yet to break, the next one last.
    pending: Vec<Planned>,
    /// What waits for a sight.
    traps: Vec<Trap>,
    /// When some devices are lost, and what the operator does.
    devices_lost_us: Option<u64>,
    commands: Vec<Commanded>,
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
        let drawn = std::mem::take(&mut plan.drawn);
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
            pending: drawn.faults.into_iter().rev().collect(),
            traps: drawn.traps,
            devices_lost_us: drawn.devices_lost_us,
            commands: drawn.commands,
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
        while self.now_us < rest_ends_us && !self.restless().is_empty() {
            // A party that was late begins to write now.
            self.desk.with(|workloads| workloads.iter().for_each(Workload::stop_writing));
            for _ in 0..STEPS_BETWEEN_LOOKS {
                self.step();
            }
        }
        let restless = self.restless();
        if let Some(rows) = Rows::furthest(&self.rows) {
            finals::record(&self.copies(), &rows, &self.recorder);
        }
        let trace = world::net(|net| net.trace_hash()) ^ self.recorder.trace_hash();
        self.desk.close();
        for host in &mut self.hosts {
            host.kill();
        }
        let history = self.recorder.finish().expect("what was recorded is a history");
        let violations = judged(&history, self.plan.is_wild);
        Outcome { history, violations, trace, lasted_us: self.now_us, restless }
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

    /// What is under way still: what is not answered, copied, salvaged or read.
    fn restless(&self) -> Vec<String> {
        let mut restless = Vec::new();
        let mut wait_for = |is_over: bool, what: &str| {
            if !is_over {
                restless.push(what.to_owned());
            }
            is_over
        };
        let Some(rows) = Rows::furthest(&self.rows) else { return vec!["no directory".to_owned()] };
        let copies = self.copies();
        let is_settled = [
            wait_for(self.desk.is_open(self.plan.regions.len()), "clients that have not begun"),
            wait_for(self.desk.pending() == 0, "writes without an end"),
            wait_for(rows.is_settled(), "partitions without a home, moves or re-homings"),
            wait_for(finals::are_salvaged(&copies), "archives that are not salvaged"),
            wait_for(finals::agree(&copies, &rows), "copies that differ"),
        ];
        if is_settled == [true; 5] {
            let ends = finals::ends(&copies, &rows, &self.recorder);
            let behind =
                self.desk.with(|all| all.iter().flat_map(|each| each.heads().behind(&ends)).collect());
            let behind: Vec<_> = behind;
            restless
                .extend(behind.into_iter().map(|(session, log, at)| format!("{session} at {at} of {log}")));
            let marks = finals::marks(&copies, &rows, &self.recorder);
            let unknown: Vec<_> =
                self.desk.with(|all| all.iter().flat_map(|each| each.marks().unknown(&marks)).collect());
            let tell = |(session, log, read)| format!("{session} has read {log} up to {read}, unknown");
            restless.extend(unknown.into_iter().map(tell));
        }
        restless
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
        self.spring_traps();
        self.turn_faults();
        self.lose_devices();
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
        match self.roles[usize::from(id.0)] {
            Role::Node(node) => self.disks[node].crash(&mut self.rng),
            Role::Directory(replica) => self.rows[replica].crash(),
            _ => {}
        }
    }

    /// Devices whose outboxes nobody will ever see again.
    fn lose_devices(&mut self) {
        if self.devices_lost_us.take_if(|at_us| *at_us <= self.now_us).is_some() {
            self.desk.with(|workloads| workloads.iter().for_each(Workload::lose_devices));
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
                processes::directory(replica, &self.directories(), rows, plan)
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
            Role::Observer => self.outside(directories),
        }
    }

    /// Who looks on from outside, and who operates.
    fn outside(&mut self, directories: Vec<String>) -> Process {
        let watched = self.plan.nodes.iter().enumerate().filter_map(|(at, (node, region))| {
            let address = self.hosts[usize::from(self.node_host(at)?.0)].address;
            let (node, region) = (node.clone(), self.plan.regions[*region].clone());
            Some(Watched { node, region, address: format!("http://{}", processes::at(address)) })
        });
        let watching =
            observer::watch(directories.clone(), watched.collect(), self.seen.clone(), self.recorder.clone());
        let (regions, commands) = (self.plan.regions.clone(), std::mem::take(&mut self.commands));
        let rng = StdRng::seed_from_u64(self.rng.random());
        let operating = operator::work(directories, regions, commands, rng, self.desk.clone());
        Box::pin(async move {
            tokio::join!(watching, operating);
        })
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
}

/// With clocks as wrong as in a wild run only what was replicated is promised: it is as if nothing had been acked
/// at home.
fn judged(history: &History, is_wild: bool) -> Vec<Violation> {
    if !is_wild {
        return check::all(history);
    }
    let is_home = |event: &Event| matches!(event.kind, Kind::Ok { ack: Ack::Home, .. });
    let events = history.events().iter().filter(|event| !is_home(event)).cloned().collect();
    check::all(&History::new(history.header().clone(), events).expect("it names as much as before"))
}

fn link(from: usize, to: usize) -> Link {
    let id = |at: usize| HostId(u8::try_from(at).expect("few hosts"));
    Link { from: id(from), to: id(to) }
}

/// Loopback, because development mode is for loopback only.
fn address(id: HostId) -> IpAddr {
    Ipv4Addr::new(127, 1, 0, id.0 + 1).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Checker,
        history::{BodySum, LogSum, Resends},
    };
    use types::{DeviceId, Epoch, Generation, LogId, MessageId, NodeId, Offset, Position, RegionId, UserId};

    /// A message is acked, and the one replica holds nothing in the end.
    fn acked_and_lost(ack: Ack) -> History {
        let recorder = Recorder::in_memory(Header::new("hand-made", 0, true), || 0);
        let name = RegionId::new("here").expect("a name");
        let (log, node) = (
            recorder.log(LogId::group([1; 16])),
            recorder.node(&NodeId::new("here-1").expect("a name"), &name),
        );
        let device = recorder.device(&UserId::new("ann").expect("a name"), DeviceId::new(1), &name);
        let message = recorder.message(log, device, MessageId::from(uuid::Uuid::nil()));
        let (body, resends) = (BodySum::CHANGE, Resends::Never);
        recorder.record(Kind::Invoke { message, body, after: None, resends });
        let at = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(1));
        let (epoch, passed_us, accepted_at_ms) = (None, None, 0);
        recorder.record(Kind::Ok { message, at, ack, epoch, passed_us, accepted_at_ms });
        recorder.record(Kind::FinalLog { node, log, entries: 0, sum: LogSum::default().sum() });
        recorder.finish().expect("a history")
    }

    fn finders(history: &History, is_wild: bool) -> Vec<Checker> {
        judged(history, is_wild).into_iter().map(|violation| violation.checker).collect()
    }

    #[test]
    fn only_home_acks_may_suffer_from_clocks_that_are_off_by_half() {
        let (home, replicated) = (acked_and_lost(Ack::Home), acked_and_lost(Ack::Replicated));
        assert!(finders(&home, false).contains(&Checker::C2));
        assert_eq!(finders(&home, true), []);
        assert!(finders(&replicated, false).contains(&Checker::C2));
        assert!(finders(&replicated, true).contains(&Checker::C2));
    }
}
