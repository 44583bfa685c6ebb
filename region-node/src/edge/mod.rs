//! The edge: clients over WebSocket and REST.
//!
//! ```text
//!   /v1/ws ──── ws (driver) ── session (core) ─┐
//!                  │                           ├─ router ── homes, peers, replicas
//!   /v1/…  ────── rest ── request (checks) ────┘
//!                  └─ queue ◄── delivery
//! ```

mod chats;
mod door;
pub(crate) mod errors;
mod farewell;
pub(crate) mod frame;
mod groups;
mod listener;
mod openings;
pub(crate) mod queue;
mod request;
mod rest;
mod session;
mod socket;
mod sync;
mod ws;

pub(crate) use farewell::Farewell;
pub use listener::{Connection, EdgeListener};
pub(crate) use session::client_receipt;

use crate::{
    Parts,
    accounts::{Accounts, Kind, Who},
    clock,
    delivery::{Delivery, SessionId},
    live::{Desk, Live},
    parts::{PeerReplies, PeerService},
    peer::{self, Peers},
    router::Router,
};
use door::Door;
use metrics::Histogram;
use openings::{Openings, Rate};
use parking_lot::Mutex;
use proto::{client, node::PeerRequest};
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use sync::{Turns, Waiting};
use tokio::sync::Notify;
use tonic::Streaming;
use types::{Code, DeviceId, LogId, Position, Refusal, UserId};

/// The edge half of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    router: Router,
    accounts: Accounts,
    delivery: Delivery,
    live: Live,
    door: Door,
    sessions: AtomicUsize,
    /// Told when the last session has ended.
    emptied: Notify,
    next_session: AtomicU64,
    write_seconds: Histogram,
    openings: Mutex<Openings>,
    turns: Turns,
    waiting: Waiting,
}

impl Inner {
    /// Counts a write to a chat, where users have accounts.
    ///
    /// # Errors
    /// `rate_limited`, with when there is room again.
    fn admit_write(&self, user: &UserId, device: DeviceId) -> Result<(), Refusal> {
        if self.parts.config.development {
            return Ok(());
        }
        self.accounts.admit(Kind::Write, &Who::Device(user.clone(), device))?;
        self.accounts.admit(Kind::Write, &Who::User(user.clone()))
    }

    /// Opens a chat, where its user does not open too many.
    async fn open_chat(&self, user: UserId, open: client::OpenChat) -> Result<(LogId, Position), Refusal> {
        self.openings.lock().take(&user, clock::boot_ms())?;
        if let Some(client::open_chat::Chat::DirectWith(other)) = &open.chat
            && !self.parts.config.development
        {
            self.accounts.may_write_to(&user, &request::user("direct_with", other)?).await?;
        }
        self.router.open_chat(user, open).await
    }
}

impl Edge {
    /// Starts the edge: streams to peers, the router's clockwork and delivery run until the shutdown of
    /// the parts.
    pub fn start(parts: Parts) -> Self {
        let shutdown = parts.shutdown.clone();
        let peers =
            Peers::new(Arc::clone(&parts.config), Arc::clone(&parts.view), Arc::clone(&parts.identity));
        let router = Router::new(parts.clone(), peers.clone());
        let accounts = Accounts::new(&parts, &router);
        let desk = Arc::new(Mutex::new(Desk::new(parts.config.presence_ttl_ms)));
        let (delivery, events) = Delivery::new(router.clone(), Arc::clone(&desk));
        let live = Live::new(router.clone(), desk, delivery.sink());
        tokio::spawn(live.clone().run(shutdown.clone()));
        tokio::spawn(peers.run(shutdown.clone()));
        tokio::spawn(router.clone().run(shutdown.clone()));
        tokio::spawn(accounts.clone().run(shutdown.clone()));
        tokio::spawn(delivery.clone().run(events, shutdown.clone()));
        let leaving = delivery.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            leaving.dismiss();
        });
        let emptied = Notify::new();
        let (sessions, next_session) = (AtomicUsize::new(0), AtomicU64::new(1));
        let write_seconds = metrics::histogram!("hearth_edge_write_seconds");
        let rate = Rate { burst: parts.config.openings_burst, per_s: parts.config.openings_per_s };
        let openings = Mutex::new(Openings::new(rate));
        let door = Door::new(parts.config.sessions_per_s);
        let inner = Inner {
            parts,
            router,
            accounts,
            delivery,
            live,
            door,
            sessions,
            emptied,
            next_session,
            write_seconds,
            openings,
            turns: Turns::default(),
            waiting: Waiting::default(),
        };
        let edge = Self(Arc::new(inner));
        tokio::spawn(edge.clone().follow_drains(edge.0.parts.shutdown.clone()));
        edge
    }

    /// The routes of clients: `/v1/ws`, and REST below `/v1`.
    ///
    /// Serve them from an [`EdgeListener`], with [`Connection`] as connect info, so that a session's send
    /// buffer in the kernel is bounded; without it they work too.
    pub fn routes(&self) -> axum::Router {
        rest::routes(self).merge(ws::routes(self))
    }

    /// The router of this node.
    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    /// Sessions that are open now.
    pub fn sessions(&self) -> usize {
        self.0.sessions.load(Ordering::Relaxed)
    }

    /// Clients without a session that were told all that there was, and wait for what comes.
    pub fn waiting(&self) -> usize {
        self.0.waiting.count()
    }

    /// Lets somebody in who stays: by the door, to a place among the sessions.
    ///
    /// # Errors
    /// `not_ready`, `overloaded`.
    async fn admit(&self) -> Result<Seat, Refusal> {
        let stays = || match self.0.parts.readiness.is_leaving() {
            true => Err(Refusal::new(Code::NotReady, "the node is going down")),
            false => Ok(()),
        };
        stays()?;
        // A session is told once, in its welcome, whether `home` is the last thing that it hears of a message.
        if !self.0.router.knows_regions() {
            return Err(Refusal::new(Code::NotReady, "no placement has come from the directory"));
        }
        let Some(seat) = self.seat() else {
            let why = format!("the node has {} sessions, the most it takes", self.sessions());
            return Err(Refusal::new(Code::Overloaded, why));
        };
        self.0.door.enter().await?;
        stays()?;
        Ok(seat)
    }

    /// Takes a place among the sessions, if one is left.
    fn seat(&self) -> Option<Seat> {
        let max = self.0.parts.config.sessions_max;
        let taken = self
            .0
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        taken.ok()?;
        metrics::gauge!("hearth_edge_sessions").set(self.sessions() as f64);
        let id = SessionId(self.0.next_session.fetch_add(1, Ordering::Relaxed));
        Some(Seat { edge: self.clone(), id })
    }
}

impl PeerService for Edge {
    fn serve(&self, requests: Streaming<PeerRequest>) -> PeerReplies {
        peer::serve(&self.0.parts, &self.0.live, requests)
    }
}

/// A place among the sessions, given back when dropped.
#[derive(Debug)]
struct Seat {
    edge: Edge,
    id: SessionId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.edge.0.sessions.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.edge.0.emptied.notify_waiters();
        }
        metrics::gauge!("hearth_edge_sessions").set(self.edge.sessions() as f64);
    }
}
