//! The command line.

use crate::{
    drains,
    history::History,
    moves,
    report::{self, Report},
    rto::{self, Victim},
    run::{self, Options, Outcome},
    scenario::{Scenario, Schedule},
    sim,
    storm::{self, StormsReport},
    workload::Load,
};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};
use serde::Serialize;
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
    /// Moves a partition from region to region under load, and measures how long its writes pause.
    Moves(MovesArgs),
    /// Drains a region under load, and measures how soon it is safe to power it off.
    Drain(DrainArgs),
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
    /// Kill the region that the directory's leader runs in.
    #[arg(long, conflicts_with = "no_leader")]
    leader: bool,
    /// Kill a region that the directory's leader does not run in.
    #[arg(long)]
    no_leader: bool,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Where history and reports go.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Keep the deployment's data and logs in this folder.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What `moves` takes.
#[derive(Debug, Args)]
pub(crate) struct MovesArgs {
    /// How many.
    #[arg(long, default_value_t = 20)]
    moves: u32,
    /// Writes per second on the partition, of clients in all regions together.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    #[command(flatten)]
    measure: MeasureArgs,
    /// Partitions per region.
    #[arg(long, default_value_t = 4)]
    partitions: u32,
}

/// What `drain` takes.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// How many.
    #[arg(long, default_value_t = 10)]
    drains: u32,
    /// Writes per second on the region's partitions, of clients in all regions together.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    #[command(flatten)]
    measure: MeasureArgs,
    /// Partitions per region.
    #[arg(long, default_value_t = 64)]
    partitions: u32,
}

/// What every measurement takes.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Decides chats, places and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The lease, in ms.
    #[arg(long, default_value_t = 4_000)]
    lease_ms: u64,
    /// Where history and reports go.
    #[arg(long, default_value = "target/chaos")]
    out: PathBuf,
    /// Keep the deployment's data and logs in this folder.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl MeasureArgs {
    fn options(&self, name: &str, rounds: u32, partitions: u32) -> anyhow::Result<Options> {
        fs::create_dir_all(&self.out).with_context(|| format!("the folder {}", self.out.display()))?;
        Ok(Options {
            program: std::env::current_exe()?,
            scenario: Scenario::Steady,
            seed: self.seed,
            rounds,
            load: Load::NONE,
            partitions_per_region: partitions,
            lease: Duration::from_millis(self.lease_ms),
            history: self.out.join(format!("{name}-{}.jsonl", self.seed)),
            dir: self.dir.clone(),
        })
    }
}

/// What `storm` takes.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// How many, each in a deployment of its own.
    #[arg(long, default_value_t = 1)]
    storms: u64,
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
    /// Keep the deployment's data and logs in this folder; for one storm.
    #[arg(long)]
    dir: Option<PathBuf>,
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
            Command::Moves(args) => measure_moves(args).await,
            Command::Drain(args) => measure_drains(args).await,
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
    let outcome = run::run(&options, progress()).await?;
    tell(&Report::of(&outcome.history, &outcome.violations, &outcome.failures), &history)
}

async fn measure_rto(args: RtoArgs) -> anyhow::Result<bool> {
    fs::create_dir_all(&args.out).with_context(|| format!("the folder {}", args.out.display()))?;
    let (victim, name) = match (args.leader, args.no_leader) {
        (true, _) => (Victim::WithLeader, "rto-leader"),
        (_, true) => (Victim::WithoutLeader, "rto-no-leader"),
        _ => (Victim::Any, "rto"),
    };
    let history = args.out.join(format!("{name}-{}.jsonl", args.seed));
    let options = Options {
        program: std::env::current_exe()?,
        scenario: Scenario::RegionKilled,
        seed: args.seed,
        rounds: args.kills,
        load: Load { returners: 0, ..args.shape.load() },
        partitions_per_region: args.shape.partitions,
        lease: Duration::from_millis(args.shape.lease_ms),
        history: history.clone(),
        dir: args.dir,
    };
    let (outcome, report) = rto::measure(&options, victim, progress()).await?;
    print!("{}{}", report.kills_text(), report.text());
    keep(&history, &report, &report.text(), &outcome)?;
    Ok(report.is_clean())
}

async fn measure_moves(args: MovesArgs) -> anyhow::Result<bool> {
    let options = args.measure.options("moves", args.moves, args.partitions)?;
    let (outcome, report) = moves::measure(&options, args.rate, progress()).await?;
    print!("{}", report.text());
    keep(&options.history, &report, &report.text(), &outcome)?;
    Ok(report.is_clean())
}

async fn measure_drains(args: DrainArgs) -> anyhow::Result<bool> {
    let options = args.measure.options("drain", args.drains, args.partitions)?;
    let (outcome, report) = drains::measure(&options, args.rate, progress()).await?;
    print!("{}", report.text());
    keep(&options.history, &report, &report.text(), &outcome)?;
    Ok(report.is_clean())
}

/// Says what is done, and when.
fn progress() -> impl Fn(&str) {
    let began = Instant::now();
    move |what| println!("{:7.1} s  {what}", began.elapsed().as_secs_f64())
}

/// Writes figures and page beside the history.
fn keep(history: &Path, figures: &impl Serialize, text: &str, outcome: &Outcome) -> anyhow::Result<()> {
    let page = Report::of(&outcome.history, &outcome.violations, &outcome.failures);
    let (json, html) = (history.with_extension("json"), history.with_extension("html"));
    fs::write(&json, serde_json::to_string_pretty(figures)?)?;
    fs::write(&html, report::page(&page, text))?;
    println!("history {}, figures {}, report {}", history.display(), json.display(), html.display());
    Ok(())
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
        dir: args.dir,
    };
    let report = StormsReport::measure(&options, args.storms, progress()).await;
    print!("{}", report.text());
    let json = args.out.join(format!("storm-{}.json", args.seed));
    fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    println!("figures {}", json.display());
    Ok(report.failed == 0)
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
    fs::write(&html, report::page(report, "")).with_context(|| format!("the report {}", html.display()))?;
    println!("history {}, report {}", history.display(), html.display());
    Ok(report.summary.clean)
}
