//! `hearth admin promote-unsafe`, `allow-one-region` and `fail-over`: what an operator answers for.

use super::by::By;
use anyhow::{Context as _, bail};
use proto::directory::{
    AllowAloneRequest, FailOverRequest, PromoteUnsafeRequest, directory_client::DirectoryClient,
};
use std::time::Duration;
use tonic::transport::Channel;

/// The longest that one region may do without another by one word.
const ALONE_MAX_MINUTES: u64 = 24 * 60;

/// A copy that is not in sync becomes home: what was acked and is not on it is undone, until the store that
/// holds it comes back and is salvaged.
#[derive(Debug, clap::Args)]
pub(super) struct PromoteUnsafe {
    /// A partition that has no home.
    partition: u32,
    /// The node whose copy becomes home.
    node: String,
    /// Has to be said.
    #[arg(long, required = true)]
    i_accept_losing_acked_messages: bool,
    #[command(flatten)]
    by: By,
}

/// Lets the homes of a region call `replicated` what no other region holds: it is lost with that region.
#[derive(Debug, clap::Args)]
pub(super) struct AllowOneRegion {
    /// The region.
    region: String,
    /// For how long; 0 ends it.
    #[arg(long, value_name = "MINUTES")]
    minutes: u64,
    #[command(flatten)]
    by: By,
}

/// Says that a region is lost: its homes go to in-sync copies elsewhere, whatever stops automatic failover.
#[derive(Debug, clap::Args)]
pub(super) struct FailOver {
    /// The region.
    region: String,
    /// Take its homes away although its nodes are heard.
    #[arg(long)]
    even_if_heard: bool,
    #[command(flatten)]
    by: By,
}

async fn connect(directory: &str) -> anyhow::Result<DirectoryClient<Channel>> {
    DirectoryClient::connect(directory.to_owned())
        .await
        .with_context(|| format!("the directory at {directory} cannot be reached"))
}

pub(super) async fn promote_unsafe(args: PromoteUnsafe, directory: &str) -> anyhow::Result<()> {
    if !args.i_accept_losing_acked_messages {
        bail!("this can lose acked messages: say --i-accept-losing-acked-messages");
    }
    let request = PromoteUnsafeRequest {
        request_id: request_id(),
        partition: args.partition,
        node: args.node.clone(),
        by: args.by.name(),
    };
    let reply = connect(directory).await?.promote_unsafe(request).await;
    let reply = reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    println!(
        "partition {} is homed at {} in epoch {} from lsn {}; it is recorded. Nothing is replicated until \
         another region is in sync.",
        args.partition, args.node, reply.epoch, reply.start_lsn
    );
    Ok(())
}

pub(super) async fn allow_one_region(args: AllowOneRegion, directory: &str) -> anyhow::Result<()> {
    if args.minutes > ALONE_MAX_MINUTES {
        bail!("{} minutes are too many: {ALONE_MAX_MINUTES} is the most", args.minutes);
    }
    let until_ms = match Duration::from_secs(args.minutes * 60).as_millis() as u64 {
        0 => 0,
        for_ms => host::clock::wall_ms() + for_ms,
    };
    let (region, by) = (args.region.clone(), args.by.name());
    let request = AllowAloneRequest { request_id: request_id(), region, until_ms, by };
    let reply = connect(directory).await?.allow_alone(request).await;
    reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
    match args.minutes {
        0 => println!("in {} one region is not enough any more", args.region),
        minutes => println!(
            "for {minutes} minutes one region is enough in {}: what is replicated there can be lost with it. It \
             is recorded.",
            args.region
        ),
    }
    Ok(())
}

pub(super) async fn fail_over(args: FailOver, directory: &str) -> anyhow::Result<()> {
    let request = FailOverRequest {
        request_id: request_id(),
        region: args.region.clone(),
        even_if_heard: args.even_if_heard,
        by: args.by.name(),
    };
    let reply = connect(directory).await?.fail_over(request).await;
    let reply = reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    println!(
        "{} homes in {} have ended, and go to in-sync copies elsewhere once the leases there are over; hearth admin \
         status shows how far that is. It is recorded.",
        reply.homes, args.region
    );
    Ok(())
}

fn request_id() -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(host::random::id().as_bytes())
}
