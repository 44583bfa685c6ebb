//! `hearth admin salvage`: the divergent tails that nodes have archived, and what became of them.

use super::collect::{self, Seen};
use crate::{causes, row, tables};
use anyhow::{Context as _, bail};
use proto::node::{
    Archive, ArchivesReply, ArchivesRequest, ReadArchiveRequest, salvage_client::SalvageClient,
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};
use types::{Body, Entry, EntryBody, NodeId, NodeRow, Record, limits};

/// How long a node has to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Records that are read at once.
const PAGE: u32 = 500;

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A region or a node [default: all].
    #[arg(value_name = "REGION|NODE")]
    place: Option<String>,
    /// Shows what stands in this archive of a node.
    #[arg(long, value_name = "ID", requires = "place")]
    archive: Option<u64>,
    /// With --archive: only what is not put back.
    #[arg(long, requires = "archive")]
    refused: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// An archive of a node.
#[derive(Debug, Serialize)]
struct ArchiveReport {
    node: NodeId,
    archive: u64,
    partition: u32,
    first: String,
    last: String,
    records: u64,
    unsettled: u64,
    salvaged: u64,
    refused: u64,
    /// How many of them for which reason.
    refused_for: BTreeMap<String, u64>,
    /// Since its last record was accepted.
    age_ms: u64,
}

/// A record of an archive.
#[derive(Debug, Serialize)]
struct RecordReport {
    lsn: u64,
    epoch: u64,
    log: String,
    accepted_at_ms: u64,
    what: String,
    sender: Option<String>,
    message_id: Option<String>,
    /// `unsettled`, `settled`, or why it is not put back.
    fate: String,
}

pub(super) async fn run(args: Args, directory: &str) -> anyhow::Result<()> {
    let seen = collect::collect(directory).await?;
    let nodes = nodes(&seen, args.place.as_deref())?;
    let Some(archive) = args.archive else { return list(nodes, args.json).await };
    let [node] = nodes.as_slice() else {
        bail!("an archive is named within one node: name the node, not its region")
    };
    show(node, archive, args.refused, args.json).await
}

fn nodes(seen: &Seen, place: Option<&str>) -> anyhow::Result<Vec<NodeRow>> {
    let named =
        |row: &&NodeRow| place.is_none_or(|place| row.node.as_str() == place || row.region.as_str() == place);
    let nodes: Vec<NodeRow> = seen.placement.nodes.iter().filter(named).cloned().collect();
    if nodes.is_empty() {
        bail!("there is no region or node {}", place.unwrap_or("at all"));
    }
    Ok(nodes)
}

async fn connect(row: &NodeRow) -> anyhow::Result<SalvageClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", row.address))?;
    let channel = timeout(TIMEOUT, endpoint.connect()).await.context("no answer")??;
    Ok(SalvageClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES))
}

async fn list(nodes: Vec<NodeRow>, json: bool) -> anyhow::Result<()> {
    let mut asked = JoinSet::new();
    for row in nodes {
        asked.spawn(async move {
            let answer = archives_of(&row).await;
            (row.node, answer)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    let mut reports = Vec::new();
    for (node, answer) in answers {
        match answer {
            Ok(archives) => reports.extend(archives),
            Err(error) => eprintln!("{node} does not answer: {}", causes::told(&error)),
        }
    }
    if json {
        for report in &reports {
            println!("{}", serde_json::to_string(report)?);
        }
    } else {
        print!("{}", render(&reports));
    }
    Ok(())
}

async fn archives_of(row: &NodeRow) -> anyhow::Result<Vec<ArchiveReport>> {
    let mut client = connect(row).await?;
    let reply =
        timeout(TIMEOUT, client.archives(ArchivesRequest::default())).await.context("no answer")??;
    let ArchivesReply { store, archives, .. } = reply.into_inner();
    let mut reports = Vec::with_capacity(archives.len());
    for archive in archives {
        let mut refused_for = BTreeMap::new();
        if archive.refused > 0 {
            for (_, reason) in
                read(&mut client, &store, &archive).await?.into_iter().filter(|(_, why)| !why.is_empty())
            {
                let code = reason.split(':').next().unwrap_or_default().to_owned();
                *refused_for.entry(code).or_default() += 1;
            }
        }
        reports.push(report(&row.node, &archive, refused_for));
    }
    Ok(reports)
}

fn report(node: &NodeId, archive: &Archive, refused_for: BTreeMap<String, u64>) -> ArchiveReport {
    let (first, last) = (archive.first.unwrap_or_default(), archive.last.unwrap_or_default());
    let position = |at: proto::log::PartitionPosition| format!("{}@{}", at.lsn, at.epoch);
    ArchiveReport {
        node: node.clone(),
        archive: archive.id,
        partition: archive.partition,
        first: position(first),
        last: position(last),
        records: archive.records,
        unsettled: last.lsn.saturating_sub(archive.settled_lsn.max(first.lsn.saturating_sub(1))),
        salvaged: archive.salvaged,
        refused: archive.refused,
        refused_for,
        age_ms: host::clock::wall_ms().saturating_sub(archive.last_accepted_at_ms),
    }
}

/// All records of an archive, each with why it is not put back.
async fn read(
    client: &mut SalvageClient<Channel>,
    store: &bytes::Bytes,
    archive: &Archive,
) -> anyhow::Result<Vec<(Record, String)>> {
    let mut records = Vec::new();
    let (mut next, last) = (archive.first.unwrap_or_default().lsn, archive.last.unwrap_or_default().lsn);
    while next <= last {
        let request = ReadArchiveRequest {
            store: store.clone(),
            archive: archive.id,
            from_lsn: next,
            max_records: PAGE,
        };
        let page = timeout(TIMEOUT, client.read(request)).await.context("no answer")??.into_inner().records;
        if page.is_empty() {
            bail!("archive {} ends before lsn {next}", archive.id);
        }
        next += page.len() as u64;
        for archived in page {
            records.push((proto::decode_record(archived.record)?, archived.refused));
        }
    }
    Ok(records)
}

async fn show(row: &NodeRow, id: u64, refused_only: bool, json: bool) -> anyhow::Result<()> {
    let mut client = connect(row).await?;
    let reply =
        timeout(TIMEOUT, client.archives(ArchivesRequest::default())).await.context("no answer")??;
    let ArchivesReply { store, archives, .. } = reply.into_inner();
    let archive = archives.into_iter().find(|archive| archive.id == id);
    let archive = archive.with_context(|| format!("{} has no archive {id}", row.node))?;
    let records = read(&mut client, &store, &archive).await?;
    let wanted = records.iter().filter(|(_, why)| !refused_only || !why.is_empty());
    let reports: Vec<RecordReport> =
        wanted.map(|(record, why)| record_report(&archive, record, why)).collect();
    if json {
        for report in &reports {
            println!("{}", serde_json::to_string(report)?);
        }
        return Ok(());
    }
    let mut rows = vec![row!["LSN", "EPOCH", "CHAT", "WHAT", "SENDER", "MESSAGE", "FATE"]];
    for report in &reports {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (sender, message) = (text(&report.sender), text(&report.message_id));
        rows.push(row![report.lsn, report.epoch, report.log, report.what, sender, message, report.fate]);
    }
    print!("{}", tables::render(&rows));
    Ok(())
}

fn record_report(archive: &Archive, record: &Record, why: &str) -> RecordReport {
    let (what, entry) = match &record.body {
        Body::Entry(entry) => (what(entry), Some(entry)),
        _ => ("update".to_owned(), None),
    };
    let fate = match (why, record.lsn.get() <= archive.settled_lsn) {
        ("", true) => "settled",
        ("", false) => "unsettled",
        (why, _) => why,
    };
    RecordReport {
        lsn: record.lsn.get(),
        epoch: record.epoch.get(),
        log: record.log.to_string(),
        accepted_at_ms: record.accepted_at_ms,
        what,
        sender: entry.map(|entry| entry.sender.to_string()),
        message_id: entry.map(|entry| entry.message_id.to_string()),
        fate: fate.to_owned(),
    }
}

fn what(entry: &Entry) -> String {
    match &entry.body {
        EntryBody::Created { members, .. } => format!("creation, {} members", members.len()),
        EntryBody::Message { ciphertext } => format!("message, {} bytes", ciphertext.len()),
        EntryBody::Deleted { offsets } => format!("deletion of {}", offsets.len()),
        EntryBody::Erased { .. } => "message, erased".to_owned(),
        EntryBody::Account(_) => "change of an account".to_owned(),
        EntryBody::Chat(_) => "change of the chat".to_owned(),
    }
}

fn render(reports: &[ArchiveReport]) -> String {
    if reports.is_empty() {
        return "no archives\n".to_owned();
    }
    let mut rows = vec![row![
        "NODE",
        "ARCHIVE",
        "PARTITION",
        "FIRST",
        "LAST",
        "RECORDS",
        "UNSETTLED",
        "SALVAGED",
        "REFUSED",
        "AGE",
        "REASONS"
    ]];
    for report in reports {
        let reasons: Vec<String> =
            report.refused_for.iter().map(|(why, count)| format!("{why} {count}")).collect();
        rows.push(row![
            report.node,
            report.archive,
            report.partition,
            report.first,
            report.last,
            report.records,
            report.unsettled,
            report.salvaged,
            report.refused,
            age(report.age_ms),
            if reasons.is_empty() { "-".to_owned() } else { reasons.join(", ") },
        ]);
    }
    tables::render(&rows)
}

fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_tells_how_far_it_is_and_why_not_all_of_it_is_back() {
        let at = |lsn| Some(proto::log::PartitionPosition { epoch: 2, lsn });
        let archive = Archive {
            id: 3,
            partition: 9,
            first: at(41),
            last: at(60),
            records: 20,
            settled_lsn: 50,
            salvaged: 8,
            refused: 2,
            ..Archive::default()
        };
        let node = NodeId::new("us-east-1").expect("a valid name");
        let reasons = BTreeMap::from([("expired".to_owned(), 2)]);
        let mut report = report(&node, &archive, reasons);
        report.age_ms = 65_000;
        let text = render(&[report]);
        let line = text.lines().nth(1).expect("a line");
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            cells,
            ["us-east-1", "3", "9", "41@2", "60@2", "20", "10", "8", "2", "65", "s", "expired", "2"]
        );
    }
}
