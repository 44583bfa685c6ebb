//! One sender, one receiver, one chat.

use super::ledger::Ledger;
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use client::bare::Connection;
use hdrhistogram::Histogram;
use proto::{
    ack_policy_to_client,
    client::{
        Error, OpenChat, Ping, Send, ServerFrame, Subscribe, Unsubscribe, client_frame::Frame, entry,
        open_chat, resumed, server_frame::Frame as Answer,
    },
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use types::{AckPolicy, DeviceId, UserId};
use uuid::Uuid;

/// Sequence number and intended send time, at the front of each body.
pub(super) const HEADER_BYTES: usize = 16;
/// Every user of a run has one device.
const DEVICE: DeviceId = DeviceId::new(1);
/// The longest latency that is told apart.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What every pair does.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) sender_edge: String,
    pub(super) receiver_edge: String,
    /// Where the chats are opened, and so homed.
    pub(super) home_edge: String,
    pub(super) window: usize,
    /// Between two sends of one pair; `None`: closed loop.
    pub(super) interval: Option<Duration>,
    pub(super) ack: AckPolicy,
    pub(super) body_bytes: usize,
    /// What send times count from.
    pub(super) epoch: Instant,
}

impl Load {
    fn now_us(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }
}

/// What a pair saw.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Acks inside the counted time.
    pub(super) accepted: u64,
    /// Arrivals inside the counted time.
    pub(super) delivered: u64,
    /// Intended send to ack, in µs.
    pub(super) ack_us: Histogram<u64>,
    /// Intended send to arrival, in µs.
    pub(super) deliver_us: Histogram<u64>,
    /// Refusals by code.
    pub(super) refused: HashMap<String, u64>,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
}

/// A pair that is connected and has its chat open.
pub(super) struct Pair {
    load: Arc<Load>,
    log: String,
    sender: Connection,
    receiver: Connection,
    random: SmallRng,
    /// How far into an interval this pair sends, so that all pairs together send evenly.
    phase: Duration,
}

impl Pair {
    /// Connects both, opens the chat in the home region, and follows it at the receiver.
    pub(super) async fn connect(
        load: Arc<Load>,
        run: &str,
        number: usize,
        of: usize,
    ) -> anyhow::Result<Self> {
        let user = |role: &str| UserId::new(&format!("bench-{run}-{role}{number}"));
        let (from, to) = (user("s")?, user("r")?);
        let log = open_chat(&load.home_edge, &from, &to).await.context("opening the chat")?;
        let sender = Connection::open(&load.sender_edge, &from, DEVICE, vec![]).await?;
        let mut receiver = Connection::open(&load.receiver_edge, &to, DEVICE, vec![]).await?;
        follow(&mut receiver, &log).await.context("following the chat")?;
        let random = SmallRng::seed_from_u64(number as u64);
        let phase = load.interval.unwrap_or_default().mul_f64(number as f64 / of as f64);
        Ok(Self { load, log, sender, receiver, random, phase })
    }

    /// Sends through the warm-up and the counted time, then waits until all that was acked has arrived.
    pub(super) async fn run(
        mut self,
        warmup: Duration,
        counted: Duration,
        drain: Duration,
    ) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let first_due_us = self.load.now_us() + self.phase.as_micros() as u64;
        let mut course = Course::new(started + warmup, started + warmup + counted, first_due_us);
        let mut pings = interval(Duration::from_secs(5));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !course.finished(drain) {
            self.send_due(&mut course).await?;
            let wake = course.next_wake(&self.load, drain);
            tokio::select! {
                answer = self.sender.next() => course.answer(answer?, &self.load)?,
                frame = self.receiver.next() => course.arrive(frame?.frame, &self.load)?,
                () = sleep_until(wake) => {}
                _ = pings.tick() => {
                    for connection in [&mut self.sender, &mut self.receiver] {
                        connection.feed(0, Frame::Ping(Ping { nonce: 0 })).await?;
                        connection.flush().await?;
                    }
                }
            }
        }
        Ok(course.outcome())
    }

    async fn send_due(&mut self, course: &mut Course) -> anyhow::Result<()> {
        let mut fed = false;
        while let Some((number, intended_us)) = course.due(&self.load) {
            let frame = Frame::Send(Send {
                log: self.log.clone(),
                message_id: Uuid::from_bytes(self.random.random()).to_string(),
                ciphertext: self.body(number, intended_us),
                ack: ack_policy_to_client(self.load.ack).into(),
                ..Send::default()
            });
            // Request 0 wants no answer, so numbers are moved up by one.
            self.sender.feed(number + 1, frame).await?;
            fed = true;
        }
        if fed {
            self.sender.flush().await?;
        }
        Ok(())
    }

    fn body(&mut self, number: u64, intended_us: u64) -> Bytes {
        let mut body = BytesMut::zeroed(self.load.body_bytes);
        body[..8].copy_from_slice(&number.to_be_bytes());
        body[8..HEADER_BYTES].copy_from_slice(&intended_us.to_be_bytes());
        self.random.fill_bytes(&mut body[HEADER_BYTES..]);
        body.freeze()
    }
}

async fn open_chat(edge: &str, from: &UserId, to: &UserId) -> anyhow::Result<String> {
    let mut opener = Connection::open(edge, from, DEVICE, vec![]).await?;
    let open = OpenChat { chat: Some(open_chat::Chat::DirectWith(to.to_string())), ..OpenChat::default() };
    match opener.ask(Frame::OpenChat(open)).await? {
        Answer::ChatOpened(opened) => Ok(opened.log),
        other => bail!("opening was answered by {other:?}"),
    }
}

async fn follow(receiver: &mut Connection, log: &str) -> anyhow::Result<()> {
    // A replica that has not copied the chat yet says so, retryably.
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        let subscribe = Subscribe { log: log.to_owned(), ..Subscribe::default() };
        match receiver.ask(Frame::Subscribe(subscribe)).await? {
            Answer::Resumed(answer) => match answer.answer {
                Some(resumed::Answer::Error(Error { retryable: true, .. })) => {}
                Some(resumed::Answer::Error(error)) => bail!("{}: {}", error.code, error.message),
                _ => return Ok(()),
            },
            other => bail!("following was answered by {other:?}"),
        }
        receiver.ask(Frame::Unsubscribe(Unsubscribe { log: log.to_owned() })).await.ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the chat cannot be followed")
}

/// Where a pair stands in its run.
struct Course {
    counts_from: Instant,
    sends_until: Instant,
    next_number: u64,
    next_due_us: u64,
    under_way: HashMap<u64, u64>,
    ledger: Ledger,
    accepted: u64,
    delivered: u64,
    ack_us: Histogram<u64>,
    deliver_us: Histogram<u64>,
    refused: HashMap<String, u64>,
}

impl Course {
    fn new(counts_from: Instant, sends_until: Instant, next_due_us: u64) -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_MAX_US, 2).expect("the bounds are valid");
        Self {
            counts_from,
            sends_until,
            next_number: 0,
            next_due_us,
            under_way: HashMap::new(),
            ledger: Ledger::default(),
            accepted: 0,
            delivered: 0,
            ack_us: histogram(),
            deliver_us: histogram(),
            refused: HashMap::new(),
        }
    }

    /// The next message, if it is time for one: its number and when it was meant to be sent.
    fn due(&mut self, load: &Load) -> Option<(u64, u64)> {
        if Instant::now() >= self.sends_until {
            return None;
        }
        let now_us = load.now_us();
        let intended_us = match load.interval {
            Some(_) if self.next_due_us > now_us => return None,
            Some(interval) => {
                let due = self.next_due_us;
                self.next_due_us += interval.as_micros() as u64;
                due
            }
            None if self.under_way.len() >= load.window => return None,
            None => now_us,
        };
        let number = self.next_number;
        self.next_number += 1;
        self.under_way.insert(number, intended_us);
        Some((number, intended_us))
    }

    fn next_wake(&self, load: &Load, drain: Duration) -> Instant {
        let now = Instant::now();
        if now >= self.sends_until {
            return self.sends_until + drain;
        }
        let due = load.interval.map(|_| load.epoch + Duration::from_micros(self.next_due_us));
        due.map_or(self.sends_until, |due| due.min(self.sends_until))
    }

    fn counts(&self) -> bool {
        let now = Instant::now();
        now >= self.counts_from && now < self.sends_until
    }

    fn answer(&mut self, answer: ServerFrame, load: &Load) -> anyhow::Result<()> {
        let acked = match answer.frame {
            Some(Answer::Sent(_)) => true,
            Some(Answer::Error(error)) => {
                *self.refused.entry(error.code).or_default() += 1;
                false
            }
            Some(Answer::GoAway(away)) => bail!("the server goes away: {}", away.reason),
            _ => return Ok(()),
        };
        let Some((number, intended_us)) =
            answer.request_id.checked_sub(1).and_then(|number| self.under_way.remove_entry(&number))
        else {
            return Ok(());
        };
        if acked {
            self.ledger.ack(number);
            if self.counts() {
                self.accepted += 1;
                self.ack_us.saturating_record(load.now_us().saturating_sub(intended_us));
            }
        }
        Ok(())
    }

    fn arrive(&mut self, frame: Option<Answer>, load: &Load) -> anyhow::Result<()> {
        let entries = match frame {
            Some(Answer::Entries(entries)) => entries.entries,
            Some(Answer::Behind(_)) => bail!("the receiver was told that it is behind"),
            Some(Answer::Diverged(diverged)) => {
                bail!("the receiver was told diverged({})", diverged.common_offset)
            }
            _ => return Ok(()),
        };
        let (now_us, counts) = (load.now_us(), self.counts());
        for entry in entries {
            let Some(entry::Body::Ciphertext(body)) = entry.body else { continue };
            let header = |at: usize| body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            let (Some(number), Some(sent_us)) = (header(0), header(8)) else { bail!("a foreign body") };
            self.ledger.receive(u64::from_be_bytes(number));
            if counts {
                self.delivered += 1;
                self.deliver_us.saturating_record(now_us.saturating_sub(u64::from_be_bytes(sent_us)));
            }
        }
        Ok(())
    }

    fn finished(&self, drain: Duration) -> bool {
        let now = Instant::now();
        if now < self.sends_until {
            return false;
        }
        (self.under_way.is_empty() && self.ledger.missing() == 0) || now >= self.sends_until + drain
    }

    fn outcome(self) -> Outcome {
        Outcome {
            accepted: self.accepted,
            delivered: self.delivered,
            lost: self.ledger.missing(),
            doubled: self.ledger.doubled(),
            reordered: self.ledger.reordered(),
            ack_us: self.ack_us,
            deliver_us: self.deliver_us,
            refused: self.refused,
        }
    }
}
