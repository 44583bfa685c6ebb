//! Simulated runs, each in a process of its own: the same seed goes the same way, a standard seed is clean, and a bug
//! that is planted is found. `chaos sim --seeds` and `chaos sim --bugs` do so with hundreds of seeds and with all bugs,
//! in an optimized build.

use std::process::{Child, Command, Output, Stdio};

/// A seed that must be clean, and fail with this bug planted, by this checker.
const SEED: &str = "4";
const BUG: (&str, &str) = ("forget-waiting", "C6:");

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chaos"))
        .arg("sim")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The hash of all packets and events of a run.
fn trace(output: &Output) -> String {
    let said = said(output);
    let trace = said.split_whitespace().skip_while(|word| *word != "trace").nth(1);
    trace.unwrap_or_else(|| panic!("no trace in {said:?}")).to_owned()
}

#[test]
fn a_seed_goes_the_same_way_each_time_and_another_goes_another_way() {
    let runs = ["3", "3", SEED].map(|seed| start(&["--seed", seed]));
    let [one, again, other] = runs.map(end);
    assert_eq!(trace(&one), trace(&again));
    assert_ne!(trace(&one), trace(&other));
    for clean in [one, other] {
        assert!(clean.status.success(), "{}", said(&clean));
    }
}

#[test]
fn a_planted_bug_is_found_and_the_way_to_replay_it_is_told() {
    let (bug, checker) = BUG;
    let found = end(start(&["--from", SEED, "--seeds", "1", "--bug", bug]));
    let said = said(&found);
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.trim_start().starts_with(checker)), "{said}");
    let replay = format!("replay: cargo run --release -p chaos -- sim --seed {SEED} --bug {bug} --trace");
    assert!(said.contains(&replay) && said.contains(&format!("failed: {SEED}")), "{said}");
}
