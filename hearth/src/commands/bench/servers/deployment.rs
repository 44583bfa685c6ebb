//! The deployment that is measured: one that `hearth up` runs already, or one of the run's own.

use super::disk::refuse_memory;
use anyhow::{Context as _, Result, bail};
use lab::{Description, RegionDescription, control::Client};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use types::RegionId;

/// Where to find or how to start what is measured.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "What is measured")]
pub(crate) struct Target {
    /// The base port of the running `hearth up` [default: 7400; with --up, free ports]
    #[arg(long, value_name = "N", global = true)]
    pub(crate) base_port: Option<u16>,
    /// Start a deployment of these regions for the run, and remove it in the end.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', global = true)]
    pub(crate) up: Option<Vec<RegionId>>,
    /// With --up: how far its regions are apart: `real`, `none`, or a table as lab/wan.toml is one.
    #[arg(long, value_name = "real|none|FILE", default_value = "real", global = true)]
    pub(crate) wan: String,
    /// With --up: a folder on a disk for its data [default: a temporary one]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// With --up: partitions per region.
    #[arg(long, value_name = "N", global = true)]
    pub(crate) partitions: Option<u32>,
}

/// A deployment that runs.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) described: Description,
    pub(crate) control: Client,
    /// Dropped last: it ends the processes.
    _own: Option<Own>,
}

impl Deployment {
    /// Finds or starts it, and refuses one whose data is not on a disk.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let own = match &target.up {
            Some(regions) => {
                let (target, regions) = (target.clone(), regions.clone());
                Some(tokio::task::spawn_blocking(move || Own::start(&target, &regions)).await??)
            }
            None if target.dir.is_some() || target.partitions.is_some() => {
                bail!("--dir and --partitions are of a deployment that --up starts")
            }
            None => None,
        };
        let base_port = own.as_ref().map(|own| own.base_port).or(target.base_port);
        let control = Client::new(base_port.unwrap_or(crate::base_port::BASE_PORT_DEFAULT));
        let described = control.describe().await?;
        refuse_memory(Path::new(&described.dir))?;
        Ok(Self { described, control, _own: own })
    }

    /// A region by name, or the first one.
    pub(crate) fn region(&self, name: Option<&RegionId>) -> Result<&RegionDescription> {
        let regions = &self.described.regions;
        let Some(name) = name else { return regions.first().context("the deployment has no regions") };
        let known = || regions.iter().map(|place| place.region.as_str()).collect::<Vec<_>>().join(", ");
        regions
            .iter()
            .find(|place| place.region == *name)
            .with_context(|| format!("no region is called {name}; there are {}", known()))
    }

    /// All regions but one.
    pub(crate) fn others(&self, than: &RegionId) -> Vec<&RegionDescription> {
        self.described.regions.iter().filter(|place| place.region != *than).collect()
    }
}

/// A `hearth up` that ends with the run.
#[derive(Debug)]
struct Own {
    child: Child,
    base_port: u16,
    /// Removed in the end, when it was empty before.
    dir: Option<PathBuf>,
}

impl Own {
    fn start(target: &Target, regions: &[RegionId]) -> Result<Self> {
        let base_port = match target.base_port {
            Some(port) => port,
            None => free_base_port(regions.len()).context("no free ports for a deployment")?,
        };
        let dir = target.dir.as_ref().map(|dir| -> Result<PathBuf> {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            refuse_memory(dir)?;
            let dir = dir.join(format!("bench-{}-{base_port}", std::process::id()));
            if dir.exists() {
                bail!("{} exists already", dir.display());
            }
            Ok(dir)
        });
        let dir = dir.transpose()?;
        if dir.is_none() {
            refuse_memory(&std::env::temp_dir())?;
        }
        let mut command = Command::new(std::env::current_exe().context("cannot find this program itself")?);
        let names: Vec<_> = regions.iter().map(RegionId::as_str).collect();
        command.args(["up", "--json", "--regions", &names.join(","), "--base-port", &base_port.to_string()]);
        match target.wan.as_str() {
            kind @ ("real" | "none") => command.args(["--wan", kind]),
            file => command.args(["--wan-table", file]),
        };
        if let Some(dir) = &dir {
            command.arg("--dir").arg(dir);
        }
        if let Some(partitions) = target.partitions {
            command.args(["--partitions", &partitions.to_string()]);
        }
        let child = command.stdout(Stdio::piped()).spawn().context("cannot start `hearth up`")?;
        let mut own = Self { child, base_port, dir };
        own.wait_ready()?;
        Ok(own)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let output = self.child.stdout.take().context("its output is not ours")?;
        let mut lines = BufReader::new(output).lines().map_while(std::io::Result::ok);
        if !lines.any(|line| line.contains("\"event\":\"ready\"")) {
            bail!("the deployment did not become ready");
        }
        // What it says from now on is read so that it is never held up.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().map(Pid::from_raw);
        if pid.is_none_or(|pid| kill(pid, Signal::SIGTERM).is_err()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        if let Some(dir) = &self.dir {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A base port whose ports are all free now, below the range from which systems give out ports.
fn free_base_port(regions: usize) -> Option<u16> {
    const FIRST: u16 = 21_000;
    let ports = 10 * (u16::try_from(regions).ok()? + 1);
    let offset = u16::try_from(std::process::id() % 500).ok()? * 20;
    let bases = (0..).map_while(|at: u16| FIRST.checked_add(offset)?.checked_add(at.checked_mul(ports)?));
    bases
        .take_while(|base| *base < 32_000 - ports)
        .find(|base| (*base..base + ports).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
}
