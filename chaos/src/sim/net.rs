//! The network: connections whose bytes take their time, and links that are cut and healed.
//!
//! ```text
//!   stream ─write─▶ pipe: flying ──(queue, by time)──▶ pipe: arrived ─read─▶ stream
//!                                     │
//!                                     └─ the link is cut: held, in order, until it heals
//! ```
//!
//! A connection is two pipes, each of which keeps its order. A cut holds what it stops, as a kernel does that
//! sends again; whoever waits longer than it wants to gives up by itself. A process that ends closes its
//! connections; a machine that loses power says nothing, and answers with resets once it is back.

mod link;
mod pipe;
mod port;
mod stream;

pub(super) use link::{Delay, Link};
pub(super) use stream::SimStream;

use super::host::HostId;
use bytes::Bytes;
use link::Links;
use pipe::{End, Pipe, PipeId};
use port::Port;
use rand::{RngExt as _, rngs::StdRng};
use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    task::Waker,
};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::Xxh3;

/// Connections that wait to be accepted at one port.
const BACKLOG_MAX: usize = 1_024;

/// What arrives somewhere.
#[derive(Debug)]
enum Packet {
    /// A connection is asked for.
    Open {
        port: SocketAddr,
        dial: u64,
    },
    /// It is there, or refused.
    Opened {
        dial: u64,
        pipes: Option<(PipeId, PipeId)>,
    },
    Data {
        pipe: PipeId,
        bytes: Bytes,
    },
    Fin {
        pipe: PipeId,
    },
    Reset {
        pipe: PipeId,
    },
    /// What a cut has held goes on.
    Mended,
}

/// A packet on its way.
#[derive(Debug)]
struct Flying {
    at_us: u64,
    number: u64,
    link: Link,
    packet: Packet,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// What is woken or dropped once the network is not borrowed any more: either may call it again.
#[derive(Debug, Default)]
pub(super) struct Later {
    wakers: Vec<Waker>,
    dials: Vec<(oneshot::Sender<io::Result<SimStream>>, io::Result<SimStream>)>,
}

impl Later {
    fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// Does it.
    pub(super) fn run(self) {
        for (dial, opened) in self.dials {
            // Whoever dialled may have given up; the stream is dropped then, which closes it.
            let _ = dial.send(opened);
        }
        self.wakers.into_iter().for_each(Waker::wake);
    }
}

/// See the module.
pub(super) struct Net {
    /// How far the world has come.
    pub(super) now_us: u64,
    number: u64,
    queue: BinaryHeap<Reverse<Flying>>,
    held: BTreeMap<Link, VecDeque<Packet>>,
    links: Links,
    pipes: Vec<Pipe>,
    ports: BTreeMap<SocketAddr, Port>,
    hosts: BTreeMap<IpAddr, HostId>,
    dials: BTreeMap<u64, oneshot::Sender<io::Result<SimStream>>>,
    /// Hosts without power.
    dark: Vec<HostId>,
    rng: StdRng,
    trace: Xxh3,
    prints: bool,
}

impl Net {
    pub(super) fn new(rng: StdRng, prints: bool) -> Self {
        Self {
            now_us: 0,
            number: 0,
            queue: BinaryHeap::new(),
            held: BTreeMap::new(),
            links: Links::default(),
            pipes: Vec::new(),
            ports: BTreeMap::new(),
            hosts: BTreeMap::new(),
            dials: BTreeMap::new(),
            dark: Vec::new(),
            rng,
            trace: Xxh3::new(),
            prints,
        }
    }

    pub(super) fn add_host(&mut self, host: HostId, address: IpAddr) {
        self.hosts.insert(address, host);
    }

    pub(super) const fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// A hash of every packet that has arrived: when, where from, where to, and what.
    pub(super) fn trace_hash(&self) -> u128 {
        self.trace.digest128()
    }

    pub(super) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    // ---- sending

    fn send(&mut self, now_us: u64, link: Link, not_before_us: u64, packet: Packet) -> u64 {
        let drawn = self.rng.random_range(0.0..1.0);
        let at_us = (now_us + self.links.delay_us(link, drawn)).max(not_before_us);
        self.schedule(at_us, link, packet);
        at_us
    }

    fn schedule(&mut self, at_us: u64, link: Link, packet: Packet) {
        self.number += 1;
        self.queue.push(Reverse(Flying { at_us, number: self.number, link, packet }));
    }

    /// Sends along a pipe, behind all that was sent along it before.
    fn send_along(&mut self, now_us: u64, pipe: PipeId, packet: Packet) {
        let Pipe { link, last_us, .. } = self.pipes[pipe.index()];
        self.pipes[pipe.index()].last_us = self.send(now_us, link, last_us, packet);
    }

    // ---- arriving

    /// Lets arrive what is due by `until_us`.
    pub(super) fn deliver(&mut self, until_us: u64, later: &mut Later) {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at_us <= until_us) {
            let Some(Reverse(flying)) = self.queue.pop() else { return };
            self.now_us = self.now_us.max(flying.at_us);
            let Flying { at_us, number, link, packet } = flying;
            let is_stopped = self.links.is_cut(link) || self.dark.contains(&link.to);
            if matches!(packet, Packet::Mended) {
                let held = if is_stopped { None } else { self.held.remove(&link) };
                for packet in held.unwrap_or_default() {
                    self.arrive(Flying { at_us, number, link, packet }, later);
                }
            } else if is_stopped || self.held.contains_key(&link) {
                // Behind what is held already, so that nothing is overtaken.
                self.held.entry(link).or_default().push_back(packet);
            } else {
                self.arrive(Flying { at_us, number, link, packet }, later);
            }
        }
        self.now_us = until_us;
    }

    fn note(&mut self, flying: &Flying) {
        let Flying { at_us, link, packet, .. } = flying;
        self.trace.update(&at_us.to_le_bytes());
        self.trace.update(&[link.from.0, link.to.0]);
        if let Packet::Data { bytes, .. } = packet {
            self.trace.update(bytes);
        }
        if self.prints {
            let what = match packet {
                Packet::Open { port, .. } => format!("open {port}"),
                Packet::Opened { pipes: Some(_), .. } => "opened".to_owned(),
                Packet::Opened { pipes: None, .. } => "refused".to_owned(),
                Packet::Data { pipe, bytes } => format!("pipe {} {} bytes", pipe.index(), bytes.len()),
                Packet::Fin { pipe } => format!("pipe {} ends", pipe.index()),
                Packet::Reset { pipe } => format!("pipe {} is reset", pipe.index()),
                Packet::Mended => "mended".to_owned(),
            };
            println!("{:>10.3} ms  net {} -> {}: {what}", *at_us as f64 / 1e3, link.from, link.to);
        }
    }

    fn arrive(&mut self, flying: Flying, later: &mut Later) {
        self.note(&flying);
        let Flying { link, packet, .. } = flying;
        match packet {
            Packet::Mended => {}
            Packet::Open { port, dial } => {
                let pipes = self.accept(link, port, later);
                self.send(self.now_us, link.back(), 0, Packet::Opened { dial, pipes });
            }
            Packet::Opened { dial, pipes } => {
                let Some(asker) = self.dials.remove(&dial) else { return };
                let opened = match pipes {
                    Some((incoming, outgoing)) => Ok(SimStream::new(incoming, outgoing)),
                    None => Err(io::ErrorKind::ConnectionRefused.into()),
                };
                later.dials.push((asker, opened));
            }
            Packet::Data { pipe, bytes } => {
                let at = &mut self.pipes[pipe.index()];
                if at.is_abandoned {
                    let back = at.back;
                    return self.send_along(self.now_us, back, Packet::Reset { pipe: back });
                }
                later.wake(at.arrive(bytes));
            }
            Packet::Fin { pipe } => later.wake(self.pipes[pipe.index()].end(End::Fin)),
            Packet::Reset { pipe } => {
                // Both directions are over for the one whom it reaches.
                let back = self.pipes[pipe.index()].back;
                later.wake(self.pipes[pipe.index()].end(End::Reset));
                later.wake(self.pipes[back.index()].refuse());
            }
        }
    }

    /// Makes a connection wait at a port. Answers the dialler's pipes: from the port and to it.
    fn accept(&mut self, link: Link, at: SocketAddr, later: &mut Later) -> Option<(PipeId, PipeId)> {
        let port = self.ports.get_mut(&at)?;
        if port.waiting.len() >= BACKLOG_MAX {
            return None;
        }
        let there = PipeId::new(self.pipes.len());
        let back = PipeId::new(self.pipes.len() + 1);
        self.pipes.push(Pipe::new(link, back));
        self.pipes.push(Pipe::new(link.back(), there));
        port.waiting.push_back((there, back));
        later.wake(port.acceptor.take());
        Some((back, there))
    }

    // ---- faults

    /// Cuts links, or mends them: what they held goes on its way again.
    pub(super) fn set_cut(&mut self, links: impl IntoIterator<Item = Link>, cut: bool) {
        for link in links {
            self.links.set_cut(link, cut);
            if !cut {
                self.release(link);
            }
        }
    }

    fn release(&mut self, link: Link) {
        if self.held.contains_key(&link) {
            self.send(self.now_us, link, 0, Packet::Mended);
        }
    }

    /// The host is without power: its connections are gone without a word, and so are the bytes that it would
    /// have sent again because a cut has held them.
    pub(super) fn go_dark(&mut self, host: HostId) {
        self.dark.push(host);
        for (_, held) in self.held.iter_mut().filter(|(link, _)| link.from == host) {
            held.retain(|packet| !matches!(packet, Packet::Data { .. } | Packet::Fin { .. }));
        }
        for pipe in &mut self.pipes {
            if pipe.link.from == host || pipe.link.to == host {
                pipe.is_dead = true;
            }
        }
    }

    /// The host has power again, and knows nothing of the connections that others think they have with it. Who
    /// has asked for one meanwhile still asks.
    pub(super) fn light(&mut self, host: HostId) {
        self.dark.retain(|dark| *dark != host);
        let links: Vec<Link> = self.held.keys().copied().filter(|link| link.to == host).collect();
        for link in links {
            if let Some(held) = self.held.get_mut(&link) {
                held.retain(|packet| matches!(packet, Packet::Open { .. }));
            }
            self.release(link);
        }
        let dead = (0..self.pipes.len()).map(PipeId::new).filter(|pipe| {
            let pipe = &self.pipes[pipe.index()];
            pipe.is_dead && pipe.link.from == host && !pipe.is_reset_sent
        });
        for pipe in dead.collect::<Vec<_>>() {
            self.pipes[pipe.index()].is_reset_sent = true;
            self.send_along(self.now_us, pipe, Packet::Reset { pipe });
        }
    }

    /// Breaks every connection between two hosts that are up.
    pub(super) fn reset_all(&mut self, link: Link) {
        let open = (0..self.pipes.len()).map(PipeId::new).filter(|pipe| {
            let pipe = &self.pipes[pipe.index()];
            pipe.link == link && !pipe.is_dead && pipe.is_open()
        });
        for pipe in open.collect::<Vec<_>>() {
            self.send_along(self.now_us, pipe, Packet::Reset { pipe });
        }
    }
}
