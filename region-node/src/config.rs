//! What a node is told at its start.

use crate::{accounts::AccountRates, home::core::FollowWhen};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};
use types::{NodeId, RegionId, limits};

/// Which engine holds the partition logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// Segments in the data folder.
    #[default]
    Embedded,
    /// In memory: everything is gone at the end of the process. For tests.
    Memory,
}

/// A node's configuration. Keys are kebab-case; durations are in ms, sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The node's name, stable over restarts.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Where it listens: gRPC, WebSocket, REST, health and metrics share the port.
    pub listen: SocketAddr,
    /// `host:port` under which other nodes reach it.
    pub advertise: String,
    /// Where the store lives.
    pub data_dir: PathBuf,
    /// Addresses of the directory, `http://host:port`.
    pub directory: Vec<String>,
    /// Addresses to dial instead of the advertised ones: private links, NAT.
    #[serde(default)]
    pub dial: BTreeMap<NodeId, String>,
    /// The WebSocket addresses of nodes as clients of this node reach them: what those are told when they are to
    /// go elsewhere. Without any they go by their own lists.
    #[serde(default)]
    pub client_urls: BTreeMap<NodeId, String>,
    /// How long the node waits, when it is told to end, until others have taken its homes; 0: not at all. It ends as soon
    /// as nobody can take any more.
    #[serde(default = "default_hand_over_ms")]
    pub hand_over_ms: u64,
    /// How long sessions have to go elsewhere when the node is told to end; it ends as soon as they have.
    #[serde(default = "default_drain_ms")]
    pub drain_ms: u64,
    /// The log engine.
    #[serde(default)]
    pub engine: Engine,
    /// A user is whoever says a name, and nobody needs an account. Only for loopback addresses. Otherwise each request and
    /// each session shows an access token.
    #[serde(default)]
    pub development: bool,
    /// How long a store's canary may be under way before the lease is no longer renewed.
    #[serde(default = "default_stall_limit_ms")]
    pub stall_limit_ms: u64,
    /// Whether this node watches nodes of other regions, by canaries. It answers those of others in any case.
    #[serde(default = "default_canaries")]
    pub canaries: bool,
    /// How often it sends each of them a canary.
    #[serde(default = "default_canary_interval_ms")]
    pub canary_interval_ms: u64,
    /// How long one may take until it is acked, the connection included.
    #[serde(default = "default_canary_timeout_ms")]
    pub canary_timeout_ms: u64,
    /// What a segment of the store is prepared with, in bytes. Smaller ones let a small disk be used further.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u32,
    /// How often deleted and expired bodies are taken off the disk.
    #[serde(default = "default_reclaim_interval_ms")]
    pub reclaim_interval_ms: u64,
    /// Bytes a second that this node's homes fill copies with that are not in sync, all together.
    #[serde(default = "default_refill_bytes_per_s")]
    pub refill_bytes_per_s: u64,
    /// Whether a damaged store is set aside at the start, and the node filled anew, rather than not started.
    #[serde(default = "default_refill_damaged")]
    pub refill_damaged: bool,
    /// How long an archive is kept for operators once everything in it is put back or refused.
    #[serde(default = "default_archive_keep_ms")]
    pub archive_keep_ms: u64,
    /// The most sessions at a time.
    #[serde(default = "default_sessions_max")]
    pub sessions_max: usize,
    /// Sessions that are let in a second, at the most: when all those of a lost region come, the ones that are here
    /// go on. By default 250 for each processor.
    #[serde(default = "default_sessions_per_s")]
    pub sessions_per_s: u32,
    /// The most unanswered writes of one session.
    #[serde(default = "default_session_writes_max")]
    pub session_writes_max: u32,
    /// Bytes that may wait in one session's queue; what does not fit is read from the log later.
    #[serde(default = "default_session_queue_bytes")]
    pub session_queue_bytes: usize,
    /// Chats that one user may open at once at this node.
    #[serde(default = "default_openings_burst")]
    pub openings_burst: u32,
    /// How many a second after that.
    #[serde(default = "default_openings_per_s")]
    pub openings_per_s: u32,
    /// How often accounts are made, logged in to and looked up.
    #[serde(default)]
    pub account_rates: AccountRates,
    /// How long the names of an account that has ended rest, until others can have them.
    #[serde(default = "default_name_rest_ms")]
    pub name_rest_ms: u64,
    /// The most members of a chat that is homed here; at most 1,024.
    #[serde(default = "default_members_max")]
    pub members_max: usize,
    /// How long a client is heard nothing of before its session ends.
    #[serde(default = "default_session_silence_ms")]
    pub session_silence_ms: u64,
    /// How long it holds that a device is there after its node has said so, in ms: users of a node that is lost are
    /// offline then. All nodes of a deployment have the same.
    #[serde(default = "default_presence_ttl_ms")]
    pub presence_ttl_ms: u64,
    /// Writes that may be parked while a home is chosen or cannot be reached.
    #[serde(default = "default_parked_max")]
    pub parked_max: usize,
    /// How far a follower may be behind before the home takes it out of the in-sync set.
    #[serde(default = "default_isr_lag_ms")]
    pub isr_lag_ms: u64,
    /// How far the in-sync set itself may be behind before the home slows its writers [default: five thirds of
    /// `isr-lag-ms`, so that a follower that can leave has left before].
    #[serde(default)]
    pub isr_pressure_ms: Option<u64>,
    /// After how long a message counts half when it is judged where a chat is written from; 0: chats that are homed
    /// here follow nobody.
    #[serde(default = "default_following_half_life_ms")]
    pub following_half_life_ms: u64,
    /// For how long another region must have written two thirds of a chat before the chat is to be homed there.
    #[serde(default = "default_following_hold_ms")]
    pub following_hold_ms: u64,
    /// The messages, older ones counting less, that a chat must have before it is judged where it is written from.
    #[serde(default = "default_following_weight_min")]
    pub following_weight_min: u32,
}

const fn default_hand_over_ms() -> u64 {
    10_000
}
const fn default_drain_ms() -> u64 {
    10_000
}
const fn default_stall_limit_ms() -> u64 {
    2_000
}
const fn default_canaries() -> bool {
    true
}
const fn default_canary_interval_ms() -> u64 {
    1_000
}
const fn default_canary_timeout_ms() -> u64 {
    2_000
}
const fn default_segment_bytes() -> u32 {
    64 * 1024 * 1024
}
const fn default_reclaim_interval_ms() -> u64 {
    300_000
}
const fn default_refill_bytes_per_s() -> u64 {
    256 * 1024 * 1024
}
const fn default_refill_damaged() -> bool {
    true
}
const fn default_archive_keep_ms() -> u64 {
    7 * 24 * 3_600_000
}
const fn default_sessions_max() -> usize {
    15_000
}
fn default_sessions_per_s() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    250 * u32::try_from(processors).unwrap_or(1)
}
const fn default_session_writes_max() -> u32 {
    1_024
}
const fn default_session_queue_bytes() -> usize {
    128 * 1024
}
const fn default_openings_burst() -> u32 {
    4_096
}
const fn default_openings_per_s() -> u32 {
    32
}
const fn default_name_rest_ms() -> u64 {
    30 * 24 * 3_600_000
}
const fn default_members_max() -> usize {
    limits::MEMBERS_MAX
}
const fn default_session_silence_ms() -> u64 {
    30_000
}
const fn default_presence_ttl_ms() -> u64 {
    30_000
}
const fn default_parked_max() -> usize {
    65_536
}
const fn default_isr_lag_ms() -> u64 {
    3_000
}
const fn default_following_half_life_ms() -> u64 {
    3_600_000
}
const fn default_following_hold_ms() -> u64 {
    3_600_000
}
const fn default_following_weight_min() -> u32 {
    32
}

impl Config {
    /// See the field.
    pub fn isr_pressure_ms(&self) -> u64 {
        self.isr_pressure_ms.unwrap_or(self.isr_lag_ms.saturating_mul(5) / 3)
    }

    /// When a log that is homed here is to be homed elsewhere.
    pub fn follow_when(&self) -> FollowWhen {
        FollowWhen {
            region: self.region.clone(),
            half_life_ms: self.following_half_life_ms,
            hold_ms: self.following_hold_ms,
            weight_min: self.following_weight_min,
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// All mistakes, a sentence each.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut mistakes = Vec::new();
        if self.directory.is_empty() {
            mistakes.push("directory names no address".to_owned());
        }
        if self.development && !self.listen.ip().is_loopback() {
            mistakes.push(format!("development mode is for loopback only, and listen is {}", self.listen));
        }
        if self.advertise.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            mistakes.push(format!("advertise is {:?}, not host:port", self.advertise));
        }
        if let Some(pressure_ms) = self.isr_pressure_ms.filter(|pressure_ms| *pressure_ms <= self.isr_lag_ms)
        {
            let lag_ms = self.isr_lag_ms;
            mistakes
                .push(format!("isr-pressure-ms is {pressure_ms}, not above isr-lag-ms, which is {lag_ms}"));
        }
        for (node, url) in self.client_urls.iter().filter(|(_, url)| !url.starts_with("ws://")) {
            mistakes.push(format!("client-urls: that of {node} is {url:?}, and does not start with ws://"));
        }
        if !(2..=limits::MEMBERS_MAX).contains(&self.members_max) {
            let max = limits::MEMBERS_MAX;
            mistakes.push(format!("members-max is {}, not 2 to {max}", self.members_max));
        }
        let at_least_one = [
            ("sessions-max", self.sessions_max as u64),
            ("sessions-per-s", u64::from(self.sessions_per_s)),
            ("session-writes-max", u64::from(self.session_writes_max)),
            ("session-queue-bytes", self.session_queue_bytes as u64),
            ("openings-burst", u64::from(self.openings_burst)),
            ("openings-per-s", u64::from(self.openings_per_s)),
            ("session-silence-ms", self.session_silence_ms),
            ("presence-ttl-ms", self.presence_ttl_ms),
            ("parked-max", self.parked_max as u64),
            ("stall-limit-ms", self.stall_limit_ms),
            ("canary-interval-ms", self.canary_interval_ms),
            ("canary-timeout-ms", self.canary_timeout_ms),
            ("isr-lag-ms", self.isr_lag_ms),
            ("refill-bytes-per-s", self.refill_bytes_per_s),
            ("reclaim-interval-ms", self.reclaim_interval_ms),
            ("segment-bytes", u64::from(self.segment_bytes)),
            ("following-hold-ms", self.following_hold_ms),
            ("following-weight-min", u64::from(self.following_weight_min)),
        ];
        mistakes.extend(
            at_least_one.iter().filter(|(_, value)| *value == 0).map(|(key, _)| format!("{key} is 0")),
        );
        mistakes.extend(self.account_rates.zeros().map(|key| format!("{key}: a rate of 0 lets nobody in")));
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}
