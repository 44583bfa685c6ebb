//! How a client is set up, with every bound and every wait.

use crate::{Roots, account::Credentials};
use serde::{Deserialize, Serialize};
use types::{DeviceId, UserId};

/// A client's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// WebSocket addresses, the nearest first, for example `ws://127.0.0.1:7411/v1/ws`. Tried in turn. Those that
    /// begin with `wss://` are reached by TLS.
    pub edges: Vec<String>,
    /// Who vouches for edges that are reached by TLS.
    pub roots: Roots,
    /// Who this is.
    pub user: UserId,
    /// Which of the user's devices; drawn once and kept, because the dedup of retries counts on it.
    pub device: DeviceId,
    /// Who shows the device's access token, on each connection. None: nobody is asked for one, which is so in
    /// development mode only.
    pub credentials: Option<Credentials>,
    /// Name and version of the app, for operators.
    pub agent: String,
    /// How frames are written.
    pub encoding: Encoding,
    /// Waits and intervals.
    pub timing: Timing,
    /// Bounds.
    pub bounds: Bounds,
}

impl Config {
    /// Settings with the defaults.
    pub fn new(edges: impl IntoIterator<Item = impl Into<String>>, user: UserId, device: DeviceId) -> Self {
        Self {
            edges: edges.into_iter().map(Into::into).collect(),
            roots: Roots::default(),
            user,
            device,
            credentials: None,
            agent: concat!("hearth-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            encoding: Encoding::default(),
            timing: Timing::default(),
            bounds: Bounds::default(),
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Every mistake, together.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut mistakes = Vec::new();
        if self.edges.is_empty() {
            mistakes.push("edges is empty".to_owned());
        }
        let is_edge = |edge: &&String| edge.starts_with("ws://") || edge.starts_with("wss://");
        for edge in self.edges.iter().filter(|edge| !is_edge(edge)) {
            mistakes.push(format!("edge {edge:?} does not start with ws:// or wss://"));
        }
        mistakes.extend(self.roots.mistake());
        let Bounds { outbox_messages, outbox_bytes, window, timeline_entries, events } = self.bounds;
        for (name, value) in [
            ("outbox_messages", outbox_messages),
            ("outbox_bytes", outbox_bytes),
            ("window", window),
            ("timeline_entries", timeline_entries),
            ("events", events),
        ] {
            if value == 0 {
                mistakes.push(format!("bounds.{name} is 0"));
            }
        }
        if self.timing.dead_after_ms <= self.timing.ping_interval_ms {
            mistakes.push("timing.dead_after_ms is not above timing.ping_interval_ms".to_owned());
        }
        if mistakes.is_empty() { Ok(()) } else { Err(ConfigError { mistakes }) }
    }
}

/// The settings make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the client's settings are wrong: {}", .mistakes.join("; "))]
pub struct ConfigError {
    /// Each mistake.
    pub mistakes: Vec<String>,
}

/// How frames are written on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Binary frames, subprotocol `hearth.v1.proto`.
    #[default]
    Proto,
    /// Text frames, subprotocol `hearth.v1.json`: to be read by people.
    Json,
}

impl Encoding {
    /// The WebSocket subprotocol.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Proto => "hearth.v1.proto",
            Self::Json => "hearth.v1.json",
        }
    }
}

/// Waits and intervals, in ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Timing {
    /// An edge that has not accepted the connection by then is given up, for now.
    pub connect_timeout_ms: u64,
    /// A node that has not welcomed the session by then is given up, for now.
    pub handshake_timeout_ms: u64,
    /// A ping is sent this often; the server may ask for more.
    pub ping_interval_ms: u64,
    /// A connection on which nothing has come for this long is dead.
    pub dead_after_ms: u64,
    /// The first wait between attempts is up to this long; it doubles with each round over all edges.
    pub backoff_base_ms: u64,
    /// No wait is longer.
    pub backoff_cap_ms: u64,
    /// A connection that has lived this long starts the waits anew.
    pub settled_after_ms: u64,
    /// Opening a chat and reading history are tried this long, over reconnects.
    pub call_timeout_ms: u64,
    /// How long a node may hold one write; 0: the server's default.
    pub write_deadline_ms: u32,
    /// A write without any answer for this long means that the connection is dead.
    pub write_answer_ms: u64,
    /// Where messages have been home for this long and none became replicated, the first is asked for again.
    pub stall_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 3_000,
            handshake_timeout_ms: 5_000,
            ping_interval_ms: 10_000,
            dead_after_ms: 30_000,
            backoff_base_ms: 100,
            backoff_cap_ms: 5_000,
            settled_after_ms: 3_000,
            call_timeout_ms: 30_000,
            write_deadline_ms: 0,
            write_answer_ms: types::limits::DEADLINE_DEFAULT_MS + 5_000,
            stall_ms: 10_000,
        }
    }
}

/// Bounds on what a client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Messages in the outbox.
    pub outbox_messages: usize,
    /// Bytes of bodies in the outbox.
    pub outbox_bytes: usize,
    /// Writes without an answer; the server's own limit holds too.
    pub window: usize,
    /// Entries per chat whose identity is remembered while they are not replicated.
    pub timeline_entries: usize,
    /// Events that the app has not taken; when they are full, nothing is read from the server.
    pub events: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            outbox_messages: 10_000,
            outbox_bytes: 64 * 1024 * 1024,
            window: 1_024,
            timeline_entries: 65_536,
            events: 1_024,
        }
    }
}
