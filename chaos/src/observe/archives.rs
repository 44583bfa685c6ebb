//! What nodes have archived, and what became of it.

use super::ANSWER_TIMEOUT;
use crate::history::{Kind, Recorder};
use anyhow::{Context as _, ensure};
use lab::Lab;
use proto::node::{
    Archive, ArchivesRequest, ReadArchiveRequest, StatusRequest, node_client::NodeClient,
    salvage_client::SalvageClient,
};
use tokio::time::timeout;
use tonic::transport::Channel;
use types::{NodeId, RegionId, limits};

/// Records that are read at once.
const PAGE: u32 = 500;

/// How many archived records a node has still to settle.
///
/// # Errors
/// It does not answer.
pub async fn unsettled(lab: &Lab, node: &NodeId) -> anyhow::Result<u64> {
    let address = lab.http(node.as_str())?;
    let asking = async {
        let mut node = NodeClient::connect(address).await?;
        anyhow::Ok(node.status(StatusRequest { partitions: false }).await?.into_inner())
    };
    let status = timeout(ANSWER_TIMEOUT, asking).await.context("no answer in time")??;
    Ok(status.unsettled_records.max(status.unsettled_archives))
}

/// Records what a node has archived.
///
/// # Errors
/// It does not answer.
pub async fn record_archives(
    lab: &Lab,
    node: &NodeId,
    region: &RegionId,
    recorder: &Recorder,
) -> anyhow::Result<()> {
    let connecting = SalvageClient::connect(lab.http(node.as_str())?);
    let client = timeout(ANSWER_TIMEOUT, connecting).await.context("no answer in time")??;
    let mut client = client.max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let reply = timeout(ANSWER_TIMEOUT, client.archives(ArchivesRequest::default())).await??.into_inner();
    for archive in &reply.archives {
        record_archive(&mut client, &reply.store, archive, node, region, recorder).await?;
    }
    Ok(())
}

async fn record_archive(
    client: &mut SalvageClient<Channel>,
    store: &bytes::Bytes,
    archive: &Archive,
    node: &NodeId,
    region: &RegionId,
    recorder: &Recorder,
) -> anyhow::Result<()> {
    let (number, region) = (recorder.node(node, region), recorder.region(region));
    let (mut next, last) = (archive.first.unwrap_or_default().lsn, archive.last.unwrap_or_default().lsn);
    while next <= last {
        let request = ReadArchiveRequest {
            store: store.clone(),
            archive: archive.id,
            from_lsn: next,
            max_records: PAGE,
        };
        let page = timeout(ANSWER_TIMEOUT, client.read(request)).await??.into_inner().records;
        ensure!(!page.is_empty(), "archive {} of {node} ends before lsn {next}", archive.id);
        next += page.len() as u64;
        for archived in page {
            let record = proto::decode_record(archived.record)?;
            if let (Some(at), Some(entry)) = (record.position(), record.entry()) {
                let log = recorder.log(record.log);
                let message = recorder.message_of(log, &entry.sender, entry.device, entry.message_id, region);
                let refused = (!archived.refused.is_empty()).then_some(archived.refused);
                recorder.record(Kind::Archived { node: number, at, message, refused });
            }
        }
    }
    Ok(())
}
