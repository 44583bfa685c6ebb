//! The suite: every goal beside what was measured. Each part has deployments of its own and a bounded time;
//! one that fails says so, and the rest goes on.

mod goals;
mod parts;

use super::{
    Args, Output,
    args::within,
    report::{Report, html_table, page},
    servers::Target,
};
use crate::{causes, tables};
use anyhow::{Context as _, Result, bail};
use clap::Parser;
use goals::{HEADER, Outcome};
use parts::{Part, parts};
use serde::Serialize;
use std::time::Instant;

/// Every goal beside what is measured, with deployments of its own; about ten minutes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Suite {
    /// Only these parts, in the suite's order [default: all]
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds that count, of each run.
    #[arg(long, default_value_t = 10, value_name = "N")]
    seconds: u64,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    connections: usize,
    /// Messages of the long chat.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    messages: usize,
    /// Records that a follower is behind.
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    records: usize,
}

/// A line as it is typed behind `hearth bench`.
#[derive(Debug, Parser)]
#[command(name = "hearth bench", no_binary_name = true)]
struct Typed {
    #[command(flatten)]
    args: Args,
}

#[derive(Debug, Serialize)]
struct Summary {
    goals: Vec<Outcome>,
    runs: Vec<Report>,
    /// Why parts failed.
    failures: Vec<String>,
}

impl Suite {
    pub(super) fn check(&self) -> Result<()> {
        within("seconds", self.seconds, 1..=3_600)?;
        let known: Vec<_> = parts(self).iter().map(|part| part.name).collect();
        match self.only.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => bail!("no part is called {name:?}; there are {}", known.join(", ")),
            None => Ok(()),
        }
    }

    pub(super) async fn run(&self, target: &Target, output: &Output) -> Result<()> {
        let mut summary = Summary { goals: Vec::new(), runs: Vec::new(), failures: Vec::new() };
        let chosen = |part: &Part| self.only.is_empty() || self.only.iter().any(|name| name == part.name);
        for part in parts(self).into_iter().filter(chosen) {
            let began = Instant::now();
            eprintln!("{} …", part.name);
            let mut reports = Vec::new();
            let ran = tokio::time::timeout(part.patience, run_all(&part, target, output, &mut reports)).await;
            let failure = match ran {
                Ok(Ok(())) => reports.iter().flat_map(|report: &Report| report.faults.clone()).next(),
                Ok(Err(error)) => Some(causes::told(&error)),
                Err(_) => Some(format!("not done after {:?}", part.patience)),
            };
            // A run with a fault measured nothing that counts.
            let counted = if failure.is_some() { &[][..] } else { &reports };
            let command = format!("hearth bench {}", part.commands.join("; hearth bench "));
            let outcomes = part.goals.iter().map(|goal| goal.outcome(part.name, counted, &command));
            for outcome in outcomes {
                eprintln!("  {}", outcome.row()[1..].join("   "));
                summary.goals.push(outcome);
            }
            if let Some(why) = failure {
                eprintln!("  FAILED: {why}");
                summary.failures.push(format!("{}: {why}", part.name));
            }
            eprintln!("  {:.0} s", began.elapsed().as_secs_f64());
            summary.runs.extend(reports);
        }
        summary.show(output)?;
        if summary.failures.is_empty() { Ok(()) } else { bail!("{}", summary.failures.join("; ")) }
    }
}

async fn run_all(part: &Part, target: &Target, output: &Output, reports: &mut Vec<Report>) -> Result<()> {
    for command in &part.commands {
        let typed = Typed::try_parse_from(command.split_whitespace()).context("the suite's own command")?;
        let args = Args {
            target: Target { dir: target.dir.clone(), base_port: target.base_port, ..typed.args.target },
            output: output.clone(),
            ..typed.args
        };
        reports.push(Box::pin(super::measure(&args)).await?);
    }
    Ok(())
}

impl Summary {
    fn rows(&self) -> Vec<Vec<String>> {
        let header = HEADER.map(str::to_owned).to_vec();
        std::iter::once(header).chain(self.goals.iter().map(Outcome::row)).collect()
    }

    fn show(&self, output: &Output) -> Result<()> {
        if output.json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            self.runs.iter().for_each(|run| println!("{run}"));
            print!("{}", tables::render(&self.rows()));
            self.failures.iter().for_each(|why| println!("FAILED {why}"));
        }
        if let Some(file) = &output.html {
            let page = page("hearth bench suite", &html_table(&self.rows(), 2), &self.runs);
            std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(only: &[&str]) -> Suite {
        let only = only.iter().map(|name| (*name).to_owned()).collect();
        Suite { only, seconds: 3, connections: 100, messages: 10_000, records: 1_000 }
    }

    #[test]
    fn every_part_is_typed_as_the_command_line_takes_it() {
        for part in parts(&suite(&[])) {
            for command in &part.commands {
                let typed = Typed::try_parse_from(command.split_whitespace()).expect(command);
                typed.args.mode.check().expect(command);
                assert!(typed.args.target.up.is_some(), "{command}");
            }
        }
    }

    #[test]
    fn a_part_that_does_not_exist_is_named() {
        let error = suite(&["pairs", "moon"]).check().expect_err("no such part").to_string();
        assert!(error.contains("\"moon\"; there are pairs,"), "{error}");
        assert!(suite(&["idle"]).check().is_ok());
    }
}
