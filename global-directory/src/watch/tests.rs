use super::*;
use crate::{
    command::Command,
    testing::{Directory, REGIONS, home},
};

/// A directory with a history, and every placement that it went through.
fn history() -> (Directory, Vec<Placement>, Changes) {
    let mut directory = Directory::born(&REGIONS, 2);
    let mut changes = Changes::starting_at(&directory.view);
    let mut views = vec![directory.view.clone()];
    for step in 0..6u64 {
        match step {
            0..3 => drop(directory.register(["ap-south-1", "eu-west-1", "us-east-1"][step as usize], 1)),
            3 => drop(directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped")),
            _ => drop(directory.register("us-east-1", 1)),
        }
        let before = views.last().expect("there").version();
        let now = &directory.view;
        changes.record(&PlacementDelta {
            from_version: before,
            to_version: now.version(),
            regions: now
                .regions()
                .filter(|row| views.last().and_then(|it| it.region(&row.region)) != Some(row))
                .cloned()
                .collect(),
            nodes: now
                .nodes()
                .filter(|row| views.last().and_then(|it| it.node(&row.node)) != Some(row))
                .cloned()
                .collect(),
            partitions: vec![],
        });
        views.push(now.clone());
    }
    (directory, views, changes)
}

#[test]
fn from_every_version_there_is_a_way_to_the_last_one() {
    let (directory, views, changes) = history();
    for earlier in &views {
        let delta = changes.since(earlier.version(), &directory.view);
        let mut view = earlier.clone();
        assert!(view.apply(delta), "it starts where the watcher is");
        assert_eq!(view, directory.view);
    }
    let last = changes.since(directory.view.version(), &directory.view);
    assert!(last.nodes.is_empty() && last.partitions.is_empty(), "nothing new: an empty beat");
}

#[test]
fn a_version_that_was_never_given_out_gets_a_snapshot() {
    let (directory, _, changes) = history();
    let delta = changes.since(directory.view.version() + 5, &directory.view);
    let mut view = Placement::default();
    assert_eq!(delta.from_version, 0);
    assert!(view.apply(delta));
    assert_eq!(view, directory.view);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_costs_its_queue_only_and_then_catches_up_at_once() {
    let mut directory = Directory::born(&REGIONS, 2);
    let state = Arc::new(State::new(directory.view.clone(), 4_000, 0));
    let (sender, mut deltas) = queue();
    let shutdown = CancellationToken::new();
    let fed = tokio::spawn(feed(state.clone(), 0, 60_000, || false, sender, shutdown.clone()));
    for _ in 0..100 {
        let before = directory.view.version();
        directory.register("us-east-1", 1);
        let mut delta = Changes::starting_at(&directory.view).since(1, &directory.view);
        delta.from_version = before;
        delta.nodes = directory.view.nodes().cloned().collect();
        state.publish(delta, None, 0);
        tokio::task::yield_now().await;
    }
    let mut view = Placement::default();
    let mut taken = 0;
    while view != directory.view {
        assert!(view.apply(deltas.recv().await.expect("more")));
        taken += 1;
    }
    assert!(taken <= bounds::WATCHER_QUEUE_MAX + 2, "{taken} deltas for 100 changes");
    shutdown.cancel();
    fed.await.expect("it ends");
}

#[tokio::test]
async fn a_replica_that_is_cut_off_ends_its_watches() {
    let directory = Directory::born(&REGIONS, 2);
    let state = Arc::new(State::new(directory.view, 4_000, 0));
    let (sender, mut deltas) = queue();
    let cut_off = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_cut_off = {
        let cut_off = cut_off.clone();
        move || cut_off.load(std::sync::atomic::Ordering::SeqCst)
    };
    let fed = tokio::spawn(feed(state, 0, 10, is_cut_off, sender, CancellationToken::new()));
    assert_eq!(deltas.recv().await.expect("the snapshot").from_version, 0);
    deltas.recv().await.expect("a beat");
    cut_off.store(true, std::sync::atomic::Ordering::SeqCst);
    while deltas.recv().await.is_some() {}
    fed.await.expect("it ends");
}
