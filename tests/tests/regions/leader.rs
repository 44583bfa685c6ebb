//! A region is killed together with the leader of the directory: its partitions get new homes, writes go on, and
//! the region comes back.

use crate::PROGRAM;
use proto::directory::{
    GetPinsRequest, InspectReply, InspectRequest, Pin, directory_client::DirectoryClient,
    replicas_client::ReplicasClient,
};
use std::time::{Duration, Instant};
use tests::{
    deployment::{patience, start, whole},
    eventually,
    session::{connect, message, open_group, send, user},
};
use types::{DeviceId, LogId};

async fn inspect(address: String) -> Result<InspectReply, tonic::Status> {
    let unreachable = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
    let mut replicas = ReplicasClient::connect(address).await.map_err(unreachable)?;
    Ok(replicas.inspect(InspectRequest {}).await?.into_inner())
}

async fn look_up(address: &str, log: &str) -> Result<Vec<Pin>, tonic::Status> {
    let unreachable = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
    let mut directory = DirectoryClient::connect(address.to_owned()).await.map_err(unreachable)?;
    let log: LogId = log.parse().expect("a log id");
    let logs = vec![log.to_bytes().to_vec().into()];
    Ok(directory.look_up_pins(GetPinsRequest { logs }).await?.into_inner().pins)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_dies_with_the_leader_of_the_directory_and_comes_back() {
    let lab = start(whole(PROGRAM)).await;
    let seen = inspect(lab.directory_address()).await.expect("a replica answers");
    assert_eq!(seen.replicas.iter().filter(|one| one.voter).count(), 3);
    let leader = seen.replicas.iter().find(|one| one.replica == seen.leader).expect("there is a leader");
    let (region, address) = (leader.region.clone(), format!("http://{}", leader.address));
    let near = seen.replicas.iter().find(|one| one.region != region).expect("another one");
    let survivor = near.region.clone();

    let mut founder = connect(&lab.edge(&region).expect("a region"), "ann").await.expect("connects");
    let log = open_group(&mut founder, &["ben"]).await.expect("opens");
    send(&mut founder, message(&log, "before")).await.expect("is acked");
    lab.kill(&region).await.expect("kills");
    let died = Instant::now();
    // Where a log is, any replica tells at once; who leads now is not agreed upon for a while yet.
    let pins = look_up(&format!("http://{}", near.address), &log).await.expect("it answers at once");
    assert_eq!(pins.len(), 1);
    assert!(!pins[0].segments.is_empty(), "{pins:?}");
    let edge = lab.edge(&survivor).expect("a region");
    let after = message(&log, "after");
    eventually("a write", patience(), async || {
        let mut session =
            client::bare::Connection::open(&edge, &user("ben"), DeviceId::new(100), vec![]).await?;
        Ok(send(&mut session, after.clone()).await?)
    })
    .await;
    println!("written {:.2} s after the leader's region was killed", died.elapsed().as_secs_f64());
    let now = inspect(lab.directory_address()).await.expect("a replica answers");
    assert!(now.leader != 0 && now.leader != seen.leader, "another one leads: {now:?}");

    lab.restart(&region).await.expect("starts");
    lab.wait_in_sync(patience()).await.expect("everything is copied to it again");
    eventually("its replica follows", Duration::from_secs(20), async || {
        let back = inspect(address.clone()).await?;
        anyhow::ensure!(back.leader == now.leader && back.applied_index >= now.applied_index, "{back:?}");
        Ok(())
    })
    .await;
    lab.stop().await.expect("stops");
}
