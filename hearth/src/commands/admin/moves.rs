//! Planned moves: draining a region, moving a partition, failback, and who did what.

use super::{Where, by::By};
use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use proto::directory::{self as wire, directory_client::DirectoryClient};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// How long the directory has to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often progress is asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Partitions that are listed by number.
const LISTED_MAX: usize = 16;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Move every home out of a region and give it no new ones, without failing a write.
    Drain(Drain),
    /// Let a region have homes again.
    Undrain(Undrain),
    /// Move one partition to a region, or give its move up.
    Move(Move),
    /// Show moves under way, and what switching each region off would hurt.
    Moves(Moves),
    /// Say whether partitions go back by themselves to the regions that they prefer.
    Failback(Failback),
    /// Show who did what, and when.
    Audit(Audit),
}

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// The region.
    region: String,
    /// Only tell what would be done.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// Wait until it is safe to power off; fails when it is not in time.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    timeout_s: u64,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct Undrain {
    /// The region.
    region: String,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The partition's number.
    partition: u32,
    /// Where it is to be homed.
    #[arg(required_unless_present = "abort", conflicts_with = "abort")]
    region: Option<String>,
    /// Give up the move that is under way.
    #[arg(long)]
    abort: bool,
    /// Return once the move has begun, without waiting for its end.
    #[arg(long, conflicts_with = "abort")]
    no_wait: bool,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct Moves {
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
    Status,
}

#[derive(Debug, clap::Args)]
pub(super) struct Failback {
    /// Switch it on or off, or show it.
    switch: Switch,
    /// Only for the partitions that prefer this region.
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// The newest so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// Does what was asked for, and prints what came of it.
pub(super) async fn run(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Drain(args) => drain(args).await,
        Action::Undrain(Undrain { region, by, at }) => {
            let (request_id, by) = (request_id(), by.name());
            let request = wire::UndrainRequest { request_id, region: region.clone(), by };
            answer(connect(&at).await?.undrain(request)).await?;
            println!("region {region} takes homes again");
            Ok(())
        }
        Action::Move(args) => move_one(args).await,
        Action::Moves(args) => show_moves(args).await,
        Action::Failback(args) => failback(args).await,
        Action::Audit(args) => audit(args).await,
    }
}

async fn drain(args: Drain) -> anyhow::Result<()> {
    let Drain { region, dry_run, wait, timeout_s, by, at } = args;
    let mut client = connect(&at).await?;
    let (request_id, by) = (request_id(), by.name());
    let request = wire::DrainRequest { request_id, region: region.clone(), by, dry_run };
    let reply = answer(client.drain(request)).await?;
    let homeless = reply.moves.iter().filter(|planned| planned.target.is_empty());
    let homeless: Vec<u32> = homeless.map(|planned| planned.partition).collect();
    let verb = if dry_run { "would move" } else { "move" };
    println!("region {region}: {} homes {verb}", reply.moves.len());
    for (node, count) in counted(reply.moves.iter().map(|planned| planned.target.as_str())) {
        println!("  {count} to {node}");
    }
    if !homeless.is_empty() {
        println!("  nobody can take {} just now: {}", homeless.len(), list(&homeless));
    }
    if dry_run {
        let exposed = reply.drain.map(|drain| drain.exposed).unwrap_or_default();
        if !exposed.is_empty() {
            println!(
                "without it {} partitions would be in sync in fewer than two regions: {}",
                exposed.len(),
                list(&exposed)
            );
        }
        return Ok(());
    }
    if !wait {
        println!("`hearth admin moves` shows how far it is");
        return Ok(());
    }
    wait_for_power_off(&mut client, &region, Duration::from_secs(timeout_s)).await
}

async fn wait_for_power_off(
    client: &mut DirectoryClient<Channel>,
    region: &str,
    patience: Duration,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told = usize::MAX;
    loop {
        let drain = region_drain(client, region).await?;
        let elapsed = started.elapsed().as_secs_f64();
        if drain.safe_to_power_off {
            println!("region {region}: safe to power off, after {elapsed:.1} s");
            return Ok(());
        }
        if drain.homes.len() != told {
            told = drain.homes.len();
            println!("  {told} homes left after {elapsed:.1} s");
        }
        if started.elapsed() >= patience {
            bail!(
                "region {region} is NOT safe to power off after {elapsed:.0} s: {}",
                blockers(&drain).join("; ")
            );
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn region_drain(
    client: &mut DirectoryClient<Channel>,
    region: &str,
) -> anyhow::Result<wire::RegionDrain> {
    let moves = answer(client.moves(wire::MovesRequest {})).await?;
    let found = moves.regions.into_iter().find(|row| row.region == region);
    found.with_context(|| format!("the directory knows no region {region}"))
}

/// What stands in the way of switching a region off.
fn blockers(drain: &wire::RegionDrain) -> Vec<String> {
    let mut blockers = Vec::new();
    if drain.status() != wire::RegionStatus::Draining {
        blockers.push("it is not drained and may get new homes".to_owned());
    }
    let mut add = |partitions: &[u32], what: &str| {
        if !partitions.is_empty() {
            blockers.push(format!("{} {what}: {}", partitions.len(), list(partitions)));
        }
    };
    add(&drain.homes, "partitions are homed there");
    add(&drain.arriving, "partitions are on their way there");
    add(&drain.exposed, "partitions would be in sync in fewer than two regions");
    if drain.directory_needs_it {
        blockers.push("too few replicas of the directory elsewhere answer".to_owned());
    }
    blockers
}

async fn move_one(args: Move) -> anyhow::Result<()> {
    let Move { partition, region, abort, no_wait, by, at } = args;
    let by = by.name();
    let mut client = connect(&at).await?;
    if abort {
        let request = wire::AbortMoveRequest { request_id: request_id(), partition, by };
        answer(client.abort_move(request)).await?;
        println!("the move of partition {partition} is given up: its home goes on");
        return Ok(());
    }
    let region = region.unwrap_or_default();
    let request = wire::MoveRequest { request_id: request_id(), partition, region: region.clone(), by };
    let id = answer(client.r#move(request)).await?.move_id;
    println!("move {id} of partition {partition} to {region} has begun");
    if no_wait {
        return Ok(());
    }
    loop {
        let moves = answer(client.moves(wire::MovesRequest {})).await?;
        let goes_on = moves.moves.iter().any(|row| row.r#move.as_ref().is_some_and(|it| it.id == id));
        if !goes_on {
            let there = moves.regions.iter().find(|row| row.region == region);
            if there.is_some_and(|row| row.homes.contains(&partition)) {
                println!("partition {partition} is homed in {region}");
                return Ok(());
            }
            bail!("move {id} of partition {partition} came to nothing: `hearth admin audit` tells why");
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn show_moves(args: Moves) -> anyhow::Result<()> {
    let reply = answer(connect(&args.at).await?.moves(wire::MovesRequest {})).await?;
    if args.json {
        println!("{}", serde_json::to_string(&moves_json(&reply))?);
        return Ok(());
    }
    for under_way in &reply.moves {
        let Some(moving) = &under_way.r#move else { continue };
        let node = |home: Option<&wire::Home>| home.map_or("nobody", |home| &home.node).to_owned();
        println!(
            "move {} of partition {}@{} from {} to {}: {}",
            moving.id,
            under_way.partition,
            under_way.epoch,
            node(under_way.source.as_ref()),
            node(moving.target.as_ref()),
            cause(moving)
        );
    }
    if reply.moves.is_empty() {
        println!("no partition is being moved");
    }
    for region in &reply.regions {
        let status = match region.status() {
            wire::RegionStatus::Draining => "draining",
            wire::RegionStatus::Down => "down",
            _ => "active",
        };
        let verdict = match region.safe_to_power_off {
            true => "safe to power off".to_owned(),
            false => format!("NOT safe to power off: {}", blockers(region).join("; ")),
        };
        println!("region {} ({status}, {} homes): {verdict}", region.region, region.homes.len());
    }
    println!("{}", failback_text(&reply));
    Ok(())
}

fn cause(moving: &wire::Move) -> &'static str {
    match moving.cause() {
        wire::MoveCause::Drain => "drain",
        wire::MoveCause::Failback => "failback",
        wire::MoveCause::Leaving => "leaving",
        _ => "operator",
    }
}

fn moves_json(reply: &wire::MovesReply) -> serde_json::Value {
    let moves: Vec<_> = reply
        .moves
        .iter()
        .filter_map(|row| {
            let moving = row.r#move.as_ref()?;
            Some(json!({
                "move_id": moving.id, "partition": row.partition, "epoch": row.epoch, "cause": cause(moving),
                "source": row.source.as_ref().map(|home| &home.node),
                "target": moving.target.as_ref().map(|home| &home.node),
            }))
        })
        .collect();
    let regions: Vec<_> = reply
        .regions
        .iter()
        .map(|row| {
            json!({
                "region": row.region, "draining": row.status() == wire::RegionStatus::Draining,
                "safe_to_power_off": row.safe_to_power_off, "blockers": blockers(row), "homes": row.homes,
                "arriving": row.arriving, "exposed": row.exposed, "failback": reply.failback && !row.failback_off,
                "away": row.away,
            })
        })
        .collect();
    json!({
        "moves": moves, "regions": regions, "failback": reply.failback,
        "failback_cooldown_ms": reply.failback_cooldown_ms,
    })
}

fn failback_text(reply: &wire::MovesReply) -> String {
    if !reply.failback {
        return "failback is off in the directory's configuration".to_owned();
    }
    let off: Vec<&str> =
        reply.regions.iter().filter(|row| row.failback_off).map(|row| row.region.as_str()).collect();
    let away: usize = reply.regions.iter().filter(|row| !row.failback_off).map(|row| row.away.len()).sum();
    let cooldown_s = reply.failback_cooldown_ms / 1_000;
    let except = if off.is_empty() { String::new() } else { format!(", but off for {}", off.join(", ")) };
    format!("failback is on after {cooldown_s} s{except}: {away} partitions are away from their regions")
}

async fn failback(args: Failback) -> anyhow::Result<()> {
    let mut client = connect(&args.at).await?;
    let on = match args.switch {
        Switch::On => Some(true),
        Switch::Off => Some(false),
        Switch::Status => None,
    };
    if let Some(on) = on {
        let region = args.region.unwrap_or_default();
        let request = wire::SetFailbackRequest { request_id: request_id(), region, on, by: args.by.name() };
        answer(client.set_failback(request)).await?;
    }
    println!("{}", failback_text(&answer(client.moves(wire::MovesRequest {})).await?));
    Ok(())
}

async fn audit(args: Audit) -> anyhow::Result<()> {
    let request = wire::AuditRequest { limit: args.limit };
    let events = answer(connect(&args.at).await?.audit(request)).await?.events;
    if args.json {
        let events: Vec<_> = events
            .iter()
            .map(|event| json!({"at_ms": event.at_ms, "who": event.who, "what": event.what}))
            .collect();
        println!("{}", serde_json::to_string(&events)?);
        return Ok(());
    }
    for event in &events {
        let who = if event.who.is_empty() { "directory" } else { &event.who };
        println!("{}  {who}: {}", super::render::date_and_time(event.at_ms), event.what);
    }
    Ok(())
}

async fn connect(at: &Where) -> anyhow::Result<DirectoryClient<Channel>> {
    let address = at.directory().await?;
    let endpoint = Endpoint::from_shared(address.clone())?.connect_timeout(ANSWER_TIMEOUT);
    let channel = endpoint.connect().await.with_context(|| format!("directory {address}"))?;
    Ok(DirectoryClient::new(channel).max_decoding_message_size(types::limits::WIRE_MESSAGE_MAX_BYTES))
}

async fn answer<T>(
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> anyhow::Result<T> {
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => bail!("{}", status.message()),
        Err(_) => bail!("the directory does not answer within {ANSWER_TIMEOUT:?}"),
    }
}

fn request_id() -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

fn counted<'a>(names: impl Iterator<Item = &'a str>) -> std::collections::BTreeMap<&'a str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for name in names.filter(|name| !name.is_empty()) {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn list(partitions: &[u32]) -> String {
    let shown: Vec<String> = partitions.iter().take(LISTED_MAX).map(u32::to_string).collect();
    let more = if partitions.len() > LISTED_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_named() {
        let drain = wire::RegionDrain {
            region: "us-east".into(),
            status: wire::RegionStatus::Active.into(),
            homes: (0..20).collect(),
            exposed: vec![3],
            ..wire::RegionDrain::default()
        };
        assert_eq!(
            blockers(&drain),
            [
                "it is not drained and may get new homes",
                "20 partitions are homed there: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …",
                "1 partitions would be in sync in fewer than two regions: 3",
            ]
        );
    }

    #[test]
    fn failback_tells_what_it_will_do() {
        let region = |name: &str, failback_off, away: &[u32]| wire::RegionDrain {
            region: name.into(),
            failback_off,
            away: away.to_vec(),
            ..wire::RegionDrain::default()
        };
        let regions = vec![region("a", true, &[1, 2]), region("b", false, &[3])];
        let mut reply =
            wire::MovesReply { regions, failback: true, failback_cooldown_ms: 9_000, ..Default::default() };
        assert_eq!(
            failback_text(&reply),
            "failback is on after 9 s, but off for a: 1 partitions are away from their regions"
        );
        reply.failback = false;
        assert_eq!(failback_text(&reply), "failback is off in the directory's configuration");
    }
}
