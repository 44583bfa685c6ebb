//! Simulated runs, each in a process of its own: the same seed goes the same way, standard seeds are clean, and
//! bugs that are planted are found by the checkers that must find them.

use chaos::sim::{EXPECTED, Expected};
use host::planted::Bug;
use std::process::{Child, Command, Output, Stdio};

/// Seeds that must be clean; `chaos sim --seeds` runs more of them, faster, in a release build.
const CLEAN_SEEDS: [&str; 4] = ["--from", "3", "--seeds", "2"];
/// Seeds that are tried for each bug.
const TRIES: usize = 12;
/// Bugs that the faults of the first seeds bring to light. `chaos sim --bugs` looks for all of them.
const SHOWN: [Bug; 6] = [
    Bug::TruncateBeforeArchive,
    Bug::TrustCachedRoute,
    Bug::ShrinkToOne,
    Bug::ForgetWaiting,
    Bug::ResumeUnchecked,
    Bug::KeepDerived,
];
/// Processes at a time.
const AT_ONCE: usize = 2;

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
fn a_seed_goes_the_same_way_each_time() {
    let runs = ["3", "3", "4"].map(|seed| start(&["--seed", seed]));
    let [one, again, other] = runs.map(|run| trace(&end(run)));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn standard_seeds_are_clean() {
    let output = end(start(&CLEAN_SEEDS));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn planted_bugs_are_found_by_their_checkers() {
    let shown = EXPECTED.iter().filter(|expected| SHOWN.contains(&expected.bug));
    let missed: Vec<_> = shown.filter_map(|expected| find(*expected).err()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Looks for a bug in the seeds whose faults are aimed at it; the seed that shows it is clean without it.
fn find(expected: Expected) -> Result<(), String> {
    let bug = expected.bug.name();
    let seeds: Vec<String> = expected.seeds(0).take(TRIES).map(|seed| seed.to_string()).collect();
    for seeds in seeds.chunks(AT_ONCE) {
        let runs: Vec<_> = seeds.iter().map(|seed| start(&["--seed", seed, "--bug", bug])).collect();
        let runs: Vec<_> = runs.into_iter().map(end).collect();
        let mut runs = seeds.iter().zip(&runs);
        let Some((seed, run)) = runs.find(|(_, run)| expected.found(&said(run)).is_some()) else { continue };
        println!("{bug}: seed {seed}: {}", expected.found(&said(run)).unwrap_or_default());
        let without = end(start(&["--seed", seed]));
        return match without.status.success() {
            true => Ok(()),
            false => Err(format!("{bug}: seed {seed} fails without it:\n{}", said(&without))),
        };
    }
    Err(format!("{bug}: found in none of the seeds {}", seeds.join(" ")))
}
