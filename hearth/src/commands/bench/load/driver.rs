//! The loop of one generator thread: it carries many connections, and decides nothing.
//!
//! ```text
//!   epoll ─▶ one read per ready connection ─▶ acks, arrivals ─▶ course, ledgers, tally
//!                                                    │
//!   timer (the next send that is due) ───────────────┴──▶ all sends that are due ─▶ one write
//! ```
//!
//! The clock is read once per ready connection. Whatever is due for a sender goes out in one write.

use super::{
    course::{Course, Due, Pace, Span},
    ledger::{Acks, Arrivals},
    message_ids::MessageIds,
    party::Party,
    tally::Tally,
};
use crate::commands::bench::wire::{Said, Scratch, SendFrame, Wire, peek};
use anyhow::{Context as _, bail};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use prost::Message as _;
use proto::client::{ClientFrame, Error, Ping, client_frame::Frame};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    time::{Duration, Instant, SystemTime},
};

/// Number and intended send time, at the front of each body.
pub(crate) const HEADER_BYTES: usize = 16;
/// Ready connections that one look takes.
const EVENTS_MAX: usize = 512;
/// Between two looks at what no event tells: pings that are due, the end.
const HOUSEKEEPING_MS: u16 = 20;
/// Servers end connections that are silent for 30 s.
const PING_INTERVAL_US: u64 = 5_000_000;
/// The event of the timer; the others are a party and a member.
const TIMER: u64 = u64::MAX;
const MEMBER_BITS: u32 = 16;

/// What every sender does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) span: Span,
    /// How many messages each sender sends, at most.
    pub(crate) messages_max: u64,
    /// A window waits until every reader has a message, not only for its ack.
    pub(crate) until_delivered: bool,
    /// How long what was acked may take to arrive, after the last send.
    pub(crate) drain: Duration,
    pub(crate) body_bytes: usize,
    /// `AckPolicy` as a number.
    pub(crate) ack: i32,
    /// What all times count from.
    pub(crate) epoch: Instant,
}

impl Plan {
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Which moment decides whether a latency counts. In an open loop it is the intended one: what was meant
    /// to be sent within the counted time counts however late it comes, or a stall at the end would be hidden.
    const fn belongs_to(&self, intended: u64, now: u64) -> u64 {
        match self.pace {
            Pace::Every(_) => intended,
            Pace::Window(_) => now,
        }
    }
}

struct Member {
    wire: Wire,
    /// The socket takes no more; the rest is written when it does.
    blocked: bool,
}

/// A party in a run. Message `n` of its sender is the `n / chats`th of its chat `n % chats`.
struct Running {
    logs: Vec<String>,
    /// The sender, then the readers.
    members: Vec<Member>,
    course: Course,
    acks: Vec<Acks>,
    /// Of each reader, of each chat.
    arrivals: Vec<Vec<Arrivals>>,
    reader_classes: usize,
}

struct Driver<'a> {
    plan: &'a Plan,
    poll: Epoll,
    timer: TimerFd,
    /// For when the timer is set.
    armed: Option<u64>,
    parties: Vec<Running>,
    /// When senders of an open loop send next.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    scratch: Scratch,
    tally: Tally,
    ids: MessageIds,
    random: SmallRng,
    /// The wall clock at the epoch, in ms.
    epoch_ms: u64,
}

/// Runs parties until all that was acked has arrived. `firsts`: when each sends first in an open loop.
pub(crate) fn drive(plan: &Plan, parties: Vec<Party>, firsts: &[u64]) -> anyhow::Result<Tally> {
    let wall =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    let mut driver = Driver {
        plan,
        poll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?,
        armed: None,
        parties: Vec::with_capacity(parties.len()),
        due: BinaryHeap::new(),
        scratch: Scratch::new(),
        tally: Tally::new(parties.iter().map(|party| party.reader_classes).max().unwrap_or(0)),
        ids: MessageIds::default(),
        random: SmallRng::from_rng(&mut rand::rng()),
        epoch_ms: (wall.as_millis() as u64).saturating_sub(plan.now() / 1_000),
    };
    driver.enter(parties, firsts)?;
    driver.run()?;
    Ok(driver.close())
}

impl Driver<'_> {
    fn enter(&mut self, parties: Vec<Party>, firsts: &[u64]) -> anyhow::Result<()> {
        let timer = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER);
        self.poll.add(&self.timer, timer)?;
        for (at, (party, first)) in parties.into_iter().zip(firsts).enumerate() {
            let wires = std::iter::once(party.sender).chain(party.readers);
            let members: Vec<_> = wires.map(|wire| Member { wire, blocked: false }).collect();
            for (member, of) in members.iter().enumerate() {
                self.poll.add(&of.wire, EpollEvent::new(EpollFlags::EPOLLIN, token(at, member)))?;
            }
            let plan = self.plan;
            let readers = if plan.until_delivered { members.len() - 1 } else { 0 };
            let books = |_| party.logs.iter().map(|_| Arrivals::default()).collect();
            self.parties.push(Running {
                arrivals: (1..members.len()).map(books).collect(),
                acks: party.logs.iter().map(|_| Acks::default()).collect(),
                course: Course::new(plan.pace, *first, plan.messages_max, readers),
                reader_classes: party.reader_classes,
                logs: party.logs,
                members,
            });
        }
        Ok(())
    }

    fn run(&mut self) -> anyhow::Result<()> {
        for at in 0..self.parties.len() {
            self.send_due(at)?;
        }
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let (mut next_look, mut next_ping) = (0, PING_INTERVAL_US);
        loop {
            let now = self.plan.now();
            if now >= next_look {
                if self.is_finished(now) {
                    return Ok(());
                }
                next_look = now + u64::from(HOUSEKEEPING_MS) * 1_000;
            }
            if now >= next_ping {
                self.ping_all()?;
                next_ping = now + PING_INTERVAL_US;
            }
            while let Some(at) = self.next_sender(now) {
                self.send_due(at)?;
            }
            let timeout = self.arm()?;
            let count = match self.poll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                count => count?,
            };
            for event in &events[..count] {
                if event.data() != TIMER {
                    self.serve(event.data(), event.events())?;
                }
            }
        }
    }

    /// Takes a sender of an open loop whose time has come.
    fn next_sender(&mut self, now: u64) -> Option<usize> {
        let first = self.due.peek_mut().filter(|first| first.0.0 <= now)?;
        let Reverse((_, at)) = PeekMut::pop(first);
        Some(at)
    }

    /// Sets the timer for the next send: how long to wait for events.
    fn arm(&mut self) -> anyhow::Result<EpollTimeout> {
        let Some(Reverse((due, _))) = self.due.peek() else { return Ok(HOUSEKEEPING_MS.into()) };
        let now = self.plan.now();
        if *due <= now {
            return Ok(EpollTimeout::ZERO);
        }
        if self.armed != Some(*due) {
            let wait = TimeSpec::from_duration(Duration::from_micros(due - now));
            self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
            self.armed = Some(*due);
        }
        Ok(HOUSEKEEPING_MS.into())
    }

    fn serve(&mut self, token: u64, ready: EpollFlags) -> anyhow::Result<()> {
        let (at, member) = ((token >> MEMBER_BITS) as usize, (token & ((1 << MEMBER_BITS) - 1)) as usize);
        if ready.contains(EpollFlags::EPOLLOUT) {
            self.flush(at, member)?;
        }
        if ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            match member {
                0 => self.hear_sender(at)?,
                reader => self.hear_reader(at, reader)?,
            }
        }
        Ok(())
    }

    fn hear_sender(&mut self, at: usize) -> anyhow::Result<()> {
        let now = self.plan.now();
        let Running { members, course, acks, .. } = &mut self.parties[at];
        let (tally, plan, span) = (&mut self.tally, self.plan, &self.plan.span);
        members[0].wire.receive(&mut self.scratch, |frame| {
            let (request_id, said) = peek(frame)?;
            // Request 0 wants no answer, so numbers are moved up by one.
            let number = request_id.checked_sub(1);
            match said {
                Said::Sent => {
                    let Some((number, intended)) = number.and_then(|n| Some((n, course.acked(n)?))) else {
                        return Ok(());
                    };
                    let chats = acks.len() as u64;
                    acks[(number % chats) as usize].ack(number / chats);
                    if span.counts(now) {
                        tally.accept(now - span.counts_from);
                    }
                    if span.counts(plan.belongs_to(intended, now)) {
                        tally.ack_us.saturating_record(now.saturating_sub(intended));
                    }
                }
                Said::Refused(error) if number.is_some_and(|number| course.refused(number)) => {
                    *tally.refused.entry(Error::decode(error)?.code).or_default() += 1;
                }
                Said::GoAway => bail!("the server goes away"),
                _ => {}
            }
            Ok(())
        })?;
        match self.plan.pace {
            Pace::Window(_) => self.send_due(at),
            Pace::Every(_) => Ok(()),
        }
    }

    fn hear_reader(&mut self, at: usize, reader: usize) -> anyhow::Result<()> {
        let now = self.plan.now();
        let Running { members, arrivals, course, reader_classes, .. } = &mut self.parties[at];
        let (tally, plan, span) = (&mut self.tally, self.plan, &self.plan.span);
        let class = (reader - 1) % *reader_classes;
        let arrivals = &mut arrivals[reader - 1];
        members[reader].wire.receive(&mut self.scratch, |frame| match peek(frame)?.1 {
            Said::Entries(entries) => entries.each_body(|body| {
                let (number, intended) = header(body).context("a foreign body")?;
                let chats = arrivals.len() as u64;
                arrivals[(number % chats) as usize].receive(number / chats);
                course.arrived(number);
                if span.counts(now) {
                    tally.deliver(now - span.counts_from);
                }
                if span.counts(plan.belongs_to(intended, now)) {
                    tally.deliver_us[class].saturating_record(now.saturating_sub(intended));
                }
                anyhow::Ok(())
            }),
            Said::Behind => bail!("a reader was told that it is behind"),
            Said::Diverged => bail!("a reader was told that its position diverged"),
            Said::GoAway => bail!("the server goes away"),
            _ => Ok(()),
        })?;
        match self.plan.pace {
            Pace::Window(_) if self.plan.until_delivered => self.send_due(at),
            _ => Ok(()),
        }
    }

    /// Sends whatever is due for a sender, and notes when it sends next in an open loop.
    fn send_due(&mut self, at: usize) -> anyhow::Result<()> {
        let (plan, random) = (self.plan, &mut self.random);
        let Running { logs, members, course, .. } = &mut self.parties[at];
        let now = plan.now();
        let mut fed = false;
        while let Some(Due { number, intended }) = course.due(now, &plan.span) {
            let send = SendFrame {
                request_id: number + 1,
                log: &logs[(number % logs.len() as u64) as usize],
                message_id: self.ids.draw(self.epoch_ms + now / 1_000, random),
                body_bytes: plan.body_bytes,
                ack: plan.ack,
            };
            let mask = random.random();
            members[0].wire.put_send(&send, mask, |out| {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&intended.to_be_bytes());
                let begin = out.len();
                out.resize(begin + plan.body_bytes - HEADER_BYTES, 0);
                random.fill_bytes(&mut out[begin..]);
            });
            fed = true;
        }
        if let Some(due) = course.next_due(now, &plan.span) {
            self.due.push(Reverse((due, at)));
        }
        if fed { self.flush(at, 0) } else { Ok(()) }
    }

    fn flush(&mut self, at: usize, member: usize) -> anyhow::Result<()> {
        let Member { wire, blocked } = &mut self.parties[at].members[member];
        let is_blocked = !wire.flush()?;
        if is_blocked != *blocked {
            *blocked = is_blocked;
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, is_blocked);
            self.poll.modify(&*wire, &mut EpollEvent::new(interest, token(at, member)))?;
        }
        Ok(())
    }

    fn ping_all(&mut self) -> anyhow::Result<()> {
        let ping = ClientFrame { request_id: 0, frame: Some(Frame::Ping(Ping { nonce: 0 })) };
        for at in 0..self.parties.len() {
            for member in 0..self.parties[at].members.len() {
                let mask = self.random.random();
                self.parties[at].members[member].wire.put(&ping, mask);
                self.flush(at, member)?;
            }
        }
        Ok(())
    }

    fn is_finished(&self, now: u64) -> bool {
        let span = &self.plan.span;
        let settled = |party: &Running| {
            party.course.has_sent_all(now, span) && party.course.unanswered() == 0 && party.missing() == 0
        };
        now >= span.sends_until + self.plan.drain.as_micros() as u64 || self.parties.iter().all(settled)
    }

    fn close(mut self) -> Tally {
        self.tally.took_us = self.plan.now();
        for party in &self.parties {
            self.tally.lost += party.missing();
            self.tally.unanswered += party.course.unanswered() as u64;
            for arrivals in party.arrivals.iter().flatten() {
                self.tally.doubled += arrivals.doubled();
                self.tally.reordered += arrivals.reordered();
            }
        }
        self.tally
    }
}

impl Running {
    fn missing(&self) -> u64 {
        let of_reader = |arrivals: &Vec<Arrivals>| -> u64 {
            arrivals.iter().zip(&self.acks).map(|(arrivals, acks)| arrivals.missing(acks)).sum()
        };
        self.arrivals.iter().map(of_reader).sum()
    }
}

fn token(party: usize, member: usize) -> u64 {
    (party as u64) << MEMBER_BITS | member as u64
}

/// The number of a message and when it was meant to be sent.
fn header(body: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = body.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*rest.first_chunk()?)))
}
