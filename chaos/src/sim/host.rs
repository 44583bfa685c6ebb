//! A simulated host: a clock of its own, and a runtime that is run a stretch at a time.

use super::world;
use std::{fmt, future::Future, net::IpAddr, pin::Pin, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::Instant,
};

/// Which host; they are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostId(pub(super) u8);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// A process that has yet to start.
pub(super) type Process = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A host's clock: where it stood when the world began, and how fast it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) boot_ms: u64,
    pub(super) rate: f64,
    /// How far the wall clock is off.
    pub(super) wall_skew_ms: i64,
}

impl Clock {
    /// What the boot clock shows at a time of the world, in µs.
    fn boot_us(&self, world_us: u64) -> u64 {
        self.boot_ms * 1_000 + (world_us as f64 * self.rate) as u64
    }
}

/// Ms since 1970 when every world begins.
const WORLD_BEGAN_MS: u64 = 1_790_000_000_000;

/// Whose code runs now, and by which clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) host: HostId,
    clock: Clock,
    /// When its process started, as the world and as the runtime counts.
    began_us: u64,
    began: Instant,
}

impl Here {
    fn local_us(&self) -> u64 {
        Instant::now().duration_since(self.began).as_micros() as u64
    }

    /// Now, as the world counts.
    pub(super) fn world_us(&self) -> u64 {
        self.began_us + (self.local_us() as f64 / self.clock.rate) as u64
    }

    pub(super) fn boot_ms(&self) -> u64 {
        (self.clock.boot_us(self.began_us) + self.local_us()) / 1_000
    }

    pub(super) fn wall_ms(&self) -> u64 {
        let since = self.clock.boot_us(self.began_us) + self.local_us() - self.clock.boot_us(0);
        (WORLD_BEGAN_MS + since / 1_000).saturating_add_signed(self.clock.wall_skew_ms)
    }
}

/// See the module.
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) address: IpAddr,
    pub(super) clock: Clock,
    pub(super) is_paused: bool,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    process: JoinHandle<()>,
    here: Here,
    /// How far its process has come, as its own runtime counts.
    at_ms: u64,
}

impl Host {
    pub(super) fn new(id: HostId, address: IpAddr, clock: Clock) -> Self {
        Self { id, address, clock, is_paused: false, running: None }
    }

    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether its process has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.process.is_finished())
    }

    /// Starts a process.
    pub(super) fn start(&mut self, now_us: u64, process: Process) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O takes nothing from the system");
        // Timers count whole ms from here on.
        let began = runtime.block_on(async { Instant::now() });
        let here = Here { host: self.id, clock: self.clock, began_us: now_us, began };
        let process = runtime.spawn(process);
        self.running = Some(Running { runtime, process, here, at_ms: 0 });
    }

    /// Ends the process at once. Its connections are closed as they are dropped.
    pub(super) fn kill(&mut self) {
        let Some(running) = self.running.take() else { return };
        world::enter(None, || drop(running));
        self.is_paused = false;
    }

    /// Lets the process go on up to a time of the world. One that was paused finds all that time gone.
    pub(super) fn run_until(&mut self, world_us: u64) {
        if self.is_paused {
            return;
        }
        let Some(running) = &mut self.running else { return };
        let passed_us = (world_us - running.here.began_us) as f64 * self.clock.rate;
        let until_ms = (passed_us / 1_000.0) as u64;
        if until_ms <= running.at_ms {
            return;
        }
        let gap_ms = until_ms - running.at_ms;
        let until = running.here.began + Duration::from_millis(until_ms);
        running.at_ms = until_ms;
        let (runtime, here) = (&running.runtime, running.here);
        world::enter(Some(here), || {
            runtime.block_on(async {
                if gap_ms > PAUSE_MS {
                    tokio::time::advance(Duration::from_millis(gap_ms - 1)).await;
                }
                tokio::time::sleep_until(until).await;
            });
        });
    }
}

/// A longer gap than any stretch: the host did not run meanwhile.
const PAUSE_MS: u64 = 50;
