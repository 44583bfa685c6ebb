//! Many seeds, and what came of all of them.

use super::{Args, child, child::Ended, crew, progress::Progress};
use crate::sim::fault::Mix;
use std::{collections::BTreeMap, fmt, process::ExitCode, time::Duration};

/// What a number of seeds came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) simulated_ms: u64,
}

impl Count {
    fn add(&mut self, ended: &Ended) {
        self.done += 1;
        self.failed += u64::from(!ended.is_clean);
        self.simulated_ms += ended.lasted_ms();
    }

    pub(super) const fn simulated(&self) -> Duration {
        Duration::from_millis(self.simulated_ms)
    }
}

/// Runs them, tells of failed ones at once and of all in the end; fails where one did.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let is_wanted = |seed: &u64| args.mix.is_none_or(|mix| mix == Mix::of(*seed));
    let count = usize::try_from(args.seeds).unwrap_or(usize::MAX);
    let seeds = (args.from..=u64::MAX).filter(is_wanted).take(count);
    let mut progress = Progress::new(args.seeds);
    let mut all = Count::default();
    let mut mixes: BTreeMap<&'static str, Count> = BTreeMap::new();
    let mut failed = Vec::new();
    crew::work(
        args.jobs(),
        seeds,
        |seed| child::run(seed, args.bug),
        |ended| {
            if let Some(ended) = ended {
                all.add(&ended);
                mixes.entry(Mix::of(ended.seed).name()).or_default().add(&ended);
                if !ended.is_clean {
                    progress.clear();
                    println!("{}", Failed { ended: &ended, args });
                    failed.push(ended.seed);
                }
            }
            progress.draw(&all);
        },
    )?;
    progress.end(&all);
    for (mix, count) in mixes {
        println!("{mix:<18} {:>6} seeds {:>4} failed {}", count.done, count.failed, hours(count.simulated()));
    }
    let took = progress.took().as_secs_f64().max(0.001);
    println!(
        "{:<18} {:>6} seeds {:>4} failed {}, in {took:.0} s: {:.2} seeds/s, {:.0} times as fast as the clock",
        "all",
        all.done,
        all.failed,
        hours(all.simulated()),
        all.done as f64 / took,
        all.simulated().as_secs_f64() / took,
    );
    if !failed.is_empty() {
        failed.sort_unstable();
        let failed: Vec<_> = failed.iter().map(u64::to_string).collect();
        println!("failed: {}", failed.join(" "));
    }
    Ok(if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hours(simulated: Duration) -> String {
    format!("{:>7.2} h simulated", simulated.as_secs_f64() / 3_600.0)
}

/// Whoever ends the program early knows what it has found.
struct Failed<'a> {
    ended: &'a Ended,
    args: &'a Args,
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ended { seed, said, .. } = self.ended;
        writeln!(f, "seed {seed} failed ({}):", Mix::of(*seed).name())?;
        for line in said.lines() {
            writeln!(f, "    {line}")?;
        }
        write!(f, "    replay: {}", child::replay(*seed, self.args.bug))
    }
}
