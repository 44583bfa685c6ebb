//! `chaos sim`: one seed in this process, or many, each in a process of its own.

mod child;
mod crew;
mod hunt;
mod many;
mod progress;

use super::{Outcome, fault::Mix};
use host::planted::{self, Bug};
use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

/// What is not at rest, of one seed, that is shown.
const RESTLESS_MAX: usize = 10;

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Runs this one seed, and tells what came of it.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only seeds of this mix of faults, by its name: `blind`, `judged late` …
    #[arg(long, conflicts_with_all = ["seed", "bugs"])]
    mix: Option<Mix>,
    /// Runs at a time; as many as there are cores otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// Plants a bug, by its name: some seeds must then fail.
    #[arg(long)]
    bug: Option<Bug>,
    /// Plants one bug after the other, or the one of `--bug`, first in the seed that is known to show it and then
    /// in others; fails where none of the seeds does, or the one that does fails without the bug as well.
    #[arg(long, conflicts_with = "seed")]
    bugs: bool,
    /// Prints every packet and every event of the one seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Prints what the services log, filtered as tracing does it: `info`, `region_node=debug` …
    #[arg(long, requires = "seed")]
    log: Option<String>,
    /// Writes the history of the one seed here.
    #[arg(long, requires = "seed")]
    history: Option<PathBuf>,
}

impl Args {
    fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }
}

/// Carries it out; fails where a seed did.
pub fn main(args: &Args) -> ExitCode {
    let done = match args.seed {
        Some(seed) => one(seed, args),
        None if args.bugs => hunt::all_bugs(args),
        None => many::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("chaos: {error:#}");
        ExitCode::from(2)
    })
}

// ---- one seed

fn one(seed: u64, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(filter) = &args.log {
        super::log::install(filter)?;
    }
    if let Some(bug) = args.bug {
        planted::plant(bug);
    }
    let began = Instant::now();
    let outcome = super::run(seed, args.trace);
    if args.trace {
        for event in outcome.history.events() {
            println!("{}", serde_json::to_string(event)?);
        }
    }
    if let Some(path) = &args.history {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        serde_json::to_writer(&mut file, outcome.history.header())?;
        file.write_all(b"\n")?;
        for event in outcome.history.events() {
            serde_json::to_writer(&mut file, event)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
    }
    tell(seed, &outcome);
    let Outcome { lasted_us, history, .. } = &outcome;
    eprintln!(
        "{:.1} s in {:.2} s, {} events",
        *lasted_us as f64 / 1e6,
        began.elapsed().as_secs_f64(),
        history.events().len(),
    );
    let is_sound = outcome.violations.is_empty() && outcome.restless.is_empty();
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a parent reads: a line about the trace, and one for each violation.
fn tell(seed: u64, outcome: &Outcome) {
    let (mix, lasted_ms) = (Mix::of(seed).name(), outcome.lasted_us / 1_000);
    println!("seed {seed} trace {:032x} {lasted_ms} ms {mix}", outcome.trace);
    for violation in &outcome.violations {
        println!("{violation}");
    }
    for what in outcome.restless.iter().take(RESTLESS_MAX) {
        println!("never at rest: {what}");
    }
}
