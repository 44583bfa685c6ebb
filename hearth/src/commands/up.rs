//! `hearth up`: a whole deployment on this machine, until Ctrl-C.

use crate::{base_port::BASE_PORT_DEFAULT, row, shutdown, tables, telemetry};
use anyhow::Context;
use clap::ValueEnum;
use lab::{Description, Event, Lab, LabError, Options, Overlay, WanTable};
use serde_json::json;
use std::{io::Write, path::PathBuf, time::Duration};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// A deployment that is not ready by then does not become so.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long followers have to catch up before it is said to be ready all the same.
const IN_SYNC_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines of a log that are shown when its process has ended by itself.
const LOG_TAIL_LINES: usize = 20;

/// Start a deployment on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The regions [default: those of DIR, or us-east,eu-west,ap-south]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    regions: Option<Vec<String>>,
    /// Keep everything in this folder, and go on with what is in it [default: a temporary folder]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The first port: the control API's; then the directory's, and from the tenth on ten for each region
    /// (node, replicator, front, and from the fifth on its further nodes) [default: that of DIR, or 7400]
    #[arg(long, value_name = "N")]
    base_port: Option<u16>,
    /// Whether links between regions take as long as they do in the real world.
    #[arg(long, value_enum, default_value_t = Wan::Real)]
    wan: Wan,
    /// Round trips between places, in TOML [default: see lab/wan.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "wan")]
    wan_table: Option<PathBuf>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
    /// Partitions per region, fixed when DIR is first used [default: that of DIR, or 64]
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// Nodes of each region, at most 7; more can be added to DIR later [default: those of DIR, or 1]
    #[arg(long, value_name = "N")]
    nodes_per_region: Option<u32>,
    /// How long a lease lasts after its renewal was sent.
    #[arg(long, value_name = "MS", default_value_t = 4_000)]
    lease_ttl_ms: u64,
    /// Users have accounts and show access tokens, as anywhere but on one's own machine. Without it a user is whoever says a
    /// name.
    #[arg(long)]
    accounts: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Wan {
    /// Typical round trips of the internet.
    Real,
    /// None; links can still be cut.
    None,
}

/// Starts a deployment, says what runs where, and reports what happens to it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    telemetry::init("warn")?;
    let stop = shutdown::on_signal()?;
    let out = Output { json: args.json, development: !args.accounts };
    let lab = Lab::start(options(args)?).await?;
    out.preamble(&lab);
    let outcome = tokio::select! {
        outcome = serve(&lab, &out) => outcome,
        () = stop.cancelled() => Ok(()),
    };
    out.stopping(&lab);
    lab.stop().await?;
    outcome
}

async fn serve(lab: &Lab, out: &Output) -> anyhow::Result<()> {
    let mut events = lab.events();
    become_ready(lab, out).await?;
    report(&mut events, out).await;
    Ok(())
}

fn options(args: Args) -> anyhow::Result<Options> {
    let program = std::env::current_exe().context("cannot find this program itself")?;
    let table = match (args.wan_table, args.wan) {
        (Some(file), _) => WanTable::load(&file)?,
        (None, Wan::Real) => WanTable::default(),
        (None, Wan::None) => WanTable::none(),
    };
    let regions =
        args.regions.map(|names| lab::parse_regions(names.iter().map(String::as_str))).transpose()?;
    let mut overlay = Overlay::default();
    overlay.node.insert("development".to_owned(), (!args.accounts).into());
    Ok(Options {
        overlay,
        regions,
        dir: args.dir,
        base_port: args.base_port,
        base_port_default: Some(BASE_PORT_DEFAULT),
        table,
        partitions_per_region: args.partitions,
        nodes_per_region: args.nodes_per_region,
        lease_ttl: Duration::from_millis(args.lease_ttl_ms),
        ..Options::new(program)
    })
}

/// Returns when the deployment serves; a process that ends before that ends everything.
async fn become_ready(lab: &Lab, out: &Output) -> anyhow::Result<()> {
    match lab.wait_ready(READY_TIMEOUT).await {
        Ok(()) => {
            // It serves already; in sync it also acks `replicated` at once.
            if let Err(error) = lab.wait_in_sync(IN_SYNC_TIMEOUT).await {
                out.notice(&error.to_string());
            }
            out.ready(&lab.describe());
            Ok(())
        }
        Err(error) => match &error {
            LabError::Ended { log, .. } => {
                Err(anyhow::anyhow!("{error}, which ends with\n{}", log_tail(log)))
            }
            _ => Err(error.into()),
        },
    }
}

fn log_tail(log: &str) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| format!("{log}: {error}"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

async fn report(events: &mut Receiver<Event>, out: &Output) {
    loop {
        match events.recv().await {
            Ok(event) => out.event(&event),
            Err(RecvError::Lagged(missed)) => out.missed(missed),
            Err(RecvError::Closed) => return,
        }
    }
}

struct Output {
    json: bool,
    development: bool,
}

impl Output {
    fn preamble(&self, lab: &Lab) {
        let dir = lab.dir().display().to_string();
        if self.json {
            self.line(&json!({"event": "starting", "dir": dir, "temporary": lab.is_temporary(), "development": self.development}));
            return;
        }
        let fate = if lab.is_temporary() { "removed at the end; --dir keeps it" } else { "kept" };
        self.line(&format!("data, configurations and logs: {dir} ({fate})"));
        if self.development {
            self.line(&"DEVELOPMENT MODE: a user is whoever says a name. For this machine only.");
        } else {
            self.line(&"users have accounts: POST /v1/register at any node");
        }
    }

    fn notice(&self, text: &str) {
        if self.json {
            self.line(&json!({"event": "notice", "text": text}));
        } else {
            self.line(&text);
        }
    }

    fn ready(&self, described: &Description) {
        if self.json {
            self.json_processes(described);
            let mut ready = json!({"event": "ready"});
            if let (Some(ready), Ok(serde_json::Value::Object(lab))) =
                (ready.as_object_mut(), serde_json::to_value(described))
            {
                ready.extend(lab);
            }
            self.line(&ready);
            return;
        }
        let mut rows = vec![row!["REGION", "PROCESS", "PID", "ADDRESS"]];
        let pid = |pid: Option<u32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        rows.push(row!["-", "up (links, control)", std::process::id(), described.control]);
        for directory in &described.directories {
            rows.push(row!["-", directory.name, pid(directory.pid), directory.address]);
        }
        for region in &described.regions {
            for node in &region.nodes {
                rows.push(row![region.region, format!("node {}", node.id), pid(node.pid), node.address]);
            }
            let replicator = &region.replicator;
            rows.push(row![region.region, "replicator", pid(replicator.pid), replicator.address]);
            rows.push(row![region.region, "front (for clients)", std::process::id(), region.front]);
        }
        self.line(&tables::render(&rows).trim_end());
        self.line(&"ready");
    }

    fn json_processes(&self, described: &Description) {
        let process = |region: &str, process: &str, id: &str, pid: Option<u32>, address: &str| {
            self.line(&json!({
                "event": "process", "region": region, "process": process, "id": id, "pid": pid,
                "address": address,
            }));
        };
        for directory in &described.directories {
            process("", "directory", &directory.name, directory.pid, &directory.address);
        }
        for region in &described.regions {
            let name = region.region.as_str();
            for node in &region.nodes {
                process(name, "node", node.id.as_str(), node.pid, &node.address);
            }
            process(name, "replicator", name, region.replicator.pid, &region.replicator.address);
        }
    }

    fn event(&self, event: &Event) {
        match serde_json::to_value(event) {
            Ok(value) if self.json => self.line(&value),
            _ => self.line(event),
        }
    }

    fn missed(&self, events: u64) {
        if self.json {
            self.line(&json!({"event": "missed", "events": events}));
        } else {
            self.line(&format!("({events} events were not shown)"));
        }
    }

    fn stopping(&self, lab: &Lab) {
        if self.json {
            self.line(&json!({"event": "stopping"}));
        } else if lab.is_temporary() {
            self.line(&format!("stopping; {} is removed", lab.dir().display()));
        } else {
            self.line(&format!("stopping; `hearth up --dir {}` goes on", lab.dir().display()));
        }
    }

    /// A reader that has gone away is no reason to end the deployment.
    fn line(&self, text: &dyn std::fmt::Display) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}
