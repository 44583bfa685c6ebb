//! How far places are from each other: a table of round trips that anyone can edit.

use crate::place::Place;
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The longest round trip that a table may name.
const RTT_MAX_MS: f64 = 60_000.0;

const BUILT_IN: &str = include_str!("../wan.toml");

/// Round trips between pairs of places. The order in a pair does not matter.
#[derive(Debug, Clone, PartialEq)]
pub struct WanTable {
    rtt: BTreeMap<(Place, Place), Duration>,
    default_rtt: Duration,
    default_directory_rtt: Duration,
    jitter: Duration,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("WAN table {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no TOML, or has keys that no table has.
    #[error("WAN table: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Everything that is wrong with its values.
    #[error("WAN table: {}", .0.join("; "))]
    Values(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default = "default_rtt_ms")]
    default_rtt_ms: f64,
    #[serde(default = "default_directory_rtt_ms")]
    default_directory_rtt_ms: f64,
    #[serde(default)]
    jitter_ms: f64,
    #[serde(default)]
    rtt_ms: BTreeMap<String, f64>,
}

fn default_rtt_ms() -> f64 {
    120.0
}

fn default_directory_rtt_ms() -> f64 {
    40.0
}

impl Default for WanTable {
    /// The table in `lab/wan.toml`.
    fn default() -> Self {
        Self::parse(BUILT_IN).expect("the built-in table is tested")
    }
}

impl WanTable {
    /// No distance at all: links pass bytes on at once, and can still be cut.
    pub fn none() -> Self {
        let zero = Duration::ZERO;
        Self { rtt: BTreeMap::new(), default_rtt: zero, default_directory_rtt: zero, jitter: zero }
    }

    /// Reads a table from a file.
    ///
    /// # Errors
    /// [`TableError`] names the file, the line, or every wrong value.
    pub fn load(path: &Path) -> Result<Self, TableError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TableError::Unreadable { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// Reads a table from text.
    ///
    /// # Errors
    /// As [`WanTable::load`].
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let file: File = toml::from_str(text)?;
        let mut wrong = Vec::new();
        let default_rtt = rtt("default-rtt-ms", file.default_rtt_ms, &mut wrong);
        let default_directory_rtt =
            rtt("default-directory-rtt-ms", file.default_directory_rtt_ms, &mut wrong);
        let jitter = rtt("jitter-ms", file.jitter_ms, &mut wrong);
        let mut pairs = BTreeMap::new();
        for (key, ms) in &file.rtt_ms {
            let value = rtt(key, *ms, &mut wrong);
            match parse_pair(key) {
                Ok(pair) => {
                    if pairs.insert(pair, value).is_some() {
                        wrong.push(format!("{key:?} is named twice"));
                    }
                }
                Err(why) => wrong.push(why),
            }
        }
        if !wrong.is_empty() {
            return Err(TableError::Values(wrong));
        }
        Ok(Self { rtt: pairs, default_rtt, default_directory_rtt, jitter })
    }

    /// The round trip between two places; zero from a place to itself.
    pub fn rtt(&self, a: &Place, b: &Place) -> Duration {
        if a == b {
            return Duration::ZERO;
        }
        let default = if matches!((a, b), (Place::Region(_), Place::Region(_))) {
            self.default_rtt
        } else {
            self.default_directory_rtt
        };
        self.rtt.get(&ordered(a.clone(), b.clone())).copied().unwrap_or(default)
    }

    /// By how much a chunk may be later than the delay says, in each direction.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }
}

fn ordered(a: Place, b: Place) -> (Place, Place) {
    if a <= b { (a, b) } else { (b, a) }
}

fn parse_pair(key: &str) -> Result<(Place, Place), String> {
    let names: Vec<&str> = key.split_whitespace().collect();
    let &[a, b] = names.as_slice() else {
        return Err(format!("{key:?} is no pair: write two places with a space between them"));
    };
    let (a, b): (Place, Place) =
        (a.parse().map_err(|e| format!("{e}"))?, b.parse().map_err(|e| format!("{e}"))?);
    if a == b {
        return Err(format!("{key:?} names one place twice"));
    }
    Ok(ordered(a, b))
}

fn rtt(key: &str, ms: f64, wrong: &mut Vec<String>) -> Duration {
    if (0.0..=RTT_MAX_MS).contains(&ms) {
        return Duration::from_secs_f64(ms / 1000.0);
    }
    wrong.push(format!("{key} = {ms} is not between 0 and {RTT_MAX_MS} ms"));
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        name.parse().expect("a place")
    }

    #[test]
    fn the_built_in_table_has_the_three_regions() {
        let table = WanTable::default();
        let rtt = |a, b| table.rtt(&place(a), &place(b)).as_millis();
        assert_eq!(rtt("us-east", "eu-west"), 70);
        assert_eq!(rtt("eu-west", "us-east"), 70);
        assert_eq!(rtt("us-east", "ap-south"), 197);
        assert_eq!(rtt("ap-south", "eu-west"), 122);
        assert_eq!(rtt("directory", "us-east"), 20);
        assert_eq!(rtt("us-east", "us-east"), 0);
        assert_eq!(rtt("us-east", "mars"), 120, "the default of two regions");
        assert_eq!(rtt("mars", "directory"), 40, "the default of a region and the directory");
    }

    #[test]
    fn all_mistakes_of_a_table_are_named_together() {
        let text = "[rtt-ms]\n\"a b\" = -1\n\"b a\" = 2\n\"c\" = 3\n\"d d\" = 4\n\"E f\" = 5\n";
        let error = WanTable::parse(text).expect_err("five mistakes").to_string();
        for part in
            ["a b = -1", "\"b a\" is named twice", "\"c\" is no pair", "\"d d\" names one", "region \"E\""]
        {
            assert!(error.contains(part), "{part:?} in {error}");
        }
        assert!(matches!(WanTable::parse("rtt = 1"), Err(TableError::Syntax(_))));
    }
}
