//! Planted bugs: each must be found by the checkers whose business it is.

use super::{Args, child, crew};
use crate::sim::bugs::{EXPECTED, Expected};
use std::{io, process::ExitCode};

/// Runs all of them, or the one that was asked for.
pub(super) fn all_bugs(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = EXPECTED.iter().filter(|expected| args.bug.is_none_or(|bug| bug == expected.bug));
    let until = args.from + args.seeds;
    let mut missed = 0;
    let hunt = |expected: &Expected| Ok((expected.bug, hunt(*expected, args.from, until)?));
    crew::work(args.jobs(), wanted, hunt, |ended| match ended {
        None => {}
        Some((bug, Ok(found))) => println!("{:<24} {found}", bug.name()),
        Some((bug, Err(why))) => {
            missed += 1;
            println!("{:<24} {why}", bug.name());
        }
    })?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tries the known seed, and then those below `until` whose faults are aimed at the rule.
fn hunt(expected: Expected, from: u64, until: u64) -> io::Result<Result<String, String>> {
    let bug = expected.bug;
    let others = expected.seeds(from).take_while(|seed| *seed < until);
    let mut tried = 0;
    for seed in std::iter::once(expected.known).chain(others.filter(|seed| *seed != expected.known)) {
        tried += 1;
        let ended = child::run(seed, Some(bug))?;
        let Some(line) = expected.found(&ended.said) else { continue };
        if !child::run(seed, None)?.is_clean {
            return Ok(Err(format!("seed {seed} FAILS WITHOUT IT: {}", child::replay(seed, None))));
        }
        let moved = if seed == expected.known { "" } else { ", which is not the known one" };
        return Ok(Ok(format!("seed {seed:<4} {line}{moved}")));
    }
    Ok(Err(format!(
        "NOT FOUND in {tried} seeds; the known one: {}",
        child::replay(expected.known, Some(bug))
    )))
}
