//! Clients without a session, who ask for what is next or have it sent: over the router and the feeds.
//!
//! ```text
//!   catch up ── chats (the account), heads (copies), pages ──▶ events? ── yes ──▶ told
//!      ▲                                                         │ no
//!      └── a chat was joined or left, or does not follow ── wait: its place in every chat is followed, as a session's is
//! ```
//!
//! Whoever waits has a seat and came in by the door as sessions do, and one device has only a few at a time. What comes on
//! the feeds ends the wait, and so does the word that the user's chats have changed: the home of the account says it, and
//! where that may have got lost, because the feed of the account has begun anew or had to leave something out, delivery does.
//! The account is read again behind the point from which on its feed is followed. So nothing is asked for in turns
//! but what could not be told or followed, less and less often up to [`AGAIN_MAX`].

use super::{
    Edge, Seat,
    frame::Encoding,
    queue::{Errands, SessionQueue},
    rest::Present,
};
use crate::{
    accounts::LiveSession,
    delivery::Join,
    service::{Detail, LocateAnswer, ReadFrom, ReadRefusal},
    sync::{Catching, Caught, Chats, Event, Found, Head, Heard, Reading, Room, Stand},
};
use axum::extract::ws::Message;
use futures_util::{StreamExt as _, stream};
use log_store::locate::Located;
use parking_lot::Mutex;
use prost::Message as _;
use proto::client::{ServerFrame, server_frame::Frame};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use types::{Code, DeviceId, LogId, PinSegment, Position, Refusal, UserId};

/// How often the chats of one who waits for long are looked at, whatever is heard of them.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How long one answer is looked for; what takes longer is told later.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Places that are checked at a time.
const CHECKS_MAX: usize = 32;
/// How long is waited before a chat is tried again that could not be told or followed, or that copies and homes do not
/// agree about: at first, and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// Requests of one device that may wait at a time.
const TURNS_MAX: u32 = 4;

/// The requests and streams that may wait, by device. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<(UserId, DeviceId), u32>>>);

/// How many of them wait for what comes: all that there was they were told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// One more, until it is dropped.
    fn begin(&self) -> Waits {
        show_waiting(self.0.fetch_add(1, Ordering::Relaxed) + 1);
        Waits(self.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Waits(Waiting);

impl Drop for Waits {
    fn drop(&mut self) {
        let Self(Waiting(count)) = self;
        show_waiting(count.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

fn show_waiting(count: usize) {
    metrics::gauge!("hearth_edge_waiting").set(count as f64);
}

impl Turns {
    fn take(&self, user: &UserId, device: DeviceId) -> Result<Turn, Refusal> {
        let of = (user.clone(), device);
        let mut turns = self.0.lock();
        let waiting = turns.entry(of.clone()).or_default();
        if *waiting >= TURNS_MAX {
            let why = format!("{TURNS_MAX} requests of this device wait for events, the most there may be");
            return Err(Refusal::new(Code::Overloaded, why));
        }
        *waiting += 1;
        Ok(Turn { turns: self.clone(), of })
    }
}

/// A request that waits, until it is dropped.
#[derive(Debug)]
struct Turn {
    turns: Turns,
    of: (UserId, DeviceId),
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock();
        if let Some(waiting) = turns.get_mut(&self.of) {
            *waiting -= 1;
            if *waiting == 0 {
                turns.remove(&self.of);
            }
        }
    }
}

/// Why somebody is caught up with who was before.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Chats that do not follow where the client stands.
    logs: BTreeSet<LogId>,
    /// What is known of far ones, whatever copies say.
    heads: BTreeMap<LogId, Position>,
}

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Told {
    /// The client is told this, and perhaps there is more to catch up with.
    Events(Vec<Event>),
    /// It may not go on.
    Ousted(Refusal),
    /// It is to go elsewhere, in so much time.
    Elsewhere(Duration),
}

impl Edge {
    /// Tells a client what it lacks, at most so many entries.
    ///
    /// # Errors
    /// `unknown_account`, or nobody knows the account now.
    pub(super) async fn catch_up(
        &self,
        user: &UserId,
        stand: &mut Stand,
        again: &Again,
        limit: usize,
    ) -> Result<(Caught, Chats), Refusal> {
        let account = LogId::account(user);
        let chats = self.chats_of(user, account, stand, again).await?;
        let mut catching = Catching::begin(stand, account, &chats, &again.logs, Room::of(limit));
        let give_up = Instant::now() + CATCH_UP;
        while let Some(reading) = catching.next() {
            match timeout_at(give_up, self.look(user, reading)).await {
                Ok(found) => catching.take(reading.log, found),
                Err(_) => catching.stop(),
            }
        }
        Ok((catching.end(), chats))
    }

    async fn chats_of(
        &self,
        user: &UserId,
        account: LogId,
        stand: &Stand,
        again: &Again,
    ) -> Result<Chats, Refusal> {
        let joined = self.0.accounts.own_nearby(user).await?.joined;
        let near = stand.places().map(|(log, _)| log).filter(|log| *log != account);
        let asked: BTreeSet<LogId> = joined.iter().copied().chain(near).collect();
        let asked: Vec<LogId> = asked.into_iter().collect();
        let (mut heads, mut receipts) = (BTreeMap::new(), BTreeMap::new());
        let detail = Detail::Receipts(&stand.receipts());
        for glance in self.0.router.glances(user, &asked, detail).await {
            heads.insert(glance.log, Head { position: glance.head, at_ms: glance.head_at_ms });
            receipts.extend(glance.receipts.map(|seen| (glance.log, seen)));
        }
        if let Ok(answer) = self.0.router.locate(account, user, Position::START).await {
            heads.insert(account, Head { position: answer.head, at_ms: u64::MAX });
        }
        for (log, position) in &again.heads {
            let Some(head) = heads.get_mut(log).filter(|_| !stand.is_near(*log)) else { continue };
            let has_come = head.position.era() == position.era() && head.position.offset >= position.offset;
            if !has_come {
                head.position = *position;
            }
        }
        Ok(Chats { joined, heads, receipts })
    }

    async fn look(&self, user: &UserId, reading: Reading) -> Result<Found, ReadRefusal> {
        let Reading { log, after, limit } = reading;
        let LocateAnswer { located, head, replicated, .. } = self.0.router.locate(log, user, after).await?;
        match located {
            Located::Continue => {}
            Located::Diverged { common } => return Err(ReadRefusal::Diverged { common }),
            Located::Ahead => return Err(ReadRefusal::Ahead),
        }
        let page = self.0.router.read(log, user, ReadFrom::After(after), limit, head).await?;
        Ok(Found { page, replicated })
    }
}

/// A client that waits: to the feeds it is a session.
#[derive(Debug)]
pub(super) struct Waiter {
    edge: Edge,
    seat: Seat,
    user: UserId,
    device: DeviceId,
    queue: Arc<SessionQueue>,
    /// The chats that are followed, and where the client stands in them.
    followed: BTreeMap<LogId, Position>,
    /// Those among them whose feed is to begin anew.
    stale: BTreeSet<LogId>,
    /// The user is there for as long as this waits.
    is_seen: bool,
    again: Again,
    /// The user has joined or left a chat, or may have.
    is_rung: bool,
    /// When it is looked again, and how long is waited where something is amiss.
    look_at: Instant,
    pause: Duration,
    /// The client is to go elsewhere, in so much time.
    elsewhere: Option<Duration>,
    _live: Option<LiveSession>,
    _turn: Turn,
}

impl Waiter {
    /// Takes a seat. `is_seen`: the user is there, as others see it.
    ///
    /// # Errors
    /// `overloaded`, `not_ready`.
    pub(super) async fn admit(edge: &Edge, present: &Present, is_seen: bool) -> Result<Self, Refusal> {
        let Present { caller, until_ms } = present;
        let (user, device) = (caller.user.clone(), caller.device);
        let turn = edge.0.turns.take(&user, device)?;
        let seat = edge.admit().await?;
        let bytes = edge.0.parts.config.session_queue_bytes;
        let queue = Arc::new(SessionQueue::new(Encoding::Proto, bytes));
        edge.0.delivery.enter(seat.id, Arc::clone(&queue));
        if edge.0.parts.shutdown.is_cancelled() {
            queue.leave();
        }
        let standings = edge.0.accounts.standings();
        let live =
            until_ms.map(|until_ms| standings.enter(user.clone(), device, until_ms, Arc::clone(&queue)));
        if is_seen {
            edge.0.live.enter(&user, device);
        }
        Ok(Self {
            edge: edge.clone(),
            seat,
            user,
            device,
            queue,
            followed: BTreeMap::new(),
            stale: BTreeSet::new(),
            is_seen,
            again: Again::default(),
            is_rung: false,
            look_at: Instant::now() + LOOK_AGAIN,
            pause: AGAIN_FIRST,
            elsewhere: None,
            _live: live,
            _turn: turn,
        })
    }

    /// What is to be caught up with, and is forgotten here.
    pub(super) fn again(&mut self) -> Again {
        self.is_rung = false;
        Again { logs: std::mem::take(&mut self.again.logs), heads: self.again.heads.clone() }
    }

    /// Whether something is to be caught up with before anything is waited for.
    pub(super) fn is_behind(&self) -> bool {
        self.is_rung || !self.again.logs.is_empty()
    }

    /// Follows each chat from where the client stands in it; those that are far from their heads. What cannot be asked
    /// now is looked at again soon; so is what was `unavailable` before.
    pub(super) async fn follow(
        &mut self,
        stand: &mut Stand,
        chats: &Chats,
        unavailable: usize,
    ) -> Vec<Event> {
        let knew_account = self.followed.contains_key(&LogId::account(&self.user));
        let (events, unfollowed) = self.follow_each(stand, chats).await;
        // What was said before the account was followed was not heard.
        self.is_rung |= !knew_account && self.followed.contains_key(&LogId::account(&self.user));
        let is_amiss = unavailable + unfollowed > 0 || !self.again.logs.is_empty();
        if !is_amiss {
            (self.pause, self.look_at) = (AGAIN_FIRST, Instant::now() + LOOK_AGAIN);
            return events;
        }
        self.look_at = Instant::now() + self.pause;
        if events.is_empty() && self.is_behind() {
            sleep_until(self.look_at).await;
        }
        self.pause = (self.pause * 2).min(AGAIN_MAX);
        events
    }

    /// What is to be told, and how many chats could not be followed.
    async fn follow_each(&mut self, stand: &mut Stand, chats: &Chats) -> (Vec<Event>, usize) {
        let mut places: BTreeMap<LogId, Position> = stand.places().collect();
        for log in &chats.joined {
            if let (Some(head), false) = (chats.heads.get(log), stand.is_near(*log)) {
                places.insert(*log, head.position);
            }
        }
        let gone: Vec<LogId> =
            self.followed.keys().filter(|log| !places.contains_key(log)).copied().collect();
        for log in gone {
            self.followed.remove(&log);
            self.again.heads.remove(&log);
            self.edge.0.delivery.leave(self.seat.id, log);
        }
        self.again.heads.retain(|log, _| !stand.is_near(*log));
        places.retain(|log, position| self.stale.contains(log) || self.followed.get(log) != Some(position));
        let (edge, user) = (&self.edge, &self.user);
        let check = |(log, position): (LogId, Position)| async move {
            let answer = async {
                let answer = edge.0.router.locate(log, user, position).await?;
                Ok::<_, ReadRefusal>((edge.0.router.pin_of(log).await?, answer))
            };
            (log, position, answer.await)
        };
        let checks: Vec<_> = places.into_iter().map(check).collect();
        let checked: Vec<_> = stream::iter(checks).buffer_unordered(CHECKS_MAX).collect().await;
        let (mut events, mut unfollowed) = (Vec::new(), 0);
        for (log, position, answer) in checked {
            match answer {
                Ok((pin, answer)) => events.extend(self.join(stand, (log, position), pin, &answer)),
                Err(why) => {
                    unfollowed += 1;
                    tracing::debug!(%log, %why, "a chat cannot be followed now");
                }
            }
        }
        (events, unfollowed)
    }

    fn join(
        &mut self,
        stand: &mut Stand,
        (log, position): (LogId, Position),
        pin: PinSegment,
        answer: &LocateAnswer,
    ) -> Option<Event> {
        match answer.located {
            // What ends there is over: the account says so in a moment.
            Located::Continue if answer.until.is_some_and(|until| position.offset >= until) => None,
            Located::Continue => {
                self.followed.insert(log, position);
                self.stale.remove(&log);
                let checked = (answer.generation, answer.epoch);
                let at_end = position.offset >= answer.head.offset;
                let user = self.user.clone();
                self.edge.0.delivery.join(self.seat.id, Join { log, pin, user, position, checked, at_end });
                stand.reach(log, answer.replicated)
            }
            Located::Diverged { .. } => {
                self.again.logs.insert(log);
                self.again.heads.insert(log, answer.head);
                None
            }
            Located::Ahead => None,
        }
    }

    /// Waits until there is something to tell, or to catch up with. Cancel-safe.
    pub(super) async fn told(&mut self, stand: &mut Stand) -> Told {
        let _waits = self.edge.0.waiting.begin();
        loop {
            if let Some(after) = self.elsewhere.take() {
                return Told::Elsewhere(after);
            }
            let Ok((errands, messages)) = timeout_at(self.look_at, next(&self.queue)).await else {
                self.is_rung = true;
                return Told::Events(Vec::new());
            };
            if let Some(refusal) = errands.ousted {
                return Told::Ousted(*refusal);
            }
            self.is_rung |= errands.is_rung;
            self.elsewhere = match errands.farewell {
                _ if errands.is_leaving => Some(Duration::ZERO),
                Some(farewell) => Some(farewell.after),
                None => None,
            };
            let events = self.hear(stand, messages);
            if !events.is_empty() || self.is_behind() {
                return Told::Events(events);
            }
        }
    }

    fn hear(&mut self, stand: &mut Stand, messages: VecDeque<Message>) -> Vec<Event> {
        let mut events = Vec::new();
        for frame in messages.into_iter().filter_map(frame) {
            match stand.hear(frame) {
                Heard::Tell(event) => events.push(event),
                Heard::CatchUp(log, head) => {
                    self.again.logs.insert(log);
                    self.again.heads.extend(head.map(|head| (log, head)));
                    self.stale.insert(log);
                }
                Heard::Nothing => {}
            }
        }
        for (log, position) in stand.places() {
            if let Some(followed) = self.followed.get_mut(&log) {
                *followed = position;
            }
        }
        events
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let followed = std::mem::take(&mut self.followed);
        self.edge.0.delivery.exit(self.seat.id, followed.into_keys());
        if self.is_seen {
            self.edge.0.live.exit(self.seat.id, &self.user, self.device);
        }
    }
}

/// What has come next. Cancel-safe: nothing is taken before it is given.
async fn next(queue: &SessionQueue) -> (Errands, VecDeque<Message>) {
    poll_fn(|cx| {
        queue.register(cx.waker());
        loop {
            let errands = queue.errands();
            let mut messages = VecDeque::new();
            queue.take(&mut messages);
            let has_errand = errands.is_leaving
                || errands.is_rung
                || errands.ousted.is_some()
                || errands.farewell.is_some();
            if has_errand || !messages.is_empty() {
                return Poll::Ready((errands, messages));
            }
            if queue.rest(true) {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn frame(message: Message) -> Option<Frame> {
    match message {
        Message::Binary(bytes) => ServerFrame::decode(bytes).ok()?.frame,
        _ => None,
    }
}
