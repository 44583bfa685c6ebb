//! What breaks, and is mended again.

use super::{Role, Run, link};
use crate::history::Kind;
use crate::sim::{disk::Disk, fault::Fault, host::HostId, net::Link, world};
use log_store::memory::MemoryStore;
use rand::RngExt as _;
use types::StoreId;

impl Run {
    pub(super) fn turn_faults(&mut self) {
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
        if !self.active.is_empty() {
            self.seen.is_broken(now_us);
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
            Fault::StoreLost(node) => {
                if begins {
                    self.lose_store(*node);
                }
                self.turn(self.node_host(*node), begins);
            }
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
            Fault::RegionSlow { by_ms, .. }
            | Fault::PeersSlow { by_ms, .. }
            | Fault::DirectoryLate { by_ms, .. } => {
                let by_us = if begins { by_ms * 1_000 } else { 0 };
                for link in self.slow_links(fault) {
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
            | Fault::ServersDeaf(_)
            | Fault::CutFromDirectory(_)
            | Fault::ReplicatorBlind(_)
            | Fault::PeersCut(..) => {
                let links = self.cut_links(fault);
                world::net(|net| net.set_cut(links, begins));
            }
        }
    }

    fn lose_store(&mut self, node: usize) {
        if let Some(host) = self.node_host(node) {
            self.stop(host);
        }
        self.disks[node] = Disk::new(MemoryStore::new(StoreId::from_bytes(self.rng.random())));
        let (id, region) = &self.plan.nodes[node];
        let node = self.recorder.node(id, &self.plan.regions[*region]);
        self.recorder.record(Kind::DiskLost { node });
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
            Fault::ServersDeaf(region) => self.links(|run, from, to| {
                let is_theirs = |at: usize| run.is_server(at) && run.region_of(at) == Some(*region);
                let is_client = matches!(run.roles[from], Role::Party(_) | Role::Observer);
                is_theirs(to) && !is_theirs(from) && !is_client
            }),
            Fault::CutFromDirectory(node) => {
                self.links_to_directory(|role| matches!(role, Role::Node(it) if it == node))
            }
            Fault::ReplicatorBlind(region) => {
                self.links_to_directory(|role| matches!(role, Role::Replicator(it) if it == region))
            }
            Fault::PeersCut(one, other) => self.links_of_peers(*one, *other),
            _ => Vec::new(),
        }
    }

    fn slow_links(&self, fault: &Fault) -> Vec<Link> {
        match fault {
            Fault::RegionSlow { region, .. } => self.links(|run, from, to| run.crosses(*region, from, to)),
            Fault::PeersSlow { one, other, .. } => self.links_of_peers(*one, *other),
            Fault::DirectoryLate { node, .. } => self.links(|run, from, to| {
                matches!(run.roles[from], Role::Directory(_))
                    && matches!(run.roles[to], Role::Node(it) if it == *node)
            }),
            _ => Vec::new(),
        }
    }

    /// A node or a replicator.
    fn is_server(&self, host: usize) -> bool {
        matches!(self.roles[host], Role::Node(_) | Role::Replicator(_))
    }

    fn links_of_peers(&self, one: usize, other: usize) -> Vec<Link> {
        self.links(|run, from, to| {
            let pair = [run.region_of(from), run.region_of(to)];
            run.is_server(from)
                && run.is_server(to)
                && (pair == [Some(one), Some(other)] || pair == [Some(other), Some(one)])
        })
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
