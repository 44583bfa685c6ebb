use super::*;
use crate::testing::{Directory, node, region};
use types::Home;

const NOW_MS: u64 = 100_000;
const FRESH_MS: u64 = 2_000;

/// Regions with their nodes, all of which have been leased for long.
struct Scene {
    directory: Directory,
    leases: LeaseTable,
    listens_from_ms: u64,
}

impl Scene {
    /// Names like `a-1` stand for node 1 of region `a`.
    fn new(names: &[&str]) -> Self {
        let regions: BTreeSet<&str> = names.iter().map(|name| region_of(name)).collect();
        let mut directory = Directory::born(&regions.into_iter().collect::<Vec<_>>(), 1);
        let mut leases = LeaseTable::new(4_000);
        for (at, name) in names.iter().enumerate() {
            let boot = directory.register(name, at as u8 + 1);
            for renewed_ms in (0..=NOW_MS).step_by(1_000) {
                leases.renew(&boot, renewed_ms);
            }
        }
        Self { directory, leases, listens_from_ms: 0 }
    }

    fn boot(&self, name: &str) -> Home {
        let row = self.directory.view.node(&node(name)).expect("registered");
        boot(row)
    }

    /// `observer` tells at `heard_ms` that it fails at some, and at no other outside its region.
    fn tell(&mut self, observer: &str, fails_at: &[(&str, u64)], heard_ms: u64) {
        let others: Vec<String> = self.directory.view.nodes().map(|row| row.node.to_string()).collect();
        let others = others.iter().filter(|name| region_of(name) != region_of(observer));
        let told = others.map(|name| {
            let failing = fails_at.iter().find(|(fails_at, _)| fails_at == name);
            (self.boot(name), failing.map_or(0, |(_, ms)| *ms))
        });
        let told = told.collect();
        let observer = self.boot(observer);
        self.leases.observe(&observer, told, heard_ms);
    }

    fn hearing(&self) -> Hearing<'_> {
        Hearing {
            leases: &self.leases,
            view: &self.directory.view,
            now_ms: NOW_MS,
            listens_from_ms: self.listens_from_ms,
            fresh_ms: FRESH_MS,
        }
    }

    /// `node: ms by region, region`, one after the other.
    fn verdicts(&self) -> String {
        let shown = self.hearing().verdicts().into_iter().map(|(node, failing)| {
            let by: Vec<&str> = failing.seen_from.iter().map(RegionId::as_str).collect();
            format!("{node}: {} by {}", failing.ms, by.join(", "))
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

fn region_of(name: &str) -> &str {
    name.rsplit_once('-').expect("region and number").0
}

/// Who says that it fails at whom and for how long; what follows.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static [(&'static str, u64)])],
    &'static str,
);

const CASES: &[Case] = &[
    (
        "both other regions fail at a node",
        &["a-1", "b-1", "c-1"],
        &[("a-1", &[]), ("b-1", &[("a-1", 3_000)]), ("c-1", &[("a-1", 3_400)])],
        "a-1: 3000 by b, c",
    ),
    (
        "what a region says of others while it is the one that is cut off counts for nothing",
        &["a-1", "b-1", "c-1"],
        &[("a-1", &[("b-1", 5_000), ("c-1", 5_000)]), ("b-1", &[("a-1", 5_000)]), ("c-1", &[("a-1", 5_000)])],
        "a-1: 5000 by b, c",
    ),
    (
        "one observer alone fails at everybody",
        &["a-1", "b-1", "c-1"],
        &[("a-1", &[]), ("b-1", &[("a-1", 9_000), ("c-1", 9_000)]), ("c-1", &[])],
        "",
    ),
    (
        "one link is cut",
        &["a-1", "b-1", "c-1"],
        &[("a-1", &[("b-1", 9_000)]), ("b-1", &[("a-1", 9_000)]), ("c-1", &[])],
        "",
    ),
    (
        "one witness is not enough, whatever it sees",
        &["a-1", "b-1", "c-1"],
        &[("b-1", &[("a-1", 9_000)])],
        "",
    ),
    (
        "two regions have one witness each, and that is not enough",
        &["a-1", "b-1"],
        &[("a-1", &[]), ("b-1", &[("a-1", 9_000)])],
        "",
    ),
    (
        "three regions see each other and nobody else does: nobody judges",
        &["a-1", "b-1", "c-1"],
        &[
            ("a-1", &[("b-1", 9_000), ("c-1", 9_000)]),
            ("b-1", &[("a-1", 9_000), ("c-1", 9_000)]),
            ("c-1", &[("a-1", 9_000), ("b-1", 9_000)]),
        ],
        "",
    ),
    (
        "two of four witnesses are no majority",
        &["a-1", "b-1", "c-1", "d-1", "e-1"],
        &[("b-1", &[("a-1", 9_000)]), ("c-1", &[("a-1", 9_000)]), ("d-1", &[]), ("e-1", &[])],
        "",
    ),
    (
        "three of four witnesses are one, and the slowest of those three counts",
        &["a-1", "b-1", "c-1", "d-1", "e-1"],
        &[("b-1", &[("a-1", 9_000)]), ("c-1", &[("a-1", 4_000)]), ("d-1", &[("a-1", 3_000)]), ("e-1", &[])],
        "a-1: 3000 by b, c, d",
    ),
    (
        "one node of a region fails, the other does not",
        &["a-1", "a-2", "b-1", "c-1"],
        &[("b-1", &[("a-1", 4_000)]), ("c-1", &[("a-1", 5_000)])],
        "a-1: 4000 by b, c",
    ),
    (
        "a region says what more than half of its observers say",
        &["a-1", "b-1", "b-2", "c-1"],
        &[("b-1", &[("a-1", 4_000)]), ("b-2", &[]), ("c-1", &[("a-1", 4_000)])],
        "",
    ),
    (
        "two regions fail at once",
        &["a-1", "b-1", "c-1", "d-1", "e-1"],
        &[
            ("c-1", &[("a-1", 4_000), ("b-1", 4_000)]),
            ("d-1", &[("a-1", 4_000), ("b-1", 4_000)]),
            ("e-1", &[("a-1", 4_000), ("b-1", 4_000)]),
        ],
        "a-1: 4000 by c, d, e; b-1: 4000 by c, d, e",
    ),
];

#[test]
fn a_majority_of_the_witnesses_outside_decides_and_one_alone_never() {
    for (what, names, told, wanted) in CASES {
        let mut scene = Scene::new(names);
        for (observer, fails_at) in *told {
            scene.tell(observer, fails_at, NOW_MS);
        }
        assert_eq!(scene.verdicts(), *wanted, "{what}");
    }
}

/// Both witnesses of three regions, heard then.
fn both_tell(scene: &mut Scene, heard_ms: u64) {
    for observer in ["b-1", "c-1"] {
        scene.tell(observer, &[("a-1", 20_000)], heard_ms);
    }
}

#[test]
fn only_what_was_told_lately_and_to_this_leader_counts() {
    let mut scene = Scene::new(&["a-1", "b-1", "c-1"]);
    both_tell(&mut scene, NOW_MS - FRESH_MS);
    assert_eq!(scene.verdicts(), "", "whoever is heard no more has no last word");
    both_tell(&mut scene, NOW_MS - FRESH_MS + 1);
    assert_eq!(scene.verdicts(), "a-1: 20000 by b, c");
    scene.listens_from_ms = NOW_MS - 500;
    assert_eq!(scene.verdicts(), "", "it was told to another leader");
    both_tell(&mut scene, NOW_MS);
    assert_eq!(scene.verdicts(), "a-1: 500 by b, c", "and counts from when this one began to listen");
}

#[test]
fn a_lease_that_has_just_begun_to_run_again_is_given_its_time() {
    let mut scene = Scene::new(&["a-1", "b-1", "c-1"]);
    let a = scene.boot("a-1");
    scene.leases.renew(&a, NOW_MS + 4_000);
    for observer in ["b-1", "c-1"] {
        scene.tell(observer, &[("a-1", 9_000)], NOW_MS + 4_300);
    }
    let hearing = Hearing { now_ms: NOW_MS + 4_300, ..scene.hearing() };
    assert_eq!(hearing.verdicts()[&node("a-1")].ms, 300);
}

#[test]
fn what_was_told_of_an_earlier_boot_says_nothing_of_the_next() {
    let mut scene = Scene::new(&["a-1", "b-1", "c-1"]);
    both_tell(&mut scene, NOW_MS);
    scene.directory.register("a-1", 1);
    assert_eq!(scene.verdicts(), "");
}

#[test]
fn an_observer_without_a_lease_is_no_witness() {
    let mut scene = Scene::new(&["a-1", "b-1", "c-1"]);
    both_tell(&mut scene, NOW_MS);
    assert!(scene.hearing().judges(scene.directory.view.node(&node("b-1")).expect("there")));
    let b = scene.boot("b-1");
    scene.directory.run(crate::command::Command::Bump(vec![b])).expect("bumped");
    assert_eq!(scene.verdicts(), "");
    let row = scene.directory.view.region(&region("b")).expect("there");
    assert_eq!(row.status, types::RegionStatus::Down);
}
