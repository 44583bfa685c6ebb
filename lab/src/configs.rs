//! The configuration files of the children.

use crate::options::Overlay;
use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};
use toml::{Table, Value, toml};
use types::{NodeId, RegionId};

/// How long the sessions of a node that is told to end have to go elsewhere.
const NODE_DRAIN: Duration = Duration::from_secs(2);

/// What the directory is told.
pub(crate) struct ForDirectory<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: &'a Path,
    pub(crate) regions: &'a [RegionId],
    pub(crate) partitions_per_region: u32,
    pub(crate) lease_ttl: Duration,
    pub(crate) dial: &'a BTreeMap<NodeId, SocketAddr>,
    /// As which replica it runs, if the directory is a group.
    pub(crate) replica: Option<ForReplica<'a>>,
}

/// What a replica of the directory is told besides.
pub(crate) struct ForReplica<'a> {
    pub(crate) id: u64,
    pub(crate) region: &'a str,
    /// Where all of them listen.
    pub(crate) peers: &'a BTreeMap<u64, SocketAddr>,
    /// Where this one reaches the others.
    pub(crate) dial: &'a BTreeMap<u64, SocketAddr>,
    /// Between any two of them.
    pub(crate) longest_rtt: Duration,
}

/// What a node is told.
pub(crate) struct ForNode<'a> {
    pub(crate) node: &'a NodeId,
    pub(crate) region: &'a RegionId,
    pub(crate) listen: SocketAddr,
    pub(crate) data_dir: &'a Path,
    /// The nearest first.
    pub(crate) directory: &'a [SocketAddr],
    pub(crate) dial: &'a BTreeMap<NodeId, SocketAddr>,
    /// Where clients near it reach the other nodes.
    pub(crate) clients: &'a BTreeMap<NodeId, SocketAddr>,
}

/// What a replicator is told.
pub(crate) struct ForReplicator<'a> {
    pub(crate) region: &'a RegionId,
    pub(crate) listen: SocketAddr,
    /// The nearest first.
    pub(crate) directory: &'a [SocketAddr],
    pub(crate) dial: &'a BTreeMap<NodeId, SocketAddr>,
}

impl ForDirectory<'_> {
    pub(crate) fn table(&self, overlay: &Overlay) -> Table {
        let mut table = match &self.replica {
            Some(replica) => replica.table(self),
            None => toml! { automatic-failover = true },
        };
        table.insert("listen".to_owned(), text(self.listen));
        table.insert("data-dir".to_owned(), text(self.data_dir.display()));
        table.insert("regions".to_owned(), Value::Array(self.regions.iter().map(text).collect()));
        table.insert("partitions-per-region".to_owned(), self.partitions_per_region.into());
        table.insert("lease-ttl-ms".to_owned(), ms(self.lease_ttl));
        table.insert("renew-interval-ms".to_owned(), ms(self.lease_ttl / 4));
        table.insert("silence-ms".to_owned(), ms(self.lease_ttl * 3 / 4));
        table.insert("canary-failing-ms".to_owned(), ms((self.lease_ttl / 2).max(CANARY_FAILING_MIN)));
        table.insert("dial".to_owned(), dial(self.dial));
        overlaid(table, &overlay.directory)
    }
}

/// Canaries fail for this long before they make a suspect; or for two renewals, where those come seldom.
const CANARY_FAILING_MIN: Duration = Duration::from_secs(3);

/// Replicas that hear no leader for a quarter of a lease choose another one; or for five times the longest round
/// trip between them, if that is longer.
const ELECTION_MIN: Duration = Duration::from_millis(500);

impl ForReplica<'_> {
    fn table(&self, directory: &ForDirectory<'_>) -> Table {
        let mut table = Table::new();
        table.insert("replica-id".to_owned(), number(self.id));
        table.insert("region".to_owned(), text(self.region));
        table.insert("advertise".to_owned(), text(directory.listen));
        table.insert("peers".to_owned(), replicas(self.peers));
        table.insert("dial-replicas".to_owned(), replicas(self.dial));
        table.insert(
            "election-ms".to_owned(),
            ms((directory.lease_ttl / 4).max(ELECTION_MIN).max(self.longest_rtt * 5)),
        );
        table
    }
}

impl ForNode<'_> {
    pub(crate) fn table(&self, overlay: &Overlay) -> Table {
        let mut table = toml! { development = true };
        table.insert("node".to_owned(), text(self.node));
        table.insert("region".to_owned(), text(self.region));
        table.insert("listen".to_owned(), text(self.listen));
        table.insert("advertise".to_owned(), text(self.listen));
        table.insert("data-dir".to_owned(), text(self.data_dir.display()));
        table.insert("directory".to_owned(), urls(self.directory));
        table.insert("dial".to_owned(), dial(self.dial));
        table.insert("drain-ms".to_owned(), ms(NODE_DRAIN));
        let url = |address: &SocketAddr| Value::String(format!("ws://{address}/v1/ws"));
        let urls = self.clients.iter().map(|(node, address)| (node.to_string(), url(address)));
        table.insert("client-urls".to_owned(), Value::Table(urls.collect()));
        let table = overlaid(table, &overlay.node);
        match overlay.only_node.get(self.node) {
            Some(over) => overlaid(table, over),
            None => table,
        }
    }
}

impl ForReplicator<'_> {
    pub(crate) fn table(&self, overlay: &Overlay) -> Table {
        let mut table = Table::new();
        table.insert("region".to_owned(), text(self.region));
        table.insert("listen".to_owned(), text(self.listen));
        table.insert("directory".to_owned(), urls(self.directory));
        table.insert("dial".to_owned(), dial(self.dial));
        overlaid(table, &overlay.replicator)
    }
}

fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn urls(addresses: &[SocketAddr]) -> Value {
    Value::Array(addresses.iter().map(|address| Value::String(format!("http://{address}"))).collect())
}

fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn replicas(addresses: &BTreeMap<u64, SocketAddr>) -> Value {
    let one = |(replica, address): (&u64, &SocketAddr)| {
        let entries = [("replica", number(*replica)), ("address", text(address))];
        Value::Table(entries.map(|(key, value)| (key.to_owned(), value)).into_iter().collect())
    };
    Value::Array(addresses.iter().map(one).collect())
}

fn ms(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn dial(addresses: &BTreeMap<NodeId, SocketAddr>) -> Value {
    Value::Table(addresses.iter().map(|(node, address)| (node.to_string(), text(address))).collect())
}

fn overlaid(mut base: Table, over: &Table) -> Table {
    for (key, value) in over {
        let merged = match (base.remove(key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => Value::Table(overlaid(inner, over)),
            (_, value) => value.clone(),
        };
        base.insert(key.clone(), merged);
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_wins_key_by_key_inside_tables_too() {
        let base = toml! {
            a = 1
            [dial]
            x = "1"
            y = "2"
        };
        let over = toml! {
            b = 2
            [dial]
            y = "3"
        };
        let expected = toml! {
            a = 1
            b = 2
            [dial]
            x = "1"
            y = "3"
        };
        assert_eq!(overlaid(base, &over), expected);
    }

    #[test]
    fn whatever_the_lease_canaries_and_silence_outlast_two_renewals() {
        for lease_ms in [1_000, 3_000, 4_000, 8_000, 60_000] {
            let directory = ForDirectory {
                listen: SocketAddr::from(([127, 0, 0, 1], 1)),
                data_dir: Path::new("data"),
                regions: &[],
                partitions_per_region: 1,
                lease_ttl: Duration::from_millis(lease_ms),
                dial: &BTreeMap::new(),
                replica: None,
            };
            let table = directory.table(&Overlay::default());
            let ms = |key: &str| table[key].as_integer().expect("a number of milliseconds");
            for key in ["canary-failing-ms", "silence-ms"] {
                assert!(ms(key) >= 2 * ms("renew-interval-ms"), "{key} for a lease of {lease_ms} ms");
            }
        }
    }
}
