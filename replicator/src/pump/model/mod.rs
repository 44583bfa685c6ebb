//! The pump between model homes and a model follower, with faults drawn from a seed; `HEARTH_SEED` repeats one run.
//!
//! Streams break with what is on them, replies are lost, homes change (with and without telling anyone),
//! former homes go on writing and sending, the follower is fenced and refuses, becomes home itself, and
//! the replicator starts anew from nothing.

mod peers;

use super::{Fetch, Fetched, Followed, Input, Output, Pump, Reply, Route, Say};
use crate::bounds;
use peers::{Eras, Follower, HomeNode, append, last};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};
use types::{Epoch, NodeId, PartitionPosition};

const HOMES: usize = 3;
const CREDIT_BYTES: u32 = 120;
const SEEDS: u64 = 3_000;
const STEPS: usize = 600;
/// Rounds of 50 ms in which everything must have settled once faults have ended.
const SETTLING_ROUNDS: usize = 2_000;

fn node(index: usize) -> NodeId {
    NodeId::new(&format!("home-{index}")).expect("a valid name")
}

/// One stream to a home.
#[derive(Debug, Default)]
struct HomeStream {
    up: bool,
    /// The unsent report: at most one.
    unsent: Option<Fetch>,
    requests: VecDeque<Fetch>,
    replies: VecDeque<Fetched>,
}

struct World {
    rng: StdRng,
    now: Instant,
    pump: Pump,
    homes: Vec<HomeNode>,
    streams: Vec<HomeStream>,
    follower: Follower,
    follow_up: bool,
    to_follower: VecDeque<(Epoch, Say)>,
    from_follower: VecDeque<Followed>,
    eras: Eras,
    epoch: Epoch,
    /// Who is home now; `None`: the follower itself.
    home: Option<usize>,
    /// What the placement has still to tell.
    routes: VecDeque<Option<(usize, Epoch)>>,
    /// What came to the follower on streams that are given up, and is not served yet.
    late: VecDeque<(Epoch, Say)>,
    told_diverged: BTreeSet<(Epoch, PartitionPosition, Option<PartitionPosition>)>,
    said_durable: BTreeSet<PartitionPosition>,
    truncations: usize,
    /// How often each kind of event happens: every run has its own slow and broken parts.
    odds: [u32; 16],
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut often = |odds: [u32; 3]| odds[rng.random_range(0..3)];
        let odds =
            std::array::from_fn(|event| if event < 10 { often([10, 50, 200]) } else { often([0, 2, 10]) });
        let mut world = Self {
            rng,
            odds,
            now: Instant::now(),
            pump: Pump::new(CREDIT_BYTES),
            homes: (0..HOMES).map(|_| HomeNode::default()).collect(),
            streams: (0..HOMES).map(|_| HomeStream::default()).collect(),
            follower: Follower::default(),
            follow_up: false,
            to_follower: VecDeque::new(),
            late: VecDeque::new(),
            from_follower: VecDeque::new(),
            eras: Eras::new(),
            epoch: Epoch::ZERO,
            home: None,
            routes: VecDeque::new(),
            told_diverged: BTreeSet::new(),
            said_durable: BTreeSet::new(),
            truncations: 0,
        };
        world.change_home(Some(0));
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    // ---- the pump ----

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.pump.handle(self.now, input, &mut out);
        let home = self.pump.route().map(|route| route.home.clone());
        let stream = home.and_then(|home| (0..HOMES).find(|index| node(*index) == home));
        for output in out {
            match output {
                Output::ToFollower { epoch, say } => {
                    if let Say::Truncate { common, judged } = &say {
                        let told = (epoch, *common, Some(*judged));
                        assert!(self.told_diverged.contains(&told), "nobody called it diverged");
                        self.truncations += 1;
                    }
                    assert!(self.follow_up, "nobody is there to hear it");
                    self.to_follower.push_back((epoch, say));
                }
                Output::ToHome(fetch) => {
                    assert!(self.said_durable.contains(&fetch.last), "the follower never said so");
                    let stream = &mut self.streams[stream.expect("a route")];
                    assert!(stream.up, "nobody is there to hear it");
                    let unsent = stream.unsent.take();
                    stream.unsent = Some(unsent.map_or(fetch, |unsent| fetch.replaces(unsent)));
                }
                Output::Note(_) => {}
            }
        }
        let under_way = self.pump.under_way_bytes();
        assert!(under_way <= CREDIT_BYTES as usize, "{under_way} bytes are under way");
    }

    fn restart_replicator(&mut self) {
        self.break_follow();
        (0..HOMES).for_each(|index| self.break_fetch(index));
        self.pump = Pump::new(CREDIT_BYTES);
        let home = self.home;
        self.routes = VecDeque::from([home.map(|home| (home, self.epoch))]);
    }

    // ---- streams ----

    fn break_follow(&mut self) {
        // What has come to it it may still do, now or later, and nobody hears of it.
        let come = self.rng.random_range(0..=self.to_follower.len());
        self.late.extend(self.to_follower.drain(..).take(come));
        if self.chance(50) {
            self.serve_late();
        }
        self.from_follower.clear();
        if std::mem::take(&mut self.follow_up) {
            self.tell(Input::FollowDown);
        }
    }

    fn serve_late(&mut self) {
        for (epoch, say) in self.late.drain(..) {
            self.follower.take(epoch, say, &self.eras);
        }
    }

    fn break_fetch(&mut self, index: usize) {
        self.homes[index].disconnect();
        self.streams[index].unsent = None;
        self.streams[index].requests.clear();
        self.streams[index].replies.clear();
        if std::mem::take(&mut self.streams[index].up) && self.is_route(index) {
            self.tell(Input::FetchDown);
        }
    }

    fn connect(&mut self, index: usize) {
        if !self.follow_up {
            self.follow_up = true;
            self.tell(Input::FollowUp);
        }
        if !self.streams[index].up {
            self.streams[index].up = true;
            if self.is_route(index) {
                self.tell(Input::FetchUp);
            }
        }
    }

    fn is_route(&self, index: usize) -> bool {
        self.pump.route().is_some_and(|route| route.home == node(index))
    }

    fn home_says(&mut self, index: usize, fetched: Fetched) {
        if let Reply::Diverged { common, judged } = &fetched.reply {
            self.told_diverged.insert((fetched.epoch, *common, *judged));
        }
        self.streams[index].replies.push_back(fetched);
    }

    /// HTTP/2 takes a report off the outbox.
    fn carry_report(&mut self, index: usize) {
        if let Some(fetch) = self.streams[index].unsent.take() {
            self.streams[index].requests.push_back(fetch);
        }
    }

    fn carry_to_home(&mut self, index: usize) {
        if let Some(fetch) = self.streams[index].requests.pop_front()
            && let Some(fetched) = self.homes[index].take(fetch, &self.follower)
        {
            self.home_says(index, fetched);
        }
    }

    fn home_pushes(&mut self, index: usize) {
        let most = self.rng.random_range(1..5);
        if let Some(fetched) = self.homes[index].push(most) {
            self.home_says(index, fetched);
        }
    }

    fn carry_from_home(&mut self, index: usize) {
        if let Some(fetched) = self.streams[index].replies.pop_front()
            && self.is_route(index)
        {
            self.tell(Input::Fetch(fetched));
        }
    }

    fn carry_to_follower(&mut self, faults: bool) {
        let refuses = faults && self.chance(3);
        if let Some((epoch, say)) = self.to_follower.pop_front() {
            let followed =
                if refuses { self.follower.refuse() } else { self.follower.take(epoch, say, &self.eras) };
            self.from_follower.push_back(followed);
        }
    }

    fn carry_from_follower(&mut self) {
        if let Some(followed) = self.from_follower.pop_front() {
            self.said_durable.insert(followed.last);
            self.tell(Input::Follow(followed));
        }
    }

    // ---- homes ----

    /// The next epoch begins, at one of the homes or at the follower, on top of what that one holds.
    fn change_home(&mut self, to: Option<usize>) {
        self.epoch = self.epoch.plus(1);
        let copied = match self.home {
            Some(home) => self.homes[home].log.clone(),
            None => self.follower.log.clone(),
        };
        match to {
            Some(index) => {
                if self.chance(70) {
                    let kept = self.rng.random_range(copied.len() / 2..=copied.len());
                    self.homes[index].log = copied[..kept].to_vec();
                }
                if let Some(fetched) = self.homes[index].resign() {
                    self.home_says(index, fetched);
                }
                self.homes[index].become_home(self.epoch);
                let log = self.homes[index].log.clone();
                self.eras.insert(self.epoch, log);
                if self.chance(50) {
                    self.follower.fence = self.epoch;
                }
            }
            None => {
                self.follower.fence = self.epoch;
                self.eras.insert(self.epoch, self.follower.log.clone());
            }
        }
        self.home = to;
        self.routes.push_back(to.map(|home| (home, self.epoch)));
    }

    /// Any that thinks itself home writes.
    fn write(&mut self, index: usize) {
        if let Some(epoch) = self.homes[index].home_in {
            append(&mut self.homes[index].log, epoch, &mut self.eras);
        } else if self.home.is_none() {
            append(&mut self.follower.log, self.epoch, &mut self.eras);
        }
    }

    fn tell_route(&mut self) {
        let Some(route) = self.routes.pop_front() else { return };
        let up = route.is_some_and(|(home, _)| self.streams[home].up);
        let route = route.map(|(home, epoch)| Route { home: node(home), epoch });
        self.tell(Input::Route { route, up });
    }

    fn resign_former(&mut self, index: usize) {
        if self.home != Some(index)
            && let Some(fetched) = self.homes[index].resign()
        {
            self.home_says(index, fetched);
        }
    }

    // ---- the run ----

    fn step(&mut self) {
        let index = self.rng.random_range(0..HOMES);
        let mut draw = self.rng.random_range(0..self.odds.iter().sum());
        let event = self.odds.iter().position(|odds| {
            let hit = draw < *odds;
            draw = draw.saturating_sub(*odds);
            hit
        });
        match event.expect("one is drawn") {
            0 => self.write(index),
            1 => self.carry_report(index),
            2 => self.carry_to_home(index),
            3 => self.home_pushes(index),
            4 => self.carry_from_home(index),
            5 => self.carry_to_follower(true),
            6 => self.carry_from_follower(),
            7 => self.tell_route(),
            8 => self.connect(index),
            9 => {
                self.now += Duration::from_millis(50 * self.rng.random_range(1..5));
                self.tell(Input::Tick);
            }
            10 => self.break_follow(),
            11 => self.break_fetch(index),
            12 => self.resign_former(index),
            13 => {
                let to = self.chance(80).then_some(index);
                self.change_home(to);
            }
            14 => self.serve_late(),
            _ => self.restart_replicator(),
        }
    }

    fn settle(&mut self) {
        self.serve_late();
        self.change_home(Some(0));
        (0..HOMES).for_each(|index| self.resign_former(index));
        for _ in 0..SETTLING_ROUNDS {
            if self.has_settled() {
                return;
            }
            while !self.routes.is_empty() {
                self.tell_route();
            }
            (0..HOMES).for_each(|index| self.connect(index));
            for index in 0..HOMES {
                self.carry_report(index);
                self.carry_to_home(index);
                self.home_pushes(index);
                self.carry_from_home(index);
            }
            for _ in 0..4 {
                self.carry_to_follower(false);
                self.carry_from_follower();
            }
            self.now += bounds::TICK;
            self.tell(Input::Tick);
        }
    }
}

impl World {
    fn has_settled(&self) -> bool {
        let home = &self.homes[0];
        let end = last(&home.log).lsn.get();
        self.follower.log == home.log
            && home.matched == end
            && self.follower.watermark == (self.epoch, end)
            && self.follower.matched_in == self.epoch
            && self.pump.is_streaming()
            && self.pump.lag_records() == 0
            && self.pump.under_way_bytes() == 0
    }
}

#[test]
fn the_follower_ends_as_a_copy_of_the_home_whatever_breaks() {
    let only = std::env::var("HEARTH_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let mut truncations = 0;
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.settle();
            assert!(world.has_settled(), "{:?}, home {:?}", world.pump, world.homes[0]);
            world.truncations
        });
        truncations += outcome.unwrap_or_else(|_| panic!("seed {seed} fails: HEARTH_SEED={seed} repeats it"));
    }
    assert!(only.is_some() || truncations > 100, "the faults led to {truncations} truncations only");
}
