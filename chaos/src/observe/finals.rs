//! Every copy of every chat, read page by page from the node that holds it.

use super::{ANSWER_TIMEOUT, PartitionView};
use crate::{
    history::{BodySum, Kind, Log, LogSum, Message, Node, Recorder},
    workload::{ChatPlan, Chats},
};
use anyhow::{Context as _, bail, ensure};
use client::bare::Connection;
use lab::Lab;
use proto::client::{
    HistoryPage, ReadHistory, client_frame::Frame, entry::Body, read_history, server_frame::Frame as Answer,
};
use std::collections::{BTreeMap, btree_map::Entry};
use tokio::time::timeout;
use types::{
    DeviceId, LogId, MessageId, NodeId, PartitionId, PartitionPosition, PlacementDelta, Position,
    PositionToken, RegionId, UserId, limits,
};

/// A node's copy of a chat.
pub type Copy = Vec<(Position, Message, BodySum)>;

/// All copies.
#[derive(Debug, Default)]
pub struct Copies {
    logs: BTreeMap<(Log, Node), Copy>,
    partitions: BTreeMap<(PartitionId, Node), PartitionView>,
}

impl Copies {
    /// Reads them. The placement says who holds what.
    ///
    /// # Errors
    /// A node does not answer, or refuses.
    pub async fn read(
        lab: &Lab,
        chats: &Chats,
        placement: &PlacementDelta,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let mut copies = Self::default();
        for row in &placement.nodes {
            let node = recorder.node(&row.node, &row.region);
            let views = super::partition_views(lab, &row.node).await?;
            let holds = |partition: PartitionId| {
                let of = placement.partitions.iter().find(|row| row.partition == partition);
                of.is_some_and(|of| of.replicas.iter().any(|replica| replica.node == row.node))
            };
            for (partition, view) in views.into_iter().filter(|(partition, _)| holds(*partition)) {
                copies.partitions.insert((partition, node), view);
            }
            let mut sessions: BTreeMap<UserId, Connection> = BTreeMap::new();
            for chat in chats.all().iter().filter(|chat| holds(chat.partition)) {
                let copy = read_copy(lab, &row.node, &row.region, chat, recorder, &mut sessions)
                    .await
                    .with_context(|| format!("{} of {}", chat.id, row.node))?;
                copies.logs.insert((recorder.log(chat.id), node), copy);
            }
        }
        Ok(copies)
    }

    /// Fails where the copies of a partition do not end alike: it was written to while they were read.
    pub fn agree(&self) -> anyhow::Result<()> {
        let mut lasts: BTreeMap<PartitionId, PartitionPosition> = BTreeMap::new();
        for ((partition, _), view) in &self.partitions {
            let last = *lasts.entry(*partition).or_insert(view.last);
            ensure!(last == view.last, "partition {partition} ends at {last} and at {}", view.last);
        }
        Ok(())
    }

    /// The last position of each log, as its first copy has it.
    pub fn ends(&self) -> BTreeMap<Log, Position> {
        let mut ends = BTreeMap::new();
        for ((log, _), copy) in &self.logs {
            if let (Entry::Vacant(vacant), Some((at, ..))) = (ends.entry(*log), copy.last()) {
                vacant.insert(*at);
            }
        }
        ends
    }

    /// Records them as the final state: in full where they are the first of their log, or differ from it.
    pub fn record(&self, recorder: &Recorder) {
        for ((partition, node), view) in &self.partitions {
            recorder.record(Kind::FinalPartition { node: *node, partition: *partition, last: view.last });
        }
        let mut first: BTreeMap<Log, (u64, u64)> = BTreeMap::new();
        for ((log, node), copy) in &self.logs {
            let mut sum = LogSum::default();
            copy.iter().for_each(|(at, message, body)| sum.add(*at, *message, *body));
            let told = (sum.entries(), sum.sum());
            let in_full = match first.entry(*log) {
                Entry::Vacant(vacant) => *vacant.insert(told) == told,
                Entry::Occupied(known) => *known.get() != told,
            };
            let (log, node, (entries, sum)) = (*log, *node, told);
            recorder.record(Kind::FinalLog { node, log, entries, sum });
            for (at, message, body) in copy.iter().filter(|_| in_full) {
                recorder.record(Kind::Held { node, log, at: *at, message: *message, body: *body });
            }
        }
    }
}

async fn read_copy(
    lab: &Lab,
    node: &NodeId,
    region: &RegionId,
    chat: &ChatPlan,
    recorder: &Recorder,
    sessions: &mut BTreeMap<UserId, Connection>,
) -> anyhow::Result<Copy> {
    // By name the last: a circle's keeper, whom nobody removes.
    let user = chat.members.last().context("a chat without members")?;
    let session = match sessions.entry(user.clone()) {
        Entry::Occupied(occupied) => occupied.into_mut(),
        Entry::Vacant(vacant) => {
            let edge = lab.edge(node.as_str())?;
            let opening = Connection::open(&edge, user, DeviceId::new(1_000), vec![]);
            vacant.insert(timeout(ANSWER_TIMEOUT, opening).await??)
        }
    };
    let (log, region) = (recorder.log(chat.id), recorder.region(region));
    let mut copy = Copy::new();
    let mut after = String::new();
    loop {
        let page = timeout(ANSWER_TIMEOUT, read_page(session, chat.id, after)).await??;
        after = page.entries.last().map_or_else(String::new, |entry| entry.position.clone());
        let is_last = page.at_end || page.entries.is_empty();
        for entry in page.entries {
            let at = PositionToken::open(chat.id, &entry.position)?;
            let id: MessageId = entry.message_id.parse()?;
            let sender = UserId::new(&entry.sender)?;
            let message = recorder.message_of(log, &sender, DeviceId::new(entry.device), id, region);
            let body = match &entry.body {
                Some(Body::Ciphertext(bytes)) => BodySum::of(bytes),
                Some(Body::Created(_)) => BodySum::CREATED,
                Some(Body::Erased(_)) => BodySum::ERASED,
                _ => BodySum::CHANGE,
            };
            copy.push((at, message, body));
        }
        if is_last {
            return Ok(copy);
        }
    }
}

async fn read_page(session: &mut Connection, log: LogId, after: String) -> anyhow::Result<HistoryPage> {
    let from = Some(read_history::From::After(after));
    let read = ReadHistory { log: log.to_string(), from, limit: limits::PAGE_MAX_ENTRIES as u32 };
    match session.ask(Frame::ReadHistory(read)).await? {
        Answer::HistoryPage(page) => Ok(page),
        other => bail!("a page of history was answered by {other:?}"),
    }
}
