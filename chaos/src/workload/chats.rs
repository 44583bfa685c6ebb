//! The chats of a run: at least one group on every partition, a direct chat from each region to the next, and where that
//! is wanted a circle kept in each region.
//!
//! A new group is pinned to one of the partitions that are homed where its creator is connected, by a hash of
//! its id; ids are drawn until every partition has one.

use super::{GUEST, KEEPER, user};
use crate::{history::Recorder, observe, run::Opened};
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use client::bare::Connection;
use futures_util::future::join_all;
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
use types::{DeviceId, LogId, PartitionId, PlacementDelta, RegionId, UserId};
use uuid::Uuid;

/// The roles that are members of every group.
pub(crate) const ROLES: [&str; 5] = ["founder", "writer", "plain", "reader", "returner"];
/// Who opens the chats, and reads them in the end.
pub(crate) const FOUNDER: &str = "founder";
/// Groups that are tried for each partition of a region, before it is given up.
const TRIES_PER_PARTITION: usize = 60;
/// Groups that are opened at a time.
const FOUNDERS_MAX: usize = 8;
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
        opened: Opened,
        with_circles: bool,
        recorder: &Recorder,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xc4a7);
        let placement = observe::snapshot(lab).await?;
        let mut chats = Self::default();
        for (number, region) in regions.iter().enumerate() {
            if matches!(opened, Opened::In(only) if only != number) || (opened == Opened::One && number > 0) {
                continue;
            }
            let mut open = homed_in(&placement, region);
            if opened == Opened::One {
                open.truncate(1);
            }
            ensure!(!open.is_empty(), "no partition is homed in {region}");
            let members: BTreeSet<UserId> =
                regions.iter().flat_map(|region| ROLES.map(|role| user(role, region))).collect();
            chats.open_groups(lab, region, open, &members, recorder, &mut rng).await?;
            if opened == Opened::Everywhere {
                let next = &regions[(number + 1) % regions.len()];
                chats.open_direct(lab, [region, next], recorder).await?;
            }
            if with_circles {
                let mut session = Connection::open(
                    &lab.edge(region.as_str())?,
                    &user(KEEPER, region),
                    DeviceId::new(1),
                    vec![],
                )
                .await?;
                let (id, members) = open_circle(&mut session, region, regions, &mut rng).await?;
                chats.add(recorder, id, partition_of(lab, id).await?, members);
            }
        }
        Ok(chats)
    }

    /// Opens groups until each of these partitions has one: ids are drawn, and only the directory knows where they
    /// fall.
    async fn open_groups(
        &mut self,
        lab: &Lab,
        region: &RegionId,
        mut open: Vec<PartitionId>,
        members: &BTreeSet<UserId>,
        recorder: &Recorder,
        rng: &mut StdRng,
    ) -> anyhow::Result<()> {
        let (edge, founder) = (lab.edge(region.as_str())?, user(FOUNDER, region));
        let mut sessions = Vec::new();
        for number in 1..=open.len().min(FOUNDERS_MAX) as u64 {
            sessions.push(Connection::open(&edge, &founder, DeviceId::new(number), vec![]).await?);
        }
        let others: Vec<String> =
            members.iter().filter(|member| **member != founder).map(UserId::to_string).collect();
        let mut tries = open.len() * TRIES_PER_PARTITION;
        while !open.is_empty() {
            ensure!(tries > 0, "no group is pinned to {open:?} of {region}");
            tries = tries.saturating_sub(sessions.len());
            let opening = sessions.iter_mut().map(|session| {
                let key: [u8; 16] = rng.random();
                let group = NewGroup { key: Uuid::from_bytes(key).to_string(), members: others.clone() };
                async move {
                    let id = open_chat(session, Chat::Group(group)).await?;
                    anyhow::Ok((id, partition_of(lab, id).await?))
                }
            });
            for found in join_all(opening).await {
                let (id, partition) = found?;
                if let Some(wanted) = open.iter().position(|wanted| *wanted == partition) {
                    open.swap_remove(wanted);
                    self.add(recorder, id, partition, members.clone());
                }
            }
        }
        Ok(())
    }

    async fn open_direct(
        &mut self,
        lab: &Lab,
        between: [&RegionId; 2],
        recorder: &Recorder,
    ) -> anyhow::Result<()> {
        let pair = between.map(|region| user("writer", region));
        let edge = lab.edge(between[0].as_str())?;
        let mut session = Connection::open(&edge, &pair[0], DeviceId::new(99), vec![]).await?;
        let id = open_chat(&mut session, Chat::DirectWith(pair[1].to_string())).await?;
        self.add(recorder, id, partition_of(lab, id).await?, BTreeSet::from(pair));
        Ok(())
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

/// Opens the circle that is kept in a region, through a session of its keeper.
pub(crate) async fn open_circle(
    session: &mut Connection,
    region: &RegionId,
    regions: &[RegionId],
    rng: &mut StdRng,
) -> anyhow::Result<(LogId, BTreeSet<UserId>)> {
    let mut members: BTreeSet<UserId> = regions.iter().map(|region| user(GUEST, region)).collect();
    let key = Uuid::from_bytes(rng.random()).to_string();
    let group = NewGroup { key, members: members.iter().map(UserId::to_string).collect() };
    let id = open_chat(session, Chat::Group(group)).await?;
    members.insert(user(KEEPER, region));
    Ok((id, members))
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

/// The partitions homed in a region.
fn homed_in(placement: &PlacementDelta, region: &RegionId) -> Vec<PartitionId> {
    let is_there = |row: &&types::PartitionRow| {
        let home = row.home.as_ref();
        let node = home.and_then(|home| placement.nodes.iter().find(|node| node.node == home.node));
        node.is_some_and(|node| node.region == *region)
    };
    placement.partitions.iter().filter(is_there).map(|row| row.partition).collect()
}

async fn partition_of(lab: &Lab, id: LogId) -> anyhow::Result<PartitionId> {
    let mut directory = DirectoryClient::connect(lab.directory_address()).await?;
    let logs = vec![Bytes::copy_from_slice(&id.to_bytes())];
    let pins = directory.get_pins(GetPinsRequest { logs }).await?.into_inner().pins;
    let pin = pins.into_iter().next().and_then(|pin| pin.segments.last().copied());
    Ok(PartitionId::new(pin.context("the chat is not pinned")?.partition))
}
