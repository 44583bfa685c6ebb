//! What is live and no entry: receipts, who is typing, and who is there.
//!
//! ```text
//!   sessions ──► outgoing ──one request per home──► board, at the home ──► bus ──► delivery ──► sessions
//!                                                     └── every 2 s ──► one record of the log
//!   sessions ──► pace ──► the chat's home ──► pace ──► bus ──► sessions              (typing: nothing is stored)
//!   sessions ◄─► desk ──beats──► roll, at the home of the user's presence ──► desk of who watches ──► sessions
//! ```
//!
//! [`outgoing`], [`board`], [`typing`], [`desk`] and [`roll`] decide; this module brings what they say to where it belongs. A node has one
//! of them all: as an edge it sends for its sessions, as a home it takes in for its logs.

mod board;
pub(crate) mod desk;
mod event;
mod outgoing;
pub(crate) mod presence;
mod privacy;
mod receipts;
mod roll;
mod summed;
mod typing;
pub(crate) mod wire;

pub(crate) use board::{Cursor, Reached};
pub(crate) use desk::Desk;
pub use event::{LiveEvent, Receipt, Said};
pub(crate) use outgoing::{OfLog, Refused};
pub(crate) use receipts::{Asked, Page};
pub use roll::Seen;
pub use summed::{ChatReceipts, ReceiptsSum};
pub(crate) use typing::TTL_MS as TYPING_TTL_MS;

/// In a chat with more members receipts are pushed to the user's own devices only.
pub(crate) const RECEIPTS_MEMBERS_MAX: usize = board::TOLD_MEMBERS_MAX;

use crate::{
    bus::BusSink,
    clock::Now,
    home::core::rules,
    peer::{Channel, client::answer},
    router::{Route, Router},
    service::{NotHome, ReadRefusal},
};
use board::{Board, NotTaken};
use host::HashMap;
use outgoing::{Outgoing, Output, Way};
use parking_lot::Mutex;
use presence::Rolls;
use roll::Roll;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::{Code, DeviceId, Epoch, Generation, LogId, PartitionId, Refusal, UserId};
use typing::Pace;

/// How often cursors are sent, told and written, where any are.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked whether homes have changed, in ticks.
const LOOK_TICKS: u32 = 10;
/// How often changes of who is there are told, in ticks.
const BEAT_TICKS: u32 = 4;
/// How long a home is waited for.
const HOME_PATIENCE: Duration = Duration::from_secs(2);
/// Of those who are typing, how many are told of at a time.
const TELLING_MAX: usize = 256;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    outgoing: Mutex<Outgoing>,
    home: Mutex<AtHome>,
    /// By the sessions of this node, and in the logs that are homed here.
    said: Mutex<Pace>,
    heard: Mutex<Pace>,
    telling: Semaphore,
    shown: privacy::Shown,
    desk: Arc<Mutex<Desk>>,
    rolls: Mutex<Rolls>,
    /// Where this node's own sessions are told.
    sink: BusSink,
    /// There is something to do.
    wake: Notify,
}

/// What this node has taken in as a home, and in which epochs.
#[derive(Debug, Default)]
struct AtHome {
    board: Board,
    epochs: HashMap<PartitionId, Epoch>,
}

impl AtHome {
    /// What is taken in from now on is of this epoch.
    fn enter(&mut self, partition: PartitionId, epoch: Epoch) {
        if self.epochs.insert(partition, epoch).is_some_and(|before| before != epoch) {
            self.board.forget(partition);
        }
    }
}

impl Live {
    /// Over a router, and what delivery knows too: who watches whom, and where its events go.
    pub(crate) fn new(router: Router, desk: Arc<Mutex<Desk>>, sink: BusSink) -> Self {
        let ttl_ms = router.parts().config.presence_ttl_ms;
        let rolls = Rolls { roll: Roll::new(ttl_ms), sinks: BTreeMap::new() };
        Self(Arc::new(Inner {
            router,
            outgoing: Mutex::default(),
            home: Mutex::default(),
            said: Mutex::default(),
            heard: Mutex::default(),
            telling: Semaphore::new(TELLING_MAX),
            shown: privacy::Shown::default(),
            desk,
            rolls: Mutex::new(rolls),
            sink,
            wake: Notify::new(),
        }))
    }

    /// Sends, tells and writes what there is until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            if self.is_idle() {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.0.wake.notified() => tick.reset_immediately(),
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(LOOK_TICKS) {
                self.look();
                self.tick_rolls();
            }
            if ticks.is_multiple_of(BEAT_TICKS) {
                self.send_beats();
            }
            self.send();
            self.tell_and_write();
        }
    }

    fn is_idle(&self) -> bool {
        let inner = &*self.0;
        inner.outgoing.lock().is_empty()
            && inner.home.lock().board.is_empty()
            && inner.said.lock().is_empty()
            && inner.heard.lock().is_empty()
            && inner.desk.lock().is_empty()
            && inner.rolls.lock().roll.is_empty()
    }

    /// A device has received and read more of a log.
    pub(crate) fn mark(&self, log: LogId, user: UserId, device: DeviceId, reached: Reached) {
        let now_ms = Now::read().boot_ms;
        if let Some(hides_read) = self.0.shown.hides_reads(now_ms, &user) {
            return self.say(
                now_ms,
                log,
                Cursor { user, device, reached: Reached { hides_read, ..reached } },
            );
        }
        let live = self.clone();
        tokio::spawn(async move {
            let hides_read = live.0.shown.look(&live.0.router, now_ms, &user).await;
            live.say(now_ms, log, Cursor { user, device, reached: Reached { hides_read, ..reached } });
        });
    }

    fn say(&self, now_ms: u64, log: LogId, cursor: Cursor) {
        if !self.0.outgoing.lock().say(now_ms, log, cursor) {
            metrics::counter!("hearth_edge_cursors_dropped_total").increment(1);
        }
        self.0.wake.notify_one();
    }

    /// Where cursors of a log go.
    fn way(&self, log: LogId) -> Way {
        let Some(pin) = self.0.router.known_pin(log) else { return Way::Unknown };
        match self.0.router.bus_route(pin.partition) {
            Some(route) => Way::To(pin, route),
            None => Way::Closed,
        }
    }

    fn send(&self) {
        let mut outputs = Vec::new();
        self.0.outgoing.lock().send(Now::read().boot_ms, |log| self.way(log), &mut outputs);
        self.act(outputs);
    }

    fn act(&self, outputs: Vec<Output>) {
        for output in outputs {
            let live = self.clone();
            match output {
                Output::Ask { number, route, logs } => {
                    tokio::spawn(async move {
                        let refused = live.ask(&route, &logs).await;
                        live.answered(number, &logs, &refused);
                    });
                }
                Output::Resolve(log, closed) => {
                    tokio::spawn(async move {
                        if let Err(why) = live.0.router.pin_above(log, closed).await {
                            tracing::debug!(%log, %why, "the pin of a log with cursors cannot be read");
                        }
                    });
                }
            }
        }
    }

    /// Brings cursors to a home; what of them is not taken.
    async fn ask(&self, route: &Route, logs: &[OfLog]) -> Vec<(LogId, Refused)> {
        if route.channel == Channel::HERE {
            return self.take(logs).await;
        }
        let all = || logs.iter().map(|of| (of.log, Refused::Later)).collect();
        let asked = self.0.router.peers().ask(&route.node, Some(route.channel), wire::take_request(logs));
        let Ok(receiver) = asked else { return all() };
        match answer(receiver, HOME_PATIENCE).await.map(wire::taken) {
            Ok(Some(not_taken)) => not_taken,
            Ok(None) | Err(_) => all(),
        }
    }

    fn answered(&self, number: u64, logs: &[OfLog], refused: &[(LogId, Refused)]) {
        let refused: HashMap<LogId, Refused> = refused.iter().copied().collect();
        let mut outputs = Vec::new();
        {
            let (now_ms, mut outgoing) = (Now::read().boot_ms, self.0.outgoing.lock());
            for OfLog { log, .. } in logs {
                let answer = refused.get(log).map_or(Ok(()), |refused| Err(*refused));
                outgoing.answered(now_ms, (number, *log), answer, &mut outputs);
            }
        }
        self.act(outputs);
    }

    fn look(&self) {
        let now_ms = Now::read().boot_ms;
        self.0.outgoing.lock().look(now_ms, |log| self.way(log));
        self.0.said.lock().forget(now_ms);
        self.0.heard.lock().forget(now_ms);
        let homes = &self.0.router.parts().homes;
        let mut home = self.0.home.lock();
        for partition in home.board.partitions() {
            if homes.epoch(partition) != home.epochs.get(&partition).copied() {
                home.board.forget(partition);
                home.epochs.remove(&partition);
            }
        }
    }

    /// Takes cursors in as the home of their logs; what of them is not taken.
    pub(crate) async fn take(&self, logs: &[OfLog]) -> Vec<(LogId, Refused)> {
        let mut not_taken = Vec::new();
        for of in logs {
            if let Err(refused) = self.take_of_log(of).await {
                not_taken.push((of.log, refused));
            }
        }
        self.0.wake.notify_one();
        not_taken
    }

    async fn take_of_log(&self, of: &OfLog) -> Result<(), Refused> {
        let homes = &self.0.router.parts().homes;
        let epoch = homes.epoch(of.partition).ok_or(Refused::Later)?;
        let state = homes.log_state(of.partition, of.log).await.ok().flatten().ok_or(Refused::Later)?;
        let closed = state.standing().closed();
        if of.generation <= closed {
            return Err(Refused::Moved(closed));
        }
        let now = Now::read();
        let mut home = self.0.home.lock();
        home.enter(of.partition, epoch);
        let key = ((of.partition, of.log), epoch);
        let mut outcome = Ok(());
        for cursor in &of.cursors {
            let taken = home.board.take((now.boot_ms, now.wall_ms), key, &state, cursor);
            if taken == Err(NotTaken::Later) {
                outcome = Err(Refused::Later);
            }
        }
        outcome
    }

    fn tell_and_write(&self) {
        let (now_ms, homes) = (Now::read().boot_ms, &self.0.router.parts().homes);
        let (told, due) = {
            let mut home = self.0.home.lock();
            (home.board.told(now_ms), home.board.due(now_ms))
        };
        for (partition, event) in told {
            homes.tell(partition, Arc::new(event));
        }
        if due.is_empty() {
            return;
        }
        let live = self.clone();
        tokio::spawn(async move {
            for (partition, log) in due {
                let homes = &live.0.router.parts().homes;
                let state = homes.log_state(partition, log).await.ok().flatten();
                let cursors =
                    live.0.home.lock().board.settle(Now::read().boot_ms, (partition, log), state.as_deref());
                if !cursors.is_empty() {
                    homes.write_cursors(partition, log, cursors);
                }
            }
        });
    }

    /// How far the members of a chat have come.
    pub(crate) async fn receipts(&self, asked: &Asked) -> Result<Page, ReadRefusal> {
        let router = &self.0.router;
        let mut pin = router.pin_of(asked.log).await?;
        loop {
            let page = match router.is_home_here(pin.partition) {
                true => self.page(pin.partition, asked).await,
                false => wire::page(
                    router.ask_home(pin.partition, wire::read_request(pin.partition, asked)).await?,
                ),
            };
            let closed = page.as_ref().map_or(Generation::ZERO, |page| page.closed);
            if closed < pin.generation {
                return page;
            }
            let later = router.pin_above(asked.log, closed).await?;
            if later.generation <= pin.generation {
                return page;
            }
            pin = later;
        }
    }

    /// The same, where the chat's home is here.
    pub(crate) async fn page(&self, partition: PartitionId, asked: &Asked) -> Result<Page, ReadRefusal> {
        let homes = &self.0.router.parts().homes;
        if homes.epoch(partition).is_none() {
            return Err(self.away(partition).into());
        }
        let state = homes.log_state(partition, asked.log).await?;
        let state = state.ok_or_else(|| rules::unknown_chat(asked.log))?;
        receipts::page(&self.0.home.lock().board, partition, &state, asked)
    }

    fn away(&self, partition: PartitionId) -> NotHome {
        NotHome { moving: true, ..self.0.router.no_home(partition) }
    }

    /// A user is typing, on a device of this node; told at most every two seconds.
    pub(crate) fn typing(&self, log: LogId, user: &UserId, device: DeviceId) {
        if !self.0.said.lock().take(Now::read().boot_ms, log, user, device) {
            return;
        }
        self.0.wake.notify_one();
        let Way::To(pin, route) = self.way(log) else { return };
        if route.channel == Channel::HERE {
            self.hear_typing(pin.partition, log, user.clone(), device);
        } else {
            let request = wire::typing_request(pin.partition, log, user, device);
            self.0.router.peers().tell(&route.node, route.channel, request);
        }
    }

    /// A user is typing in a chat whose home is here; the others are told, if the user is a member.
    pub(crate) fn hear_typing(&self, partition: PartitionId, log: LogId, user: UserId, device: DeviceId) {
        if !self.0.heard.lock().take(Now::read().boot_ms, log, &user, device) {
            return;
        }
        self.0.wake.notify_one();
        let live = self.clone();
        tokio::spawn(async move {
            let Ok(_permit) = live.0.telling.try_acquire() else { return };
            let homes = &live.0.router.parts().homes;
            let Ok(Some(state)) = homes.log_state(partition, log).await else { return };
            if state.members.contains_key(&user) && rules::chat::reaches(log, &state, &user).is_ok() {
                let said = Said::Typing { user, device };
                homes.tell(partition, Arc::new(LiveEvent { log, said }));
            }
        });
    }
}

/// The refusal of what concerns a chat that the session does not follow.
pub(crate) fn not_followed(log: LogId) -> Refusal {
    Refusal::new(Code::BadRequest, format!("the session does not follow {log}: subscribe first"))
}
