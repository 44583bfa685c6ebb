//! `chaos sim`: one seed in this process, or many, each in a process of its own.

use super::{Outcome, bugs::EXPECTED};
use host::planted::{self, Bug};
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// How often the progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);
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
    /// Runs at a time; as many as there are cores otherwise.
    #[arg(long)]
    jobs: Option<usize>,
    /// Plants a bug, by its name: some seeds must then fail.
    #[arg(long)]
    bug: Option<Bug>,
    /// Plants one bug after the other, or the one of `--bug`, each until a seed finds it; fails where none of the
    /// seeds does.
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
        None if args.bugs => all_bugs(args),
        None => many(args),
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
    println!("seed {seed} trace {:032x}", outcome.trace);
    for violation in &outcome.violations {
        println!("{violation}");
    }
    for what in outcome.restless.iter().take(RESTLESS_MAX) {
        println!("never at rest: {what}");
    }
}

// ---- many seeds

struct Worker {
    seed: u64,
    child: Child,
}

fn all_bugs(args: &Args) -> anyhow::Result<ExitCode> {
    let mut missed = 0;
    for expected in EXPECTED.iter().filter(|expected| args.bug.is_none_or(|bug| bug == expected.bug)) {
        let (bug, mut found) = (expected.bug, None);
        let mut seeds =
            expected.seeds(args.from).take_while(|seed| *seed < args.from + args.seeds).peekable();
        while found.is_none() && seeds.peek().is_some() {
            let jobs = args.jobs();
            let started: Result<Vec<_>, _> =
                seeds.by_ref().take(jobs).map(|seed| Ok((seed, start(seed, Some(bug))?))).collect();
            let started: Vec<(u64, Child)> = started.map_err(|error: io::Error| error)?;
            for (seed, child) in started {
                let output = child.wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stdout);
                found = found.or_else(|| Some((seed, expected.found(&said)?.to_owned())));
            }
        }
        match found {
            Some((seed, line)) => println!("{:<24} seed {seed:<4} {line}", bug.name()),
            None => {
                missed += 1;
                println!("{:<24} NOT FOUND in {} seeds", bug.name(), args.seeds);
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn many(args: &Args) -> anyhow::Result<ExitCode> {
    let jobs = args.jobs();
    let mut seeds = args.from..args.from + args.seeds;
    let mut workers: Vec<Worker> = Vec::new();
    let mut failed = Vec::new();
    let (mut done, began, mut drawn) = (0, Instant::now(), None::<Instant>);
    loop {
        while workers.len() < jobs
            && let Some(seed) = seeds.next()
        {
            workers.push(Worker { seed, child: start(seed, args.bug)? });
        }
        if workers.is_empty() {
            break;
        }
        let mut running = Vec::new();
        for mut worker in workers {
            if worker.child.try_wait()?.is_none() {
                running.push(worker);
                continue;
            }
            done += 1;
            let output = worker.child.wait_with_output()?;
            if !output.status.success() {
                let said = [output.stdout, output.stderr].concat();
                tell_failed(worker.seed, &String::from_utf8_lossy(&said), args);
                failed.push(worker.seed);
            }
        }
        workers = running;
        if drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY) {
            drawn = Some(Instant::now());
            draw(done, args.seeds, failed.len(), began);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    draw(done, args.seeds, failed.len(), began);
    eprintln!();
    if !failed.is_empty() {
        failed.sort_unstable();
        let failed: Vec<_> = failed.iter().map(u64::to_string).collect();
        println!("failed: {}", failed.join(" "));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start(seed: u64, bug: Option<Bug>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--seed", &seed.to_string()]);
    if let Some(bug) = bug {
        command.args(["--bug", bug.name()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn draw(done: u64, seeds: u64, failed: usize, began: Instant) {
    const WIDTH: u64 = 40;
    let filled = (done * WIDTH / seeds.max(1)) as usize;
    let line = format!(
        "[{:<40}] {done}/{seeds}, {failed} failed, {:.0} s",
        "#".repeat(filled),
        began.elapsed().as_secs_f64()
    );
    if io::stderr().is_terminal() {
        eprint!("\r{line}");
    } else if done == seeds {
        eprint!("{line}");
    }
}

/// Tells of a seed that failed, at once: whoever ends the program early knows what it has found.
fn tell_failed(seed: u64, said: &str, args: &Args) {
    println!("seed {seed} failed:");
    for line in said.lines() {
        println!("    {line}");
    }
    let bug = args.bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    println!("    replay: cargo run --release -p chaos -- sim --seed {seed}{bug} --trace");
}
