//! Clients that write and read while a deployment is hurt, and note down all they see.
//!
//! In each region's place there are
//!
//! | who | through | does |
//! |---|---|---|
//! | writer | the SDK | writes to every chat, keeps an outbox, and reads live |
//! | quitter | the SDK | a writer whose device is lost when the first fault begins |
//! | plain writer | a bare connection | writes to every chat, each message once, without an outbox |
//! | reader | a bare connection | follows every chat; drops its connection again and again, and resumes at another node |
//! | returner | the SDK | follows every chat; ends again and again, and is restored from its snapshot |
//! | keeper, guests | bare connections | are in circles: groups whose members change, and whose messages are deleted |
//!
//! Every message has its own body. What a client hears is recorded when it hears it; a write is recorded
//! before it is sent.

mod chats;
mod circle;
mod heads;
mod marks;
mod plain;
mod reader;
mod returner;
mod sdk;
mod writer;

pub use chats::{ChatPlan, Chats};
pub(crate) use chats::{FOUNDER, ROLES, open_chat, open_circle};
pub(crate) use circle::{GUEST, KEEPER};
pub use heads::Heads;
pub use marks::Marks;

use crate::history::Recorder;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{DeviceId, MessageId, RegionId, UserId};

/// How much the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Writes of all SDK writers together, per second.
    pub writes_per_s: u32,
    /// Writes of all plain writers together, per second; 0: there are none.
    pub plain_writes_per_s: u32,
    /// Bare readers per region.
    pub readers: u32,
    /// Returners per region.
    pub returners: u32,
    /// Devices per region that write through the SDK and are lost, outbox and all, when the first fault begins.
    pub quitters: u32,
    /// Bytes of each body, at least what makes it its own.
    pub body_bytes: usize,
    /// Plain writers ask for `home` acks: what a failover undoes of theirs only salvage brings back.
    pub plain_home_acks: bool,
    /// There are circles: groups whose members change. Writers tell how far they have read.
    pub circles: bool,
}

impl Load {
    /// Nobody does anything.
    pub const NONE: Self = Self {
        writes_per_s: 0,
        plain_writes_per_s: 0,
        readers: 0,
        returners: 0,
        quitters: 0,
        body_bytes: 200,
        plain_home_acks: true,
        circles: false,
    };
}

impl Default for Load {
    fn default() -> Self {
        Self {
            writes_per_s: 90,
            plain_writes_per_s: 30,
            readers: 1,
            returners: 1,
            quitters: 1,
            body_bytes: 200,
            plain_home_acks: true,
            circles: false,
        }
    }
}

/// What all clients share.
#[derive(Clone)]
struct Shared {
    recorder: Recorder,
    chats: Arc<Chats>,
    heads: Arc<Heads>,
    marks: Arc<Marks>,
    load: Load,
    /// Writers write while this is set.
    writing: Arc<AtomicBool>,
    /// Messages that are in outboxes, or have not been answered.
    pending: Arc<AtomicUsize>,
    /// Quitters end when this is cancelled.
    losing: CancellationToken,
    stop: CancellationToken,
}

/// The clients of one run.
pub struct Workload {
    shared: Shared,
    clients: JoinSet<()>,
}

impl Workload {
    /// Starts all clients. `edges` are the ways from each region's place, the nearest node first.
    pub fn start(
        recorder: Recorder,
        chats: Arc<Chats>,
        edges: &BTreeMap<RegionId, Vec<String>>,
        load: Load,
        seed: u64,
    ) -> Self {
        let shared = Shared {
            recorder,
            chats,
            heads: Arc::default(),
            marks: Arc::default(),
            load,
            writing: Arc::new(AtomicBool::new(true)),
            pending: Arc::default(),
            losing: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let mut clients = JoinSet::new();
        let regions = edges.len().max(1) as u32;
        let mut seeds = StdRng::seed_from_u64(seed);
        for (region, edges) in edges {
            let mut place = |role: &'static str, number: u32| Place {
                region: region.clone(),
                edges: edges.clone(),
                user: user(role, region),
                device: DeviceId::new(u64::from(number) + 1),
                rng: StdRng::seed_from_u64(seeds.random()),
            };
            if load.writes_per_s > 0 {
                let every = Duration::from_secs(u64::from(regions)) / load.writes_per_s;
                let never = CancellationToken::new();
                clients.spawn(writer::run(shared.clone(), place("writer", 0), every, never));
                for number in 0..load.quitters {
                    let lost = shared.losing.clone();
                    clients.spawn(writer::run(shared.clone(), place("writer", 1 + number), every, lost));
                }
            }
            if load.plain_writes_per_s > 0 {
                let every = Duration::from_secs(u64::from(regions)) / load.plain_writes_per_s;
                clients.spawn(plain::run(shared.clone(), place("plain", 0), every));
            }
            for number in 0..load.readers {
                clients.spawn(reader::run(shared.clone(), place("reader", number)));
            }
            for number in 0..load.returners {
                clients.spawn(returner::run(shared.clone(), place("returner", number)));
            }
            if load.circles {
                clients.spawn(circle::keeper(shared.clone(), place(KEEPER, 0)));
                for (number, chat) in shared.chats.of(&user(GUEST, region)).enumerate() {
                    clients.spawn(circle::guest(shared.clone(), place(GUEST, number as u32), chat.id));
                }
            }
        }
        Self { shared, clients }
    }

    /// No more is written from now on; what is in outboxes is still sent.
    pub fn stop_writing(&self) {
        self.shared.writing.store(false, Ordering::Relaxed);
    }

    /// Devices are lost: they never come back, and nor does what was in their outboxes.
    pub fn lose_devices(&self) {
        self.shared.losing.cancel();
    }

    /// Messages whose end is not known yet.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// How far each reader has read.
    pub fn heads(&self) -> &Heads {
        &self.shared.heads
    }

    /// How far writers have told to have read.
    pub fn marks(&self) -> &Marks {
        &self.shared.marks
    }

    /// Ends all clients.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        while self.clients.join_next().await.is_some() {}
    }
}

/// Where a client is, and who.
struct Place {
    region: RegionId,
    edges: Vec<String>,
    user: UserId,
    device: DeviceId,
    rng: StdRng,
}

impl Place {
    fn message_id(&mut self) -> MessageId {
        MessageId::from(uuid::Builder::from_random_bytes(self.rng.random()).into_uuid())
    }

    /// Between half and one and a half of `every`.
    fn pause(&mut self, every: Duration) -> Duration {
        every.mul_f64(self.rng.random_range(0.5..1.5))
    }
}

/// A body that no other message has, `bytes` long or longer.
fn body(message_id: MessageId, bytes: usize) -> bytes::Bytes {
    let mut body = message_id.to_string().into_bytes();
    body.resize(body.len().max(bytes), b'.');
    body.into()
}

/// The user of a role in a region's place.
pub(crate) fn user(role: &str, region: &RegionId) -> UserId {
    UserId::new(&format!("{role}.{region}")).expect("a role and a region make a name")
}
