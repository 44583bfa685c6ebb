//! What an operator asks of the directory: planned moves and drains.

use anyhow::Context as _;
use bytes::Bytes;
use lab::Lab;
use proto::directory::{
    DrainRequest, MoveRequest, MovesRequest, RegionDrain, UndrainRequest, directory_client::DirectoryClient,
};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use types::{PartitionId, RegionId};
use uuid::Uuid;

/// In whose name things are asked for.
const WHO: &str = "chaos";
/// How long the directory has to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two attempts at what is refused for the moment.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

fn request_id() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

async fn ask<T, F>(lab: &Lab, question: impl FnOnce(DirectoryClient<Channel>) -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let asking = async {
        let directory = DirectoryClient::connect(lab.directory_address()).await?;
        anyhow::Ok(question(directory).await?.into_inner())
    };
    timeout(ANSWER_TIMEOUT, asking).await.context("the directory does not answer")?
}

/// Begins a planned move of a partition to a region. One that is refused, since the target is not ready just now, is
/// asked for again.
///
/// # Errors
/// It has not begun within `patience`.
pub async fn begin_move(
    lab: &Lab,
    partition: PartitionId,
    region: &RegionId,
    patience: Duration,
) -> anyhow::Result<u64> {
    let until = Instant::now() + patience;
    let request = MoveRequest {
        request_id: request_id(),
        partition: partition.get(),
        region: region.to_string(),
        by: WHO.into(),
    };
    loop {
        let request = request.clone();
        match ask(lab, |mut directory| async move { directory.r#move(request).await }).await {
            Ok(reply) => return Ok(reply.move_id),
            Err(error) if Instant::now() > until => {
                return Err(error.context(format!("partition {partition} does not move to {region}")));
            }
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    }
}

/// Begins the drain of a region.
///
/// # Errors
/// The directory refuses, or does not answer.
pub async fn drain(lab: &Lab, region: &str) -> anyhow::Result<()> {
    let request =
        DrainRequest { request_id: request_id(), region: region.into(), by: WHO.into(), dry_run: false };
    ask(lab, |mut directory| async move { directory.drain(request).await }).await?;
    Ok(())
}

/// Ends the drain of a region.
///
/// # Errors
/// The directory refuses, or does not answer.
pub async fn undrain(lab: &Lab, region: &str) -> anyhow::Result<()> {
    let request = UndrainRequest { request_id: request_id(), region: region.into(), by: WHO.into() };
    ask(lab, |mut directory| async move { directory.undrain(request).await }).await?;
    Ok(())
}

/// What switching a region off would hurt.
///
/// # Errors
/// The directory does not answer, or knows no such region.
pub async fn region_drain(lab: &Lab, region: &str) -> anyhow::Result<RegionDrain> {
    let moves = ask(lab, |mut directory| async move { directory.moves(MovesRequest {}).await }).await?;
    let row = moves.regions.into_iter().find(|row| row.region == region);
    row.with_context(|| format!("the directory knows no region {region}"))
}
