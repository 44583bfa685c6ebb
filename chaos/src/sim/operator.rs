//! An operator who moves homes about while people write, at times drawn by the seed.

use super::{party::Desk, world};
use host::net::Connector;
use proto::directory::{
    AbortMoveRequest, DrainRequest, MoveRequest, RehomeRequest, UndrainRequest,
    directory_client::DirectoryClient,
};
use rand::{RngExt as _, rngs::StdRng};
use std::{fmt, ops::Range, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use types::RegionId;

/// In whose name.
const BY: &str = "operator";
/// A replica that has not answered by then is passed over.
const PATIENCE: Duration = Duration::from_secs(2);
/// Attempts of one command; then the operator lets it be.
const TRIES: usize = 6;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How exactly the operator keeps to the times.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is asked of the directory. Regions and chats go by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Every home leaves the region.
    Drain(usize),
    /// The region may have homes again.
    Undrain(usize),
    /// One partition moves to a region.
    Move { partition: u32, region: usize },
    /// The move of a partition is given up, if there is one.
    GiveUp(u32),
    /// One chat is re-homed to a region.
    Rehome { chat: usize, region: usize },
}

/// A command with its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commanded {
    pub(super) at_us: u64,
    pub(super) command: Command,
}

/// Draws up to `max` commands.
pub(super) fn draw(
    rng: &mut StdRng,
    max: usize,
    regions: usize,
    partitions: u32,
    when: &Range<u64>,
) -> Vec<Commanded> {
    let mut commands = Vec::new();
    for _ in 0..rng.random_range(1..=max) {
        let at_us = rng.random_range(when.clone());
        let (region, partition) = (rng.random_range(0..regions), rng.random_range(0..partitions));
        let command = match rng.random_range(0..10) {
            0..=2 => Command::Drain(region),
            3..=5 => Command::Move { partition, region },
            _ => Command::Rehome { chat: rng.random_range(0..64), region },
        };
        commands.push(Commanded { at_us, command });
        let later_us = at_us + rng.random_range(50_000..6_000_000);
        match command {
            Command::Drain(region) => {
                commands.push(Commanded { at_us: later_us, command: Command::Undrain(region) });
            }
            Command::Move { partition, .. } if rng.random_bool(0.3) => {
                let at_us = at_us + rng.random_range(10_000..1_000_000);
                commands.push(Commanded { at_us, command: Command::GiveUp(partition) });
            }
            _ => {}
        }
    }
    commands
}

/// Carries all of it out, each at its time.
pub(super) async fn work(
    directories: Vec<String>,
    regions: Vec<RegionId>,
    mut commands: Vec<Commanded>,
    mut rng: StdRng,
    desk: Arc<Desk>,
) {
    commands.sort_by_key(|commanded| commanded.at_us);
    for Commanded { at_us, command } in commands {
        while world::now_us() < at_us {
            sleep(LOOK_EVERY).await;
        }
        let request_id: [u8; 16] = rng.random();
        for address in directories.iter().cycle().take(TRIES) {
            let asking = ask(address, command, request_id, &regions, &desk);
            match timeout(PATIENCE, asking).await {
                Ok(Ok(())) => {
                    tracing::info!(%command, "done");
                    break;
                }
                Ok(Err(error)) => tracing::info!(%command, %error, "not done"),
                Err(_) => tracing::info!(%command, "not answered"),
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

async fn ask(
    address: &str,
    command: Command,
    request_id: [u8; 16],
    regions: &[RegionId],
    desk: &Desk,
) -> anyhow::Result<()> {
    let endpoint = Endpoint::from_shared(address.to_owned())?;
    let mut directory = DirectoryClient::new(endpoint.connect_with_connector(Connector).await?);
    let request_id = request_id.to_vec().into();
    let (by, region) = (BY.to_owned(), |at: usize| regions[at].to_string());
    match command {
        Command::Drain(at) => {
            let request = DrainRequest { request_id, region: region(at), by, dry_run: false };
            directory.drain(request).await?;
        }
        Command::Undrain(at) => {
            directory.undrain(UndrainRequest { request_id, region: region(at), by }).await?;
        }
        Command::Move { partition, region: at } => {
            directory.r#move(MoveRequest { request_id, partition, region: region(at), by }).await?;
        }
        Command::GiveUp(partition) => {
            give_up(&mut directory, AbortMoveRequest { request_id, partition, by }).await?;
        }
        Command::Rehome { chat, region: at } => {
            let chats = desk.chats();
            let Some(log) = chats.get(chat % chats.len().max(1)) else { return Ok(()) };
            let log = log.to_bytes().to_vec().into();
            directory.rehome(RehomeRequest { request_id, log, region: region(at), by }).await?;
        }
    }
    Ok(())
}

/// A partition that is not being moved is as the operator wants it.
async fn give_up(directory: &mut DirectoryClient<Channel>, request: AbortMoveRequest) -> Result<(), Status> {
    match directory.abort_move(request).await {
        Err(status) if status.code() == tonic::Code::FailedPrecondition => Ok(()),
        answer => answer.map(drop),
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(region) => write!(f, "drain region {region}"),
            Self::Undrain(region) => write!(f, "undrain region {region}"),
            Self::Move { partition, region } => write!(f, "move partition {partition} to region {region}"),
            Self::GiveUp(partition) => write!(f, "give the move of partition {partition} up"),
            Self::Rehome { chat, region } => write!(f, "re-home chat {chat} to region {region}"),
        }
    }
}
