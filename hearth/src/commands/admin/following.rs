//! `hearth admin following`: whether chats follow those who write them.

use super::{Where, by::By};
use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueEnum;
use proto::directory::{self as wire, homes_client::HomesClient};
use std::time::Duration;
use tonic::transport::Endpoint;
use uuid::Uuid;

/// How long the directory has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
    Status,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Switch it on or off, or show it
    switch: Switch,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    at: Where,
}

/// Asks the directory.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let address = args.at.directory().await?;
    let endpoint = Endpoint::from_shared(address.clone())?.timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let channel = endpoint.connect().await.with_context(|| format!("no directory answers at {address}"))?;
    let mut homes = HomesClient::new(channel);
    let on = match args.switch {
        Switch::On => Some(true),
        Switch::Off => Some(false),
        Switch::Status => None,
    };
    if let Some(on) = on {
        let request_id = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
        let by = args.by.name();
        homes.set_following(wire::SetFollowingRequest { request_id, on, by }).await.map_err(refused)?;
    }
    let reply = homes.following(wire::FollowingRequest {}).await.map_err(refused)?.into_inner();
    println!("{}", text(&reply));
    Ok(())
}

fn text(reply: &wire::FollowingReply) -> String {
    if !reply.on {
        return "chats follow nobody: it is off in the directory's configuration".to_owned();
    }
    if reply.off {
        return "chats follow nobody: it was switched off".to_owned();
    }
    let wire::FollowingReply { per_minute, region_per_minute, under_way, .. } = reply;
    let cooldown_s = reply.cooldown_ms / 1_000;
    format!(
        "chats follow those who write them: {under_way} are on their way; at most {per_minute} a minute and \
         {region_per_minute} to one region, each once in {cooldown_s} s"
    )
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_how_it_is() {
        let mut reply = wire::FollowingReply {
            on: true,
            off: false,
            cooldown_ms: 60_000,
            per_minute: 6,
            region_per_minute: 3,
            under_way: 2,
        };
        assert_eq!(
            text(&reply),
            "chats follow those who write them: 2 are on their way; at most 6 a minute and 3 to one region, each \
             once in 60 s"
        );
        reply.off = true;
        assert_eq!(text(&reply), "chats follow nobody: it was switched off");
        reply.on = false;
        assert_eq!(text(&reply), "chats follow nobody: it is off in the directory's configuration");
    }
}
