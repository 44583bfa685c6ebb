//! What one node has found out of nodes of other regions. Pure.
//!
//! Canaries overlap: one that is unanswered holds up none behind it. A node *fails* from when the first canary
//! was sent that was not acked, until one is acked that was sent later.
//!
//! An observer that stood still cannot tell its own silence from that of others: it forgets, and begins anew.

use super::OBSERVERS_PER_REGION;
use std::collections::BTreeMap;
use types::{Home, NodeId, NodeRow, Placement, RegionId};

/// An observer that has not looked for this much longer than it meant to stood still, in ms.
const STALL_MS: u64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Observer {
    me: NodeId,
    region: RegionId,
    interval_ms: u64,
    looked_ms: Option<u64>,
    /// Canaries that were sent before tell nothing.
    trusts_from_ms: u64,
    watched: BTreeMap<Home, Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// When the latest one was sent that was acked.
    acked_ms: Option<u64>,
    /// When the first one was sent behind it that was not.
    failing_from_ms: Option<u64>,
}

impl Observer {
    pub(crate) const fn new(me: NodeId, region: RegionId, interval_ms: u64) -> Self {
        Self { me, region, interval_ms, looked_ms: None, trusts_from_ms: 0, watched: BTreeMap::new() }
    }

    /// Whom to send a canary now.
    pub(crate) fn look(&mut self, now_ms: u64, placement: &Placement) -> Vec<Home> {
        let is_late =
            |looked_ms: u64| now_ms.saturating_sub(looked_ms) > self.interval_ms.saturating_add(STALL_MS);
        if self.looked_ms.is_none_or(is_late) {
            self.trusts_from_ms = now_ms;
            self.watched.clear();
        }
        self.looked_ms = Some(now_ms);
        let targets = self.targets(placement);
        self.watched.retain(|boot, _| targets.contains(boot));
        for boot in &targets {
            self.watched.entry(boot.clone()).or_default();
        }
        targets
    }

    /// The nodes of other regions that it is for this node to watch: each has its share of a region's nodes.
    fn targets(&self, placement: &Placement) -> Vec<Home> {
        let own = placement.nodes().filter(|node| node.live && node.region == self.region);
        let own: Vec<&NodeId> = own.map(|node| &node.node).collect();
        let Some(place) = own.iter().position(|node| **node == self.me) else { return Vec::new() };
        let is_mine = |node: &&NodeRow| {
            let first = node.node.as_str().bytes().fold(0_usize, |sum, byte| sum + usize::from(byte));
            let behind = (place + own.len() - first % own.len()) % own.len();
            behind < OBSERVERS_PER_REGION
        };
        let others = placement.nodes().filter(|node| node.live && node.region != self.region);
        others
            .filter(is_mine)
            .map(|node| Home { node: node.node.clone(), incarnation: node.incarnation })
            .collect()
    }

    /// A canary that was sent at `sent_ms` was acked.
    pub(crate) fn acked(&mut self, boot: &Home, sent_ms: u64) {
        let Some(watched) = self.watched.get_mut(boot).filter(|_| sent_ms >= self.trusts_from_ms) else {
            return;
        };
        watched.acked_ms = watched.acked_ms.max(Some(sent_ms));
        // The failures behind it are not known any more by their times: the next one counts.
        watched.failing_from_ms = watched.failing_from_ms.filter(|from_ms| *from_ms > sent_ms);
    }

    /// A canary that was sent at `sent_ms` was not acked in time, or refused.
    pub(crate) fn failed(&mut self, boot: &Home, sent_ms: u64) {
        let Some(watched) = self.watched.get_mut(boot).filter(|_| sent_ms >= self.trusts_from_ms) else {
            return;
        };
        if watched.acked_ms.is_none_or(|acked_ms| acked_ms < sent_ms) {
            let from_ms = watched.failing_from_ms.map_or(sent_ms, |from_ms| from_ms.min(sent_ms));
            watched.failing_from_ms = Some(from_ms);
        }
    }

    /// For how long each node has been failing; 0 for one that is not. Nodes of which nothing is known yet are
    /// left out, and so is everything while this node stands still.
    pub(crate) fn report(&self, now_ms: u64) -> Vec<(Home, u64)> {
        let known = self.watched.iter().filter_map(|(boot, watched)| {
            let failing_ms = match (watched.failing_from_ms, watched.acked_ms) {
                (Some(from_ms), _) => now_ms.saturating_sub(from_ms).max(1),
                (None, Some(_)) => 0,
                (None, None) => return None,
            };
            Some((boot.clone(), failing_ms))
        });
        let looked_ms = self.looked_ms.unwrap_or_default();
        let stands_still = now_ms.saturating_sub(looked_ms) > self.interval_ms.saturating_add(STALL_MS);
        if stands_still { Vec::new() } else { known.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Incarnation, PlacementDelta, Retirement, StoreId};

    fn node(name: &str) -> NodeRow {
        let (region, _) = name.rsplit_once('-').expect("region and number");
        NodeRow {
            node: NodeId::new(name).expect("a valid name"),
            region: RegionId::new(region).expect("a valid name"),
            address: "127.0.0.1:1".into(),
            incarnation: Incarnation::new(1),
            store: StoreId::from_bytes([1; 16]),
            live: true,
            retirement: Retirement::Serving,
            keys: Vec::new(),
        }
    }

    fn placement(names: &[&str]) -> Placement {
        let mut placement = Placement::default();
        let nodes = names.iter().map(|name| node(name)).collect();
        let delta =
            PlacementDelta { from_version: 0, to_version: 1, regions: vec![], nodes, partitions: vec![] };
        assert!(placement.apply(delta));
        placement
    }

    fn boot(name: &str) -> Home {
        Home { node: node(name).node, incarnation: Incarnation::new(1) }
    }

    fn observer(name: &str) -> Observer {
        Observer::new(node(name).node, node(name).region, 1_000)
    }

    #[test]
    fn a_node_fails_from_the_first_canary_that_was_not_acked_until_a_later_one_is() {
        let (mut eye, placement) = (observer("eu-1"), placement(&["eu-1", "us-1"]));
        assert_eq!(eye.look(1_000, &placement), [boot("us-1")]);
        assert_eq!(eye.report(1_500), [], "nothing is known yet");
        eye.acked(&boot("us-1"), 1_000);
        assert_eq!(eye.report(1_500), [(boot("us-1"), 0)]);
        for at_ms in [2_000, 3_000, 4_000] {
            eye.look(at_ms, &placement);
        }
        eye.failed(&boot("us-1"), 3_000);
        eye.failed(&boot("us-1"), 2_000);
        assert_eq!(eye.report(4_200), [(boot("us-1"), 2_200)], "they are counted from when they were sent");
        eye.acked(&boot("us-1"), 1_500);
        assert_eq!(eye.report(4_200), [(boot("us-1"), 2_200)], "an ack of before says nothing");
        eye.acked(&boot("us-1"), 4_000);
        assert_eq!(eye.report(4_300), [(boot("us-1"), 0)]);
        eye.failed(&boot("us-1"), 3_500);
        assert_eq!(eye.report(4_300), [(boot("us-1"), 0)], "a late failure of before says nothing");
    }

    #[test]
    fn an_observer_that_stood_still_begins_anew() {
        let (mut eye, placement) = (observer("eu-1"), placement(&["eu-1", "us-1"]));
        eye.look(1_000, &placement);
        eye.failed(&boot("us-1"), 1_000);
        assert_eq!(eye.report(3_001), [], "it does not know for how long it stood still");
        eye.look(9_000, &placement);
        eye.failed(&boot("us-1"), 1_500);
        assert_eq!(eye.report(9_100), []);
        eye.failed(&boot("us-1"), 9_000);
        assert_eq!(eye.report(9_100), [(boot("us-1"), 100)]);
    }

    #[test]
    fn another_boot_is_another_node() {
        let (mut eye, one) = (observer("eu-1"), placement(&["eu-1", "us-1"]));
        eye.look(1_000, &one);
        eye.failed(&boot("us-1"), 1_000);
        let mut next = one.clone();
        let nodes = vec![NodeRow { incarnation: Incarnation::new(2), ..node("us-1") }];
        let delta =
            PlacementDelta { from_version: 1, to_version: 2, regions: vec![], nodes, partitions: vec![] };
        assert!(next.apply(delta));
        assert_eq!(eye.look(2_000, &next)[0].incarnation, Incarnation::new(2));
        assert_eq!(eye.report(2_500), []);
    }

    #[test]
    fn each_node_is_watched_by_two_of_a_region_and_by_none_of_its_own() {
        let names = ["eu-1", "eu-2", "eu-3", "eu-4", "eu-5", "us-1", "us-2", "us-3"];
        let placement = placement(&names);
        let watches = |name: &str| observer(name).look(0, &placement);
        for target in names {
            let (region, _) = target.rsplit_once('-').expect("region and number");
            let observers: Vec<&str> =
                names.into_iter().filter(|name| watches(name).contains(&boot(target))).collect();
            assert_eq!(observers.len(), OBSERVERS_PER_REGION, "{target}: {observers:?}");
            assert!(observers.iter().all(|name| !name.starts_with(region)), "{target}: {observers:?}");
        }
    }
}
