//! What a replicator is told at its start.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};
use types::{NodeId, RegionId};

/// A replicator's configuration. Keys are kebab-case.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The region whose nodes it feeds.
    pub region: RegionId,
    /// Where it answers `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// Addresses of the directory, `http://host:port`; tried in turn.
    pub directory: Vec<String>,
    /// Addresses, `host:port`, to dial instead of the advertised ones: private links, NAT.
    #[serde(default)]
    pub dial: BTreeMap<NodeId, String>,
}

impl Config {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// All mistakes, a sentence each.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut mistakes = Vec::new();
        if self.directory.is_empty() {
            mistakes.push("directory names no address".to_owned());
        }
        for address in &self.directory {
            if let Err(error) = crate::endpoint::endpoint(address) {
                mistakes.push(format!("directory address {address:?}: {error}"));
            }
        }
        for (node, address) in &self.dial {
            if let Err(error) = crate::endpoint::endpoint(address) {
                mistakes.push(format!("dial address {address:?} of {node}: {error}"));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_reported_together() {
        let config = Config {
            region: RegionId::new("us-east").expect("a valid name"),
            listen: ([127, 0, 0, 1], 0).into(),
            directory: vec!["http://a b".to_owned()],
            dial: BTreeMap::from([(NodeId::new("eu-west-1").expect("a valid name"), "c d:1".to_owned())]),
        };
        assert_eq!(config.validate().expect_err("two mistakes").len(), 2);
    }
}
