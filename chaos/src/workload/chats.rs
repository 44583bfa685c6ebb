//! The chats of a run: at least one group on every partition, and a direct chat from each region to the next.
//!
//! A new group is pinned to one of the partitions that are homed where its creator is connected, by a hash of
//! its id; ids are drawn until every partition has one.

use super::user;
use crate::{history::Recorder, observe};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use client::bare::Connection;
use lab::Lab;
use proto::{
    client::{NewGroup, OpenChat, client_frame::Frame, open_chat::Chat, server_frame::Frame as Answer},
    directory::{GetPinsRequest, directory_client::DirectoryClient},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use types::{DeviceId, LogId, PartitionId, RegionId, UserId};
use uuid::Uuid;

/// The roles that are members of every group.
pub(crate) const ROLES: [&str; 5] = ["founder", "writer", "plain", "reader", "returner"];
/// Who opens the chats, and reads them in the end.
pub(crate) const FOUNDER: &str = "founder";
/// Groups that are tried for each partition of a region, before it is given up.
const TRIES_PER_PARTITION: usize = 60;
/// How long an opening may be refused at first.
const OPEN_PATIENCE: Duration = Duration::from_secs(20);

/// One chat.
#[derive(Debug, Clone)]
pub struct ChatPlan {
    /// Its id.
    pub id: LogId,
    /// Where it is written.
    pub partition: PartitionId,
    /// The users that may write and read it.
    pub members: BTreeSet<UserId>,
}

/// All chats of a run.
#[derive(Debug, Default)]
pub struct Chats(Vec<ChatPlan>);

impl Chats {
    /// Opens them. `regions` in the order of the deployment.
    ///
    /// # Errors
    /// A node or the directory does not answer as it should, or a partition gets no chat.
    pub async fn open(
        lab: &Lab,
        regions: &[RegionId],
        recorder: &Recorder,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xc4a7);
        let placement = observe::snapshot(lab).await?;
        let mut chats = Self::default();
        for (number, region) in regions.iter().enumerate() {
            let homed = |row: &&types::PartitionRow| {
                let node = row
                    .home
                    .as_ref()
                    .and_then(|home| placement.nodes.iter().find(|node| node.node == home.node));
                node.is_some_and(|node| node.region == *region)
            };
            let mut open: BTreeSet<PartitionId> =
                placement.partitions.iter().filter(homed).map(|row| row.partition).collect();
            ensure!(!open.is_empty(), "no partition is homed in {region}");
            let founder = user(FOUNDER, region);
            let edge = lab.edge(region.as_str())?;
            let mut session = Connection::open(&edge, &founder, DeviceId::new(1), vec![]).await?;
            let members: BTreeSet<UserId> =
                regions.iter().flat_map(|region| ROLES.map(|role| user(role, region))).collect();
            let mut tries = open.len() * TRIES_PER_PARTITION;
            while !open.is_empty() {
                ensure!(tries > 0, "no group is pinned to {open:?} of {region}");
                tries -= 1;
                let key: [u8; 16] = rng.random();
                // Most of the keys drawn fall to a partition that has a chat; only the directory knows.
                let others = members.iter().filter(|member| **member != founder).map(UserId::to_string);
                let group = NewGroup { key: Uuid::from_bytes(key).to_string(), members: others.collect() };
                let id = open_chat(&mut session, Chat::Group(group)).await?;
                let partition = partition_of(lab, id).await?;
                if open.remove(&partition) {
                    chats.add(recorder, id, partition, members.clone());
                }
            }
            let next = &regions[(number + 1) % regions.len()];
            let pair = [user("writer", region), user("writer", next)];
            let mut session = Connection::open(&edge, &pair[0], DeviceId::new(99), vec![]).await?;
            let id = open_chat(&mut session, Chat::DirectWith(pair[1].to_string())).await?;
            chats.add(recorder, id, partition_of(lab, id).await?, BTreeSet::from(pair));
        }
        Ok(chats)
    }

    /// Chats that were opened by others.
    pub(crate) const fn opened(chats: Vec<ChatPlan>) -> Self {
        Self(chats)
    }

    fn add(&mut self, recorder: &Recorder, id: LogId, partition: PartitionId, members: BTreeSet<UserId>) {
        let log = recorder.log(id);
        recorder.record(crate::history::Kind::Pinned { log, generation: 1, partition, first_offset: 1 });
        self.0.push(ChatPlan { id, partition, members });
    }

    /// All of them.
    pub fn all(&self) -> &[ChatPlan] {
        &self.0
    }

    /// Those of which a user is a member.
    pub fn of<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a ChatPlan> + 'a {
        self.0.iter().filter(move |chat| chat.members.contains(user))
    }
}

pub(crate) async fn open_chat(session: &mut Connection, chat: Chat) -> anyhow::Result<LogId> {
    let until = Instant::now() + OPEN_PATIENCE;
    loop {
        let open = OpenChat { chat: Some(chat.clone()), ..OpenChat::default() };
        match session.ask(Frame::OpenChat(open)).await {
            Ok(Answer::ChatOpened(opened)) => return Ok(opened.log.parse()?),
            Ok(other) => bail!("opening a chat was answered by {other:?}"),
            Err(client::bare::BareError::Refused(error)) if error.retryable && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn partition_of(lab: &Lab, id: LogId) -> anyhow::Result<PartitionId> {
    let mut directory = DirectoryClient::connect(lab.directory_address()).await?;
    let logs = vec![Bytes::copy_from_slice(&id.to_bytes())];
    let pins = directory.get_pins(GetPinsRequest { logs }).await?.into_inner().pins;
    let pin = pins.into_iter().next().and_then(|pin| pin.segments.last().copied());
    Ok(PartitionId::new(pin.context("the chat is not pinned")?.partition))
}
