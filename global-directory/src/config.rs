//! The configuration of a directory process.

use crate::{
    bounds,
    command::Deployment,
    controller::{self, Failback, FollowSettings},
    raft::{ReplicaId, Settings},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};
use types::{NodeId, RegionId, limits};

/// What a directory process is started with. Keys are in kebab case; times are in ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where it serves gRPC, `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// The folder of its rows; made if it is not there.
    pub data_dir: PathBuf,
    /// The regions of the deployment. Fixed at birth.
    pub regions: Vec<RegionId>,
    /// How many partitions prefer each region. Fixed at birth.
    #[serde(default = "default_partitions_per_region")]
    pub partitions_per_region: u32,
    /// How long a node may act as home after it sent the last renewal that was acknowledged.
    #[serde(default = "default_lease_ttl_ms")]
    pub lease_ttl_ms: u32,
    /// How often nodes are told to renew.
    #[serde(default = "default_renew_interval_ms")]
    pub renew_interval_ms: u32,
    /// A node that has not renewed for this long is suspect.
    #[serde(default = "default_silence_ms")]
    pub silence_ms: u32,
    /// A node at which a majority of the observers outside its region have had no canary acked for this long is
    /// suspect, even if it renews.
    #[serde(default = "default_canary_failing_ms")]
    pub canary_failing_ms: u32,
    /// Whether canaries end homes. They are shown in any case.
    #[serde(default = "default_canary_failover")]
    pub canary_failover: bool,
    /// A node that has been gone for this long has its copies replaced by other nodes of its region, or by
    /// another region where there is one without a copy.
    #[serde(default = "default_replace_replicas_after_ms")]
    pub replace_replicas_after_ms: u32,
    /// A node that has been there for this long takes over its share of the copies of its region.
    #[serde(default = "default_rebalance_after_ms")]
    pub rebalance_after_ms: u32,
    /// How many partitions a node is filled with at a time, where copies are replaced or spread anew.
    #[serde(default = "default_fills_per_node_max")]
    pub fills_per_node_max: u32,
    /// Homes that a node can carry: where a failover would need more room than there is, it stops.
    #[serde(default = "default_homes_per_node_max")]
    pub homes_per_node_max: u32,
    /// Whether partitions go back to the regions that they prefer once those are well again, by planned moves.
    /// An operator can switch it off for all regions or one, whatever is said here.
    #[serde(default = "default_failback")]
    pub failback: bool,
    /// For how long a region must have been well, and a partition where it is, before that partition goes back.
    #[serde(default = "default_failback_cooldown_ms")]
    pub failback_cooldown_ms: u32,
    /// Whether chats follow those who write them. An operator can switch it off, whatever is said here.
    #[serde(default = "default_following")]
    pub following: bool,
    /// For how long a chat that followed stays where it is.
    #[serde(default = "default_following_cooldown_ms")]
    pub following_cooldown_ms: u32,
    /// Chats a minute that may follow, all together.
    #[serde(default = "default_following_per_minute")]
    pub following_per_minute: u32,
    /// Chats a minute that may follow to one region.
    #[serde(default = "default_following_region_per_minute")]
    pub following_region_per_minute: u32,
    /// Whether silence alone ends a home. Where it is not set, three voters in three failure domains do, and
    /// fewer do not: a directory that is cut off from a region that works cannot tell the difference. Nothing
    /// that is `replicated` is lost even then, but the region's homes move. `true` says that silence is enough
    /// even so, `false` that it never is.
    #[serde(default)]
    pub automatic_failover: Option<bool>,
    /// Addresses to dial in place of those that nodes announce.
    #[serde(default)]
    pub dial: BTreeMap<NodeId, String>,
    /// This replica of the directory: a number from 1 that no other one ever had. Without it the directory is
    /// one process.
    #[serde(default)]
    pub replica_id: Option<u64>,
    /// The failure domain that this replica stands in.
    #[serde(default)]
    pub region: Option<RegionId>,
    /// `host:port` under which the other replicas and their clients reach this one.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The replicas that a new deployment begins with, this one among them.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Whether this replica waits to be added to a group that is there already.
    #[serde(default)]
    pub join: bool,
    /// Addresses to dial in place of those that replicas announce.
    #[serde(default)]
    pub dial_replicas: Vec<Peer>,
    /// Replicas that hear nothing of their leader for this long choose another one. At least five times the
    /// longest round trip between two of them.
    #[serde(default = "default_election_ms")]
    pub election_ms: u32,
}

/// A replica of the directory, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Its number.
    pub replica: ReplicaId,
    /// `host:port`
    pub address: String,
}

const fn default_failback() -> bool {
    true
}

const fn default_failback_cooldown_ms() -> u32 {
    10 * 60 * 1_000
}

const fn default_following() -> bool {
    true
}

const fn default_following_cooldown_ms() -> u32 {
    6 * 60 * 60 * 1_000
}

const fn default_following_per_minute() -> u32 {
    60
}

const fn default_following_region_per_minute() -> u32 {
    30
}

const fn default_partitions_per_region() -> u32 {
    64
}

const fn default_lease_ttl_ms() -> u32 {
    4_000
}

const fn default_renew_interval_ms() -> u32 {
    1_000
}

const fn default_silence_ms() -> u32 {
    3_000
}

const fn default_canary_failing_ms() -> u32 {
    3_000
}

const fn default_canary_failover() -> bool {
    true
}

const fn default_replace_replicas_after_ms() -> u32 {
    300_000
}

const fn default_rebalance_after_ms() -> u32 {
    30_000
}

const fn default_fills_per_node_max() -> u32 {
    8
}

const fn default_homes_per_node_max() -> u32 {
    bounds::PARTITIONS_MAX
}

const fn default_election_ms() -> u32 {
    1_000
}

impl Config {
    /// A configuration with every default.
    pub const fn new(listen: SocketAddr, data_dir: PathBuf, regions: Vec<RegionId>) -> Self {
        Self {
            listen,
            data_dir,
            regions,
            partitions_per_region: default_partitions_per_region(),
            lease_ttl_ms: default_lease_ttl_ms(),
            renew_interval_ms: default_renew_interval_ms(),
            silence_ms: default_silence_ms(),
            canary_failing_ms: default_canary_failing_ms(),
            canary_failover: default_canary_failover(),
            replace_replicas_after_ms: default_replace_replicas_after_ms(),
            rebalance_after_ms: default_rebalance_after_ms(),
            fills_per_node_max: default_fills_per_node_max(),
            homes_per_node_max: default_homes_per_node_max(),
            failback: default_failback(),
            failback_cooldown_ms: default_failback_cooldown_ms(),
            following: default_following(),
            following_cooldown_ms: default_following_cooldown_ms(),
            following_per_minute: default_following_per_minute(),
            following_region_per_minute: default_following_region_per_minute(),
            automatic_failover: None,
            dial: BTreeMap::new(),
            replica_id: None,
            region: None,
            advertise: None,
            peers: Vec::new(),
            join: false,
            dial_replicas: Vec::new(),
            election_ms: default_election_ms(),
        }
    }

    /// What it says about the controller.
    pub(crate) fn controller(&self) -> controller::Settings {
        controller::Settings {
            automatic_failover: false,
            silence_ms: u64::from(self.silence_ms),
            canary_failing_ms: u64::from(self.canary_failing_ms),
            canary_failover: self.canary_failover,
            renew_interval_ms: u64::from(self.renew_interval_ms),
            replace_after_ms: u64::from(self.replace_replicas_after_ms),
            rebalance_after_ms: u64::from(self.rebalance_after_ms),
            fills_per_node_max: self.fills_per_node_max as usize,
            homes_per_node_max: self.homes_per_node_max as usize,
            failback: Failback { on: self.failback, cooldown_ms: u64::from(self.failback_cooldown_ms) },
        }
    }

    /// How chats follow those who write them.
    pub(crate) fn following(&self) -> FollowSettings {
        FollowSettings {
            on: self.following,
            cooldown_ms: u64::from(self.following_cooldown_ms),
            per_minute: self.following_per_minute,
            region_per_minute: self.following_region_per_minute,
        }
    }

    /// The deployment that it names.
    pub(crate) fn deployment(&self) -> Deployment {
        Deployment { regions: self.regions.clone(), partitions_per_region: self.partitions_per_region }
    }

    /// The replica that it names, if it is one. Call it on a configuration that was validated.
    pub(crate) fn replica(&self) -> Option<Settings> {
        Some(Settings {
            replica: ReplicaId::new(self.replica_id?),
            region: self.region.clone()?,
            advertise: self.advertise.clone()?,
            peers: self.peers.clone(),
            dial: self.dial_replicas.iter().map(|peer| (peer.replica, peer.address.clone())).collect(),
            election: Duration::from_millis(u64::from(self.election_ms)),
        })
    }

    /// Checks everything, and reports all mistakes together.
    ///
    /// # Errors
    /// One sentence per mistake.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut mistakes = Vec::new();
        let mut wrong = |is_wrong: bool, mistake: String| {
            if is_wrong {
                mistakes.push(mistake);
            }
        };
        wrong(self.regions.is_empty(), "regions is empty: name at least one".into());
        wrong(
            self.regions.len() > limits::REGIONS_MAX,
            format!("regions has {} names: at most {} are allowed", self.regions.len(), limits::REGIONS_MAX),
        );
        let mut seen = BTreeSet::new();
        for region in &self.regions {
            wrong(!seen.insert(region), format!("regions names {region} twice"));
        }
        wrong(
            !(1..=bounds::PARTITIONS_PER_REGION_MAX).contains(&self.partitions_per_region),
            format!(
                "partitions-per-region is {}: it lies between 1 and {}",
                self.partitions_per_region,
                bounds::PARTITIONS_PER_REGION_MAX
            ),
        );
        let partitions = u64::from(self.partitions_per_region) * self.regions.len() as u64;
        wrong(
            partitions > u64::from(bounds::PARTITIONS_MAX),
            format!(
                "partitions-per-region and regions make {partitions} partitions: at most {} are allowed",
                bounds::PARTITIONS_MAX
            ),
        );
        wrong(self.renew_interval_ms == 0, "renew-interval-ms is 0: it is at least 1".into());
        wrong(
            self.silence_ms < self.renew_interval_ms.saturating_mul(2),
            format!(
                "silence-ms is {}: it is at least twice renew-interval-ms ({}), or one late renewal is a failure",
                self.silence_ms, self.renew_interval_ms
            ),
        );
        wrong(
            self.canary_failing_ms < self.renew_interval_ms.saturating_mul(2),
            format!(
                "canary-failing-ms is {}: it is at least twice renew-interval-ms ({}), which is how old a report gets",
                self.canary_failing_ms, self.renew_interval_ms
            ),
        );
        wrong(
            self.lease_ttl_ms < self.silence_ms,
            format!(
                "lease-ttl-ms is {}: it is at least silence-ms ({}), or leases lapse before anyone is suspect",
                self.lease_ttl_ms, self.silence_ms
            ),
        );
        for (value, key) in [
            (self.fills_per_node_max, "fills-per-node-max"),
            (self.homes_per_node_max, "homes-per-node-max"),
            (self.following_cooldown_ms, "following-cooldown-ms"),
            (self.following_per_minute, "following-per-minute"),
            (self.following_region_per_minute, "following-region-per-minute"),
        ] {
            wrong(value == 0, format!("{key} is 0: it is at least 1"));
        }
        for (node, address) in &self.dial {
            if let Err(why) = check_address(address) {
                wrong(true, format!("dial of {node} is {address:?}: {why}"));
            }
        }
        self.check_replica(&mut mistakes);
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

impl Config {
    fn check_replica(&self, mistakes: &mut Vec<String>) {
        let mut wrong = |is_wrong: bool, mistake: String| {
            if is_wrong {
                mistakes.push(mistake);
            }
        };
        for (key, peers) in [("peers", &self.peers), ("dial-replicas", &self.dial_replicas)] {
            let mut seen = BTreeSet::new();
            for Peer { replica, address } in peers {
                wrong(replica.get() == 0, format!("{key} names replica 0: they are numbered from 1"));
                wrong(!seen.insert(replica), format!("{key} names replica {replica} twice"));
                if let Err(why) = check_address(address) {
                    wrong(true, format!("{key} has {address:?} for replica {replica}: {why}"));
                }
            }
        }
        wrong(
            self.peers.len() > bounds::VOTERS_MAX,
            format!("peers has {} names: at most {} are allowed", self.peers.len(), bounds::VOTERS_MAX),
        );
        wrong(
            self.election_ms < bounds::ELECTION_MIN_MS,
            format!("election-ms is {}: it is at least {}", self.election_ms, bounds::ELECTION_MIN_MS),
        );
        let Some(id) = self.replica_id else {
            let is_one =
                self.region.is_none() && self.advertise.is_none() && self.peers.is_empty() && !self.join;
            wrong(
                !is_one,
                "region, advertise, peers and join are for a replica: replica-id is missing".into(),
            );
            return;
        };
        wrong(id == 0, "replica-id is 0: replicas are numbered from 1".into());
        wrong(self.region.is_none(), "region is missing: it says where this replica stands".into());
        match &self.advertise {
            None => wrong(true, "advertise is missing: it says where other replicas reach this one".into()),
            Some(address) => {
                if let Err(why) = check_address(address) {
                    wrong(true, format!("advertise is {address:?}: {why}"));
                }
            }
        }
        let is_named = self.peers.iter().any(|peer| peer.replica.get() == id);
        wrong(self.join && !self.peers.is_empty(), "join and peers exclude each other".into());
        wrong(!self.join && !is_named, format!("peers does not name this replica, {id}; or is join meant?"));
    }
}

/// Checks a `host:port`.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn check_address(address: &str) -> Result<(), &'static str> {
    if address.len() > bounds::ADDRESS_MAX_BYTES {
        return Err("it is too long");
    }
    let Some((host, port)) = address.rsplit_once(':') else { return Err("it is not host:port") };
    if host.is_empty() || !address.bytes().all(|byte| byte.is_ascii_graphic()) || address.contains(['/', '@'])
    {
        return Err("it is not host:port");
    }
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(()),
        Ok(_) | Err(_) => Err("its port is not between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).expect("a valid name")
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let mut config = Config::new(listen, "data".into(), vec![region("us-east"), region("us-east")]);
        config.partitions_per_region = 0;
        config.silence_ms = 1_500;
        config.lease_ttl_ms = 1_000;
        config.dial.insert(NodeId::new("us-east-1").expect("a valid name"), "nowhere".into());
        let mistakes = config.validate().expect_err("wrong in five ways");
        assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
        assert!(mistakes.contains(&"dial of us-east-1 is \"nowhere\": it is not host:port".to_owned()));
    }

    #[test]
    fn the_defaults_are_sound() {
        let listen = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(Config::new(listen, "data".into(), vec![region("us-east")]).validate(), Ok(()));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:7401", "[::1]:80", "node.example:65535"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in ["", "host", ":80", "host:0", "host:70000", "http://host:80", "a b:80", "u@host:80"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
