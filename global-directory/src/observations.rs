//! What nodes have said of nodes of other regions: how their canaries fare there.
//!
//! Kept in memory by whoever hears renewals, like the stamps of leases, and as little to be trusted after a change
//! of leader: each report has the time at which it was heard, and whoever judges leaves out what was heard before
//! it began to listen. A report replaces the one before it.

use std::collections::BTreeMap;
use types::Home;

/// The last report of each observer.
#[derive(Debug, Clone, Default)]
pub struct Observations(BTreeMap<Home, Report>);

/// What one observer told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it was heard.
    pub heard_ms: u64,
    /// For how long it has failed at each boot that it watches, in ms; 0: it does not.
    pub failing_ms: BTreeMap<Home, u64>,
}

impl Observations {
    /// Nothing was told yet.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes what an observer has told with a renewal.
    pub fn take(&mut self, observer: &Home, failing_ms: BTreeMap<Home, u64>, now_ms: u64) {
        self.0.insert(observer.clone(), Report { heard_ms: now_ms, failing_ms });
    }

    /// The last report of an observer.
    pub fn of(&self, observer: &Home) -> Option<&Report> {
        self.0.get(observer)
    }

    /// Whether some observer fails somewhere.
    pub fn tell_of_failures(&self) -> bool {
        self.0.values().any(|report| report.failing_ms.values().any(|failing_ms| *failing_ms > 0))
    }

    /// Drops the reports of those who are heard no more.
    pub fn retain(&mut self, wanted: impl Fn(&Home) -> bool) {
        self.0.retain(|observer, _| wanted(observer));
    }
}
