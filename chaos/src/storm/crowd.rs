//! The crowd's users and chats, those who write beside it, and the one who waits for the new home.

use super::session::{self, Board, Member};
use crate::report::Latency;
use anyhow::bail;
use client::bare::{BareError, Connection};
use lab::Lab;
use parking_lot::Mutex;
use proto::client::{
    NewGroup, OpenChat, Send, client_frame::Frame, open_chat::Chat, server_frame::Frame as Answer,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::{interval, sleep, timeout},
};
use types::{DeviceId, Epoch, LogId, PositionToken, UserId};
use uuid::Uuid;

/// Devices of each user: a chat has users as members, and each of their devices has a session.
const DEVICES_PER_USER: usize = 20;
/// Groups for each group that a session follows.
const GROUPS_PER_CHAT: usize = 4;
const BYSTANDER_CHATS: usize = 8;
const OTHERS_EVERY: Duration = Duration::from_millis(10);
const PROBE_EVERY: Duration = Duration::from_millis(50);
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// The crowd.
pub(super) struct Crowd {
    users: Vec<(UserId, BTreeMap<String, String>)>,
    sessions: usize,
    /// A chat, and the position of its first entry.
    probe: (String, String),
}

fn user(name: String) -> anyhow::Result<UserId> {
    Ok(UserId::new(&name)?)
}

impl Crowd {
    /// Opens the chats, homed in `region`.
    pub(super) async fn open(
        lab: &Lab,
        region: &str,
        sessions: usize,
        chats: usize,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = sessions.div_ceil(DEVICES_PER_USER);
        let groups = chats * GROUPS_PER_CHAT;
        let names: Vec<String> = (0..count).map(|number| format!("crowd-{number}")).collect();
        let mut session =
            Connection::open(&lab.edge(region)?, &user("opener".to_owned())?, DeviceId::new(1), vec![])
                .await?;
        let mut follows = vec![BTreeMap::new(); count];
        let mut probe = (String::new(), String::new());
        for group in 0..groups {
            let is_in = |number: &usize| (0..chats).any(|at| (number * chats + at) % groups == group);
            let members: Vec<usize> = (0..count).filter(is_in).collect();
            let key = Uuid::from_bytes(rng.random()).to_string();
            let members_names = members.iter().map(|number| names[*number].clone()).collect();
            let (log, position) = open(&mut session, NewGroup { key, members: members_names }).await?;
            for number in members {
                follows[number].insert(log.clone(), position.clone());
            }
            probe = (log, position);
        }
        let users = names.into_iter().zip(follows).map(|(name, follows)| Ok((user(name)?, follows)));
        Ok(Self { users: users.collect::<anyhow::Result<_>>()?, sessions, probe })
    }

    /// Starts all sessions. They end when the set is dropped.
    pub(super) fn start(&self, edges: &[String], board: &Arc<Board>, seed: u64) -> JoinSet<()> {
        let mut running = JoinSet::new();
        for number in 0..self.sessions {
            let (user, cursors) = self.users[number / DEVICES_PER_USER].clone();
            let device = DeviceId::new((number % DEVICES_PER_USER) as u64 + 1);
            let member = Member { user, device, cursors };
            running.spawn(session::run(member, edges.to_vec(), Arc::clone(board), seed ^ number as u64));
        }
        running
    }

    /// Writes to a chat of the crowd through `edge`, at a beat, until a write is acked in a later epoch than the
    /// chat's first.
    pub(super) fn probe(&self, edge: String) -> JoinHandle<anyhow::Result<Instant>> {
        let (log, first) = self.probe.clone();
        tokio::spawn(async move {
            let until = Instant::now() + PROBE_PATIENCE;
            let first_epoch = PositionToken::open(log.parse()?, &first)?.epoch;
            while Instant::now() < until {
                // A connection that breaks is followed by another.
                match timeout(PROBE_PATIENCE, probe_once(&edge, &log, first_epoch)).await {
                    Ok(Ok(at)) => return Ok(at),
                    _ => sleep(PROBE_EVERY).await,
                }
            }
            bail!("no new home acks within {PROBE_PATIENCE:?}")
        })
    }
}

async fn probe_once(edge: &str, log: &str, first_epoch: Epoch) -> anyhow::Result<Instant> {
    let id: LogId = log.parse()?;
    let mut session =
        Connection::open(edge, &user("opener".to_owned())?, DeviceId::new(7_000), vec![]).await?;
    let mut beats = interval(PROBE_EVERY);
    let mut number = 0;
    loop {
        tokio::select! {
            frame = session.next() => if let Some(Answer::Sent(sent)) = frame?.frame
                && PositionToken::open(id, &sent.position)?.epoch > first_epoch
            {
                return Ok(Instant::now());
            },
            _ = beats.tick() => {
                number += 1;
                session.feed(number, send(log, number)).await?;
                session.flush().await?;
            }
        }
    }
}

fn send(log: &str, number: u64) -> Frame {
    Frame::Send(Send {
        log: log.to_owned(),
        message_id: Uuid::new_v4().to_string(),
        ciphertext: number.to_string().into_bytes().into(),
        ..Send::default()
    })
}

async fn open(session: &mut Connection, group: NewGroup) -> anyhow::Result<(String, String)> {
    let open = OpenChat { chat: Some(Chat::Group(group)), ..OpenChat::default() };
    match session.ask(Frame::OpenChat(open)).await? {
        Answer::ChatOpened(opened) => Ok((opened.log, opened.position)),
        other => bail!("opening was answered by {other:?}"),
    }
}

/// Chats that the storm does not touch.
pub(super) async fn open_bystanders(lab: &Lab, region: &str) -> anyhow::Result<Vec<String>> {
    let mut session =
        Connection::open(&lab.edge(region)?, &user("bystander".to_owned())?, DeviceId::new(1), vec![])
            .await?;
    let mut logs = Vec::new();
    for _ in 0..BYSTANDER_CHATS {
        let group = NewGroup { key: Uuid::new_v4().to_string(), members: vec!["someone".to_owned()] };
        logs.push(open(&mut session, group).await?.0);
    }
    Ok(logs)
}

/// What the others' writes came to.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// When each was sent, and after how long it was acked.
    pub(super) acks: Vec<(Instant, Duration)>,
    /// Those that were not, by why.
    pub(super) refused: BTreeMap<String, u64>,
}

impl Acks {
    pub(super) fn latency(&self) -> Latency {
        Latency::of(self.acks.iter().map(|(_, took)| took.as_micros() as u64).collect())
    }

    pub(super) fn failed(&self) -> u64 {
        self.refused.values().sum()
    }

    fn fail(&mut self, why: String) {
        *self.refused.entry(why).or_default() += 1;
    }
}

/// Those who write beside the crowd, one after the other on one connection. They end when this is dropped.
pub(super) struct Others {
    acks: Arc<Mutex<Acks>>,
    /// Dropped, it ends their thread.
    _end: oneshot::Sender<()>,
}

impl Others {
    /// They have a thread of their own: what is measured is how long the servers take, and not how long the crowd's
    /// tasks, which are in this process too, keep them from sending and hearing.
    pub(super) fn start(edge: &str, logs: &[String]) -> anyhow::Result<Self> {
        let acks = Arc::new(Mutex::new(Acks::default()));
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut writing = JoinSet::new();
        for (number, log) in logs.iter().enumerate() {
            let (acks, edge, log) = (Arc::clone(&acks), edge.to_owned(), log.clone());
            let write = async move {
                let device = DeviceId::new(number as u64 + 2);
                // The one who opened them writes from several devices.
                if let Err(error) = write(&edge, &log, device, &acks).await {
                    acks.lock().fail(error.to_string());
                }
            };
            writing.spawn_on(write, runtime.handle());
        }
        std::thread::Builder::new().name("others".to_owned()).spawn(move || {
            let _ended = runtime.block_on(ended);
            drop(writing);
        })?;
        Ok(Self { acks, _end: end })
    }

    /// What there is since the last call.
    pub(super) fn take(&self) -> Acks {
        std::mem::take(&mut self.acks.lock())
    }
}

async fn write(edge: &str, log: &str, device: DeviceId, acks: &Mutex<Acks>) -> Result<(), BareError> {
    let who = UserId::new("bystander").expect("a plain name");
    let mut session = Connection::open(edge, &who, device, vec![]).await?;
    let mut beats = interval(OTHERS_EVERY * BYSTANDER_CHATS as u32);
    for number in 0.. {
        beats.tick().await;
        let sent = Instant::now();
        match session.ask(send(log, number)).await {
            Ok(_) => acks.lock().acks.push((sent, sent.elapsed())),
            Err(BareError::Refused(refusal)) => acks.lock().fail(refusal.code.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
