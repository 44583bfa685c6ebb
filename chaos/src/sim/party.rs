//! A region's clients: they open their chats, and then do what the clients of real runs do.

use crate::{
    history::Recorder,
    workload::{self, ChatPlan, Chats, FOUNDER, KEEPER, Load, ROLES, Workload, open_chat, open_circle},
};
use client::bare::Connection;
use parking_lot::Mutex;
use proto::client::{NewGroup, open_chat::Chat};
use rand::{RngExt as _, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use types::{DeviceId, LogId, PartitionId, RegionId, UserId};
use uuid::Uuid;

/// Groups that each region opens; its partitions are drawn by their ids.
const GROUPS: usize = 3;
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a server may take to open them.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// What the parties and the run share.
#[derive(Default)]
pub(super) struct Desk {
    /// The chats that each region has opened.
    chats: Mutex<BTreeMap<RegionId, Vec<ChatPlan>>>,
    workloads: Mutex<Vec<Workload>>,
}

impl Desk {
    /// Whether all `regions` have begun to work.
    pub(super) fn is_open(&self, regions: usize) -> bool {
        self.workloads.lock().len() == regions
    }

    /// All chats that were opened so far.
    pub(super) fn chats(&self) -> Vec<LogId> {
        self.chats.lock().values().flatten().map(|chat| chat.id).collect()
    }

    /// Messages whose end no client knows yet.
    pub(super) fn pending(&self) -> usize {
        self.with(|workloads| workloads.iter().map(Workload::pending).sum())
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&[Workload]) -> T) -> T {
        look(&self.workloads.lock())
    }

    /// Ends all clients, as their hosts end.
    pub(super) fn close(&self) {
        self.workloads.lock().clear();
    }
}

/// One region's clients.
pub(super) struct Party {
    pub(super) regions: Vec<RegionId>,
    /// Its place among them.
    pub(super) at: usize,
    pub(super) edges: Vec<String>,
    pub(super) load: Load,
    pub(super) rng: StdRng,
}

/// Lives until its host is stopped.
pub(super) async fn live(mut party: Party, recorder: Recorder, desk: Arc<Desk>) {
    let chats = loop {
        let opened = tokio::time::timeout(OPEN_MAX, party.open_chats()).await;
        match opened.map_err(anyhow::Error::from).flatten() {
            Ok(chats) => break chats,
            Err(error) => {
                tracing::debug!(%error, "the chats could not be opened");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    };
    let region = party.regions[party.at].clone();
    desk.chats.lock().insert(region.clone(), chats);
    let all = loop {
        let opened = desk.chats.lock().clone();
        if opened.len() == party.regions.len() {
            break opened.into_values().flatten().collect();
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    };
    let (chats, edges) = (Arc::new(Chats::opened(all)), BTreeMap::from([(region, party.edges)]));
    let workload = Workload::start(recorder, chats, &edges, party.load, party.rng.random());
    desk.workloads.lock().push(workload);
    std::future::pending().await
}

impl Party {
    async fn open_chats(&mut self) -> anyhow::Result<Vec<ChatPlan>> {
        let region = &self.regions[self.at];
        let edge = self.edges.first().map_or("", String::as_str);
        let founder = workload::user(FOUNDER, region);
        let members: BTreeSet<UserId> =
            self.regions.iter().flat_map(|region| ROLES.map(|role| workload::user(role, region))).collect();
        let mut session = Connection::open(edge, &founder, DeviceId::new(1), vec![]).await?;
        let mut chats = Vec::new();
        for _ in 0..GROUPS {
            let key = Uuid::from_bytes(self.rng.random()).to_string();
            let others = members.iter().filter(|member| **member != founder).map(UserId::to_string);
            let group = NewGroup { key, members: others.collect() };
            let id = open_chat(&mut session, Chat::Group(group)).await?;
            chats.push(plan(id, members.clone()));
        }
        let next = &self.regions[(self.at + 1) % self.regions.len()];
        let pair = [workload::user("writer", region), workload::user("writer", next)];
        let mut session = Connection::open(edge, &pair[0], DeviceId::new(99), vec![]).await?;
        let id = open_chat(&mut session, Chat::DirectWith(pair[1].to_string())).await?;
        chats.push(plan(id, BTreeSet::from(pair)));
        if self.load.circles {
            chats.push(self.open_circle().await?);
        }
        Ok(chats)
    }

    async fn open_circle(&mut self) -> anyhow::Result<ChatPlan> {
        let edge = self.edges.first().map_or("", String::as_str);
        let region = &self.regions[self.at];
        let keeper = workload::user(KEEPER, region);
        let mut session = Connection::open(edge, &keeper, DeviceId::new(1), vec![]).await?;
        let (id, members) = open_circle(&mut session, region, &self.regions, &mut self.rng).await?;
        Ok(plan(id, members))
    }
}

/// Clients do not know in which partition a chat is.
fn plan(id: LogId, members: BTreeSet<UserId>) -> ChatPlan {
    ChatPlan { id, partition: PartitionId::new(0), members }
}
