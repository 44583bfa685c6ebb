//! Short runs on real processes: the whole chain from faults to the verdict works, and the verdict is clean.

use chaos::{
    check::Checker,
    history::Kind,
    run::{Options, Outcome, run},
    scenario::Scenario,
    workload::Load,
};
use std::{path::PathBuf, time::Duration};
use tokio::sync::Mutex;

/// One deployment at a time: three regions are a lot for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn short(scenario: Scenario, seed: u64, rounds: u32) -> Outcome {
    let _alone = ONE_AT_A_TIME.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        program: PathBuf::from(env!("CARGO_BIN_EXE_chaos")),
        scenario,
        seed,
        rounds,
        load: Load { writes_per_s: 30, plain_writes_per_s: 9, ..Load::default() },
        partitions_per_region: 2,
        lease: Duration::from_secs(3),
        history: folder.path().join("history.jsonl"),
        dir: None,
    };
    let outcome = run(&options, |what| println!("{scenario}, seed {seed}: {what}")).await.expect("it runs");
    for violation in &outcome.violations {
        println!("{violation}");
    }
    assert!(outcome.violations.is_empty(), "{} violations", outcome.violations.len());
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_region_loses_nothing() {
    let outcome = short(Scenario::RegionKilled, 1, 1).await;
    let recoveries = chaos::check::recoveries(&outcome.history);
    assert!(!recoveries.is_empty(), "the killed region was home of something");
    assert!(recoveries.iter().all(|one| one.first_ack_us.is_some()), "{recoveries:?}");
    // What was recorded says as much when it is read again, and less once something is taken out.
    let acked = |kind: &Kind| matches!(kind, Kind::Held { .. });
    let (header, events) = (outcome.history.header().clone(), outcome.history.events().to_vec());
    let torn = events.into_iter().filter(|event| !acked(&event.kind)).collect();
    let torn = chaos::history::History::new(header, torn).expect("still a history");
    assert!(!Checker::C2.check(&torn).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_run_keeps_every_promise() {
    short(Scenario::Mixed, 33, 2).await;
}
