//! Many users who follow their chats and say nothing.

use super::party::{CONNECTING_MAX, DEVICE};
use crate::commands::bench::wire::{Scratch, Wire};
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use proto::client::{ClientFrame, LogCursor, NewGroup, Ping, client_frame::Frame, open_chat};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use types::UserId;
use uuid::Uuid;

/// Every connection is looked after once in so many ticks.
const TICKS: usize = 100;
const TICK: Duration = Duration::from_millis(100);
/// How often those that are connected give a sign of life while others still connect.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const RESUMED_TOGETHER: usize = 512;

/// Users and their chats.
#[derive(Debug)]
pub(crate) struct Crowd {
    users: Vec<UserId>,
    /// Of each user: the chats that it follows, and where it stands in them.
    cursors: Vec<Vec<LogCursor>>,
    chats: usize,
}

/// A crowd that is connected.
#[derive(Debug)]
pub(crate) struct Connected(Vec<Wire>);

/// Who shares a chat with a user who opens `own` chats of `members`: each user is in `own × members` chats.
fn others(user: usize, chat: usize, members: usize, users: usize) -> impl Iterator<Item = usize> {
    (1..members).map(move |member| (user + chat * (members - 1) + member) % users)
}

impl Crowd {
    /// Opens the chats, over connections that come and go. `chats` is a multiple of `members`.
    pub(crate) fn open_chats(edge: &str, users: usize, chats: usize, members: usize) -> Result<Self> {
        let run = Uuid::new_v4().simple().to_string();
        let names = (0..users).map(|number| UserId::new(&format!("bench-{run}-{number}")));
        let users = names.collect::<Result<Vec<_>, _>>()?;
        let own = chats / members;
        let opened = in_turn(users.len(), |user| {
            let mut wire = Wire::open(edge, &users[user], DEVICE)?;
            (0..own).map(|chat| open(&mut wire, &users, user, chat, members)).collect::<Result<Vec<_>>>()
        })?;
        let mut cursors = vec![Vec::with_capacity(chats); users.len()];
        for (user, opened) in opened {
            for (chat, cursor) in opened.into_iter().enumerate() {
                others(user, chat, members, users.len())
                    .for_each(|other| cursors[other].push(cursor.clone()));
                cursors[user].push(cursor);
            }
        }
        Ok(Self { chats: own * users.len(), users, cursors })
    }

    /// All chats.
    pub(crate) const fn chats(&self) -> usize {
        self.chats
    }

    /// Connects all users, many at the same time, each with all its cursors. `took_us` gets how long each
    /// took from its connecting until its last cursor was answered.
    pub(crate) fn resume(&self, edge: &str, took_us: &mut Histogram<u64>) -> Result<Connected> {
        let mut connected = Connected(Vec::with_capacity(self.users.len()));
        let mut pinged = Instant::now();
        for first in (0..self.users.len()).step_by(RESUMED_TOGETHER) {
            let count = RESUMED_TOGETHER.min(self.users.len() - first);
            let resumed = in_turn(count, |number| {
                let (user, began) = (first + number, Instant::now());
                let wire = Wire::resume(edge, &self.users[user], DEVICE, self.cursors[user].clone())?;
                wire.begin()?;
                Ok((wire, began.elapsed()))
            })?;
            for (_, (wire, took)) in resumed {
                took_us.saturating_record(took.as_micros() as u64);
                connected.0.push(wire);
            }
            // A slow machine takes longer for all of them than a server waits for a sign of life.
            if pinged.elapsed() >= PING_INTERVAL {
                pinged = Instant::now();
                connected.ping(0, 1)?;
            }
        }
        Ok(connected)
    }
}

impl Connected {
    /// Keeps all connections for so long: each pings every ten seconds, and reads what has come.
    pub(crate) fn stay(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        for tick in (0..TICKS).cycle() {
            let began = Instant::now();
            if began >= until {
                break;
            }
            self.ping(tick, TICKS)?;
            thread::sleep(TICK.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    /// Pings on every so-manieth connection, and reads what has come there.
    fn ping(&mut self, first: usize, every: usize) -> Result<()> {
        let ping = ClientFrame { request_id: 0, frame: Some(Frame::Ping(Ping { nonce: 0 })) };
        let mut scratch = Scratch::new();
        for wire in self.0.iter_mut().skip(first).step_by(every) {
            wire.put(&ping, rand::random());
            wire.flush()?;
            wire.receive(&mut scratch, |_| Ok(())).context("an idle connection")?;
        }
        Ok(())
    }
}

fn open(wire: &mut Wire, users: &[UserId], user: usize, chat: usize, members: usize) -> Result<LogCursor> {
    let others: Vec<_> =
        others(user, chat, members, users.len()).map(|other| users[other].to_string()).collect();
    let chat = match &others[..] {
        [other] => open_chat::Chat::DirectWith(other.clone()),
        _ => open_chat::Chat::Group(NewGroup { key: Uuid::new_v4().to_string(), members: others }),
    };
    let opened = super::party::open(wire, chat).context("opening a chat")?;
    Ok(LogCursor { log: opened.log, position: opened.position })
}

/// Does something for each number below `count`, many at the same time.
pub(super) fn in_turn<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(usize, T)>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(done);
            }
            // The first failure ends all workers.
            let outcome = work(number).inspect_err(|_| next.store(count, Ordering::Relaxed))?;
            done.push((number, outcome));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTING_MAX.min(count)).map(|_| scope.spawn(worker)).collect();
        let mut done = Vec::with_capacity(count);
        for worker in workers {
            let some: Result<Vec<_>> = worker.join().expect("a panic aborts");
            done.extend(some?);
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_in_as_many_chats_as_every_other_and_no_two_share_a_direct_chat_twice() {
        for (users, chats, members) in [(100, 20, 2), (50, 20, 10), (21, 20, 2), (7, 3, 3)] {
            let mut of = vec![Vec::new(); users];
            for (user, chat) in (0..users).flat_map(|user| (0..chats / members).map(move |chat| (user, chat)))
            {
                let all: Vec<_> = std::iter::once(user).chain(others(user, chat, members, users)).collect();
                for member in &all {
                    of[*member].push(all.clone());
                }
            }
            assert!(of.iter().all(|chats_of| chats_of.len() == chats), "{users} {chats} {members}");
        }
    }
}
