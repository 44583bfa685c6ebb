//! `hearth admin rehome`: one chat goes to another region, while people write to it.

use super::by::By;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use types::{LogId, Pin, PinSegment, UserId};
use uuid::Uuid;

/// How long the directory has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether a re-homing is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long a re-homing is waited for; the directory gives it up long before.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The chat: its id, or the two users of a direct chat as `alice,bob`
    #[arg(value_name = "CHAT", value_parser = log_id, requires = "goal")]
    log: Option<LogId>,
    /// Where it is to be homed
    #[arg(value_name = "REGION", requires = "log", group = "goal")]
    region: Option<String>,
    /// Give the re-homing of this chat up instead
    #[arg(long, requires = "log", group = "goal")]
    abort: bool,
    /// Return when it is over
    #[arg(long, requires = "region")]
    wait: bool,
    #[command(flatten)]
    by: By,
}

/// A chat as people can name it.
fn log_id(text: &str) -> Result<LogId, String> {
    match text.split_once(',') {
        Some((one, other)) => {
            let user = |name: &str| UserId::new(name.trim()).map_err(|error| error.to_string());
            Ok(LogId::direct(&user(one)?, &user(other)?))
        }
        None => text.parse().map_err(|error: types::IdError| error.to_string()),
    }
}

/// Asks the directory.
pub(super) async fn run(args: Args, directory: &str) -> anyhow::Result<()> {
    let mut directory = connect(directory).await?;
    match (args.log, args.region) {
        (None, _) => list(&mut directory).await,
        (Some(log), None) => abort(&mut directory, log, args.by).await,
        (Some(log), Some(region)) => begin(&mut directory, log, region, args.wait, args.by).await,
    }
}

async fn connect(address: &str) -> anyhow::Result<DirectoryClient<Channel>> {
    let endpoint = Endpoint::from_shared(address.to_owned())?.timeout(TIMEOUT).connect_timeout(TIMEOUT);
    let channel = endpoint.connect().await.with_context(|| format!("no directory answers at {address}"))?;
    Ok(DirectoryClient::new(channel))
}

async fn begin(
    directory: &mut DirectoryClient<Channel>,
    log: LogId,
    region: String,
    wait: bool,
    by: By,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let request = wire::RehomeRequest {
        request_id: request_id(),
        log: log_bytes(log),
        region: region.clone(),
        by: by.name(),
    };
    let rehome = directory.rehome(request).await.map_err(refused)?.into_inner().rehome;
    let Some(rehome) = rehome else {
        println!("{log} is homed in {region}");
        return Ok(());
    };
    let from = rehome.from.context("the directory did not say where the chat is")?.into();
    println!("{log} goes from {} to partition {} in {region}", place(&from), rehome.to);
    if !wait {
        return Ok(());
    }
    while is_under_way(directory, rehome.id).await? {
        if began.elapsed() > WAIT_MAX {
            bail!("it is still under way after {WAIT_MAX:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    let now = pin(directory, log).await?;
    if now.partition.get() != rehome.to {
        bail!("it was given up: {log} stays in {}; `hearth admin audit` tells why", place(&now));
    }
    let (offset, seconds) = (now.first_offset, began.elapsed().as_secs_f64());
    println!("{log} is homed in {region} from offset {offset} on, after {seconds:.1} s");
    Ok(())
}

async fn abort(directory: &mut DirectoryClient<Channel>, log: LogId, by: By) -> anyhow::Result<()> {
    let request = wire::AbortRehomeRequest { request_id: request_id(), log: log_bytes(log), by: by.name() };
    directory.abort_rehome(request).await.map_err(refused)?;
    println!("{log} stays where it is");
    Ok(())
}

async fn list(directory: &mut DirectoryClient<Channel>) -> anyhow::Result<()> {
    let rehomes = under_way(directory).await?;
    for rehome in &rehomes {
        let log = LogId::try_from(&rehome.log[..])?;
        let from = rehome.from.context("the directory did not say where the chat is")?.into();
        println!("{log} goes from {} to partition {}", place(&from), rehome.to);
    }
    if rehomes.is_empty() {
        println!("no chat is being re-homed");
    }
    Ok(())
}

async fn is_under_way(directory: &mut DirectoryClient<Channel>, id: u64) -> anyhow::Result<bool> {
    Ok(under_way(directory).await?.iter().any(|rehome| rehome.id == id))
}

async fn under_way(directory: &mut DirectoryClient<Channel>) -> anyhow::Result<Vec<wire::Rehome>> {
    Ok(directory.rehomes(wire::RehomesRequest {}).await.map_err(refused)?.into_inner().rehomes)
}

async fn pin(directory: &mut DirectoryClient<Channel>, log: LogId) -> anyhow::Result<PinSegment> {
    let request = wire::GetPinsRequest { logs: vec![log_bytes(log)] };
    let pins = directory.get_pins(request).await.map_err(refused)?.into_inner().pins;
    let pin = Pin::try_from(pins.into_iter().next().context("the directory answered no pin")?)?;
    pin.current().copied().with_context(|| format!("{log} is not pinned"))
}

fn place(segment: &PinSegment) -> String {
    format!("partition {} (generation {})", segment.partition, segment.generation)
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

fn log_bytes(log: LogId) -> Bytes {
    Bytes::copy_from_slice(&log.to_bytes())
}

fn request_id() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_named_by_its_id_or_its_two_users() {
        let alice = UserId::new("alice").expect("a valid name");
        let bob = UserId::new("bob").expect("a valid name");
        let chat = LogId::direct(&alice, &bob);
        for text in ["alice,bob", "bob, alice", &chat.to_string()] {
            assert_eq!(log_id(text), Ok(chat), "{text}");
        }
        assert!(log_id("alice").is_err() && log_id("alice,b/b").is_err());
    }
}
