//! The command line.

use crate::{
    history::History,
    report::{self, Report},
    rto,
    run::{self, Options},
    scenario::{Scenario, Schedule},
    sim, storm,
    workload::Load,
};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Faults, recorded histories and the checkers that judge them.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario on three regions of real processes, and checks what happened.
    Run(RunArgs),
    /// Kills regions at random moments, one after the other, and measures how soon writes succeed again.
    Rto(RtoArgs),
    /// Lets thousands of sessions lose their region at once, and measures how soon they are resumed.
    Storm(StormArgs),
    /// Runs the whole system in simulation, by seed.
    Sim(sim::Args),
    /// Lists the scenarios.
    List,
    /// Checks a recorded history again, and writes its report anew.
    Check {
        /// The history.
        history: PathBuf,
    },
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// One of `chaos list`.
    #[arg(value_parser = PossibleValuesParser::new(Scenario::ALL.iter().map(|scenario| scenario.name())))]
    scenario: String,
    /// Decides the faults, the chats and what clients draw.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Faults of `mixed`.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Where history and reports go.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Keep the deployment's data and logs in this folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Only print what would be done when.
    #[arg(long)]
    dry_run: bool,
}

/// What `rto` takes.
#[derive(Debug, Args)]
pub(crate) struct RtoArgs {
    /// How many.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Decides who is killed when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Where history and reports go.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
}

/// What `storm` takes.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Sessions.
    #[arg(long, default_value_t = 5_000)]
    sessions: usize,
    /// Chats that each follows.
    #[arg(long, default_value_t = 20)]
    chats: usize,
    /// Decides chats and jitter.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Partitions per region.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// The lease, in ms.
    #[arg(long, default_value_t = 4_000)]
    lease_ms: u64,
    /// Where the figures go.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
}

/// Load and deployment.
#[derive(Debug, Args)]
pub(crate) struct ShapeArgs {
    /// Writes per second of clients with an outbox, all regions together.
    #[arg(long, default_value_t = Load::default().writes_per_s)]
    writes: u32,
    /// Writes per second of clients that send each message once.
    #[arg(long, default_value_t = Load::default().plain_writes_per_s)]
    plain_writes: u32,
    /// Bare readers in each region's place.
    #[arg(long, default_value_t = Load::default().readers)]
    readers: u32,
    /// Bytes of each body.
    #[arg(long, default_value_t = Load::default().body_bytes)]
    body_bytes: usize,
    /// Partitions per region.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// The lease, in ms.
    #[arg(long, default_value_t = 4_000)]
    lease_ms: u64,
}

impl ShapeArgs {
    fn load(&self) -> Load {
        Load {
            writes_per_s: self.writes,
            plain_writes_per_s: self.plain_writes,
            readers: self.readers,
            body_bytes: self.body_bytes,
            ..Load::default()
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = match cli.command {
        Command::Sim(args) => return sim::main(&args),
        other => other,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match command {
            Command::Run(args) => run_one(args).await,
            Command::Rto(args) => measure_rto(args).await,
            Command::Storm(args) => measure_storm(args).await,
            Command::Sim(_) => Ok(true),
            Command::List => {
                list();
                Ok(true)
            }
            Command::Check { history } => check(&history),
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for scenario in Scenario::ALL {
        println!("{:24} {}", scenario.name(), scenario.what());
        println!("{:24}   shows: {}", "", scenario.proves());
    }
}

fn plan(schedule: &Schedule) {
    let regions = lab::REGIONS_DEFAULT.map(str::to_owned);
    for planned in &schedule.faults {
        let (from, until) = (planned.from_ms as f64 / 1e3, planned.until_ms as f64 / 1e3);
        println!("{from:7.1} s to {until:6.1} s  {}", planned.fault.told(&regions));
    }
    println!("{:7.1} s the load ends", schedule.end_ms as f64 / 1e3);
}

async fn run_one(args: RunArgs) -> anyhow::Result<bool> {
    let scenario = Scenario::named(&args.scenario).context("an unknown scenario")?;
    if args.dry_run {
        plan(&Schedule::draw(scenario, args.seed, args.rounds));
        return Ok(true);
    }
    fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let history = args.out.join(format!("{scenario}-{}.jsonl", args.seed));
    let options = Options {
        program: std::env::current_exe()?,
        scenario,
        seed: args.seed,
        rounds: args.rounds,
        load: args.shape.load(),
        partitions_per_region: args.shape.partitions,
        lease: Duration::from_millis(args.shape.lease_ms),
        history: history.clone(),
        dir: args.dir,
    };
    let seconds = Schedule::draw(scenario, args.seed, args.rounds).end_ms / 1_000;
    println!("{scenario}, seed {}: {seconds} s of load", args.seed);
    let began = Instant::now();
    let outcome =
        run::run(&options, |what| println!("{:7.1} s  {what}", began.elapsed().as_secs_f64())).await?;
    tell(&Report::of(&outcome.history, &outcome.violations, &outcome.failures), &history)
}

async fn measure_rto(args: RtoArgs) -> anyhow::Result<bool> {
    fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let history = args.out.join(format!("rto-{}.jsonl", args.seed));
    let options = Options {
        program: std::env::current_exe()?,
        scenario: Scenario::RegionKilled,
        seed: args.seed,
        rounds: args.kills,
        load: Load { returners: 0, ..args.shape.load() },
        partitions_per_region: args.shape.partitions,
        lease: Duration::from_millis(args.shape.lease_ms),
        history: history.clone(),
        dir: None,
    };
    let began = Instant::now();
    let progress = |what: &str| println!("{:7.1} s  {what}", began.elapsed().as_secs_f64());
    let (outcome, report) = rto::measure(&options, progress).await?;
    print!("{}", report.text());
    let page = Report::of(&outcome.history, &outcome.violations, &outcome.failures);
    let (json, html) = (history.with_extension("json"), history.with_extension("html"));
    fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    fs::write(&html, report::page(&page))?;
    println!("history {}, figures {}, report {}", history.display(), json.display(), html.display());
    Ok(report.is_clean())
}

async fn measure_storm(args: StormArgs) -> anyhow::Result<bool> {
    fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let options = storm::Options {
        program: std::env::current_exe()?,
        sessions: args.sessions,
        chats: args.chats,
        seed: args.seed,
        partitions_per_region: args.partitions,
        lease: Duration::from_millis(args.lease_ms),
    };
    let began = Instant::now();
    let progress = |what: &str| println!("{:7.1} s  {what}", began.elapsed().as_secs_f64());
    let report = storm::measure(&options, progress).await?;
    print!("{}", report.text());
    let json = args.out.join(format!("storm-{}.json", args.seed));
    fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    println!("figures {}", json.display());
    Ok(report.not_resumed == 0)
}

fn check(path: &Path) -> anyhow::Result<bool> {
    let (history, violations): (History, _) = run::check_again(path)?;
    tell(&Report::of(&history, &violations, &[]), path)
}

/// Prints a report, and writes it beside the history.
fn tell(report: &Report, history: &Path) -> anyhow::Result<bool> {
    print!("{}", report.text());
    let (json, html) = (history.with_extension("json"), history.with_extension("html"));
    fs::write(&json, report.json()).with_context(|| format!("the report {}", json.display()))?;
    fs::write(&html, report::page(report)).with_context(|| format!("the report {}", html.display()))?;
    println!("history {}, report {}", history.display(), html.display());
    Ok(report.summary.clean)
}
