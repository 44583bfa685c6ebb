//! A replicator between fake nodes and a fake directory, over real connections.

mod fakes;

use fakes::{FakeDirectory, FakeNode, PATIENCE, Proxy, Told, record, start, until};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const EPOCH: u64 = 1;

fn records(from: u64, to: u64) -> impl Iterator<Item = proto::log::Record> {
    (from..=to).map(|lsn| record(EPOCH, lsn, 100))
}

fn is_copy(home: &FakeNode, follower: &FakeNode, partition: u32) -> bool {
    home.len(partition) == follower.len(partition) && home.log(partition) == follower.log(partition)
}

fn knows_of_copy(home: &FakeNode, partition: u32) -> bool {
    let durable = home.told(|told| told.durable.get(&partition).map_or(0, |last| last.lsn));
    durable == home.len(partition) as u64
}

async fn converges(home: &FakeNode, follower: &FakeNode, partitions: std::ops::Range<u32>) {
    until("the follower is a copy, and the home knows", || {
        partitions
            .clone()
            .all(|partition| is_copy(home, follower, partition) && knows_of_copy(home, partition))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_a_region_become_copies_of_homes_in_others() {
    let directory = FakeDirectory::start().await;
    let (a, b) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    let (c, d) = (FakeNode::start("c-1").await, FakeNode::start("c-2").await);
    let homes = |partition: u32| if partition.is_multiple_of(2) { &a } else { &b };
    let rows: Vec<_> = (0..8).map(|partition| (partition, homes(partition), EPOCH)).collect();
    for partition in 0..8 {
        homes(partition).become_home(partition, EPOCH);
        homes(partition).write(partition, records(1, 500));
    }
    directory.place(&[&a, &b, &c, &d], &rows);
    let _replicator = start("c", &directory, &[]);
    for follower in [&c, &d] {
        for partition in 0..8 {
            converges(homes(partition), follower, partition..partition + 1).await;
        }
    }
    for partition in 0..8 {
        homes(partition).write(partition, records(501, 600));
    }
    for follower in [&c, &d] {
        for partition in 0..8 {
            converges(homes(partition), follower, partition..partition + 1).await;
        }
    }
    until("the watermark reaches the follower", || c.told(|told| told.watermarks.get(&0) == Some(&600)))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_streams_and_a_killed_replicator_lose_and_double_nothing() {
    let directory = FakeDirectory::start().await;
    let (home, follower) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    (0..4).for_each(|partition| home.become_home(partition, EPOCH));
    directory.place(
        &[&home, &follower],
        &[(0, &home, EPOCH), (1, &home, EPOCH), (2, &home, EPOCH), (3, &home, EPOCH)],
    );
    let mut replicator = start("b", &directory, &[]);
    for round in 0..9 {
        (0..4).for_each(|partition| home.write(partition, records(round * 400 + 1, round * 400 + 400)));
        let some = usize::try_from(round * 400 + 50).expect("small");
        until("some of it has arrived", || follower.len(0) >= some).await;
        match round % 3 {
            0 => home.cut(),
            1 => follower.cut(),
            _ => {
                drop(replicator);
                replicator = start("b", &directory, &[]);
            }
        }
    }
    converges(&home, &follower, 0..4).await;
    assert!(home.told(|told| told.restarts) > 4, "streams did break");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_falls_silent_is_noticed_and_given_up() {
    let directory = FakeDirectory::start().await;
    let (home, follower) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    let link = Proxy::start(home.address).await;
    home.become_home(0, EPOCH);
    home.write(0, records(1, 10));
    directory.place(&[&home, &follower], &[(0, &home, EPOCH)]);
    let _replicator = start("b", &directory, &[("a-1", link.address)]);
    converges(&home, &follower, 0..1).await;
    link.silence();
    let silenced = Instant::now();
    home.write(0, records(11, 20));
    converges(&home, &follower, 0..1).await;
    assert!(silenced.elapsed() < Duration::from_secs(5), "it took {:?}", silenced.elapsed());
    assert_eq!(home.told(|told| told.fetch_streams), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diverged_tail_is_cut_off_where_the_home_says() {
    let directory = FakeDirectory::start().await;
    let (former, home) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    home.write(0, records(1, 10));
    home.become_home(0, EPOCH + 1);
    home.write(0, (11..=30).map(|lsn| record(EPOCH + 1, lsn, 100)));
    former.write(0, records(1, 25));
    directory.place(&[&former, &home], &[(0, &home, EPOCH + 1)]);
    let _replicator = start("a", &directory, &[]);
    converges(&home, &former, 0..1).await;
    let common = proto::log::PartitionPosition { epoch: EPOCH, lsn: 10 };
    assert_eq!(former.told(|told| told.truncated.clone()), [(0, common)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_follows_its_home_to_another_node() {
    let directory = FakeDirectory::start().await;
    let (a, b) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    let follower = FakeNode::start("c-1").await;
    a.become_home(0, EPOCH);
    a.write(0, records(1, 50));
    directory.place(&[&a, &b, &follower], &[(0, &a, EPOCH)]);
    let _replicator = start("c", &directory, &[]);
    converges(&a, &follower, 0..1).await;
    // The new home has less than the follower, and learns of its office late.
    b.write(0, records(1, 40));
    directory.place(&[&a, &b, &follower], &[(0, &b, EPOCH + 1)]);
    a.write(0, records(51, 55));
    until("the new home is asked", || b.told(|told| told.fetch_streams) > 0).await;
    b.write(0, (41..=60).map(|lsn| record(EPOCH + 1, lsn, 100)));
    b.become_home(0, EPOCH + 1);
    converges(&b, &follower, 0..1).await;
    a.resign(0);
    assert_eq!(follower.told(|told| told.truncated.len()), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_follower_stalls_holds_its_home_back_and_no_other_partition() {
    let directory = FakeDirectory::start().await;
    let (home, follower) = (FakeNode::start("a-1").await, FakeNode::start("b-1").await);
    (0..2).for_each(|partition| home.become_home(partition, EPOCH));
    directory.place(&[&home, &follower], &[(0, &home, EPOCH), (1, &home, EPOCH)]);
    home.write(0, [record(EPOCH, 1, 100)]);
    let _replicator = start("b", &directory, &[]);
    converges(&home, &follower, 0..1).await;
    follower.hold(0);
    home.write(0, (2..=400).map(|lsn| record(EPOCH, lsn, 32 * 1024)));
    let under_way = |told: &Told| told.under_way_max.get(&0).copied().unwrap_or_default();
    let credit = home.told(|told| told.credit_max[&0]);
    until("the credit is used up", || home.told(under_way) + 33 * 1024 > credit).await;
    home.write(1, records(1, 2_000));
    converges(&home, &follower, 1..2).await;
    assert!(home.told(under_way) <= credit);
    assert_eq!(follower.len(0), 1);
    follower.release(0);
    converges(&home, &follower, 0..2).await;
    assert!(home.told(under_way) <= credit);
}

async fn get(address: std::net::SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: replicator\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn until_answer(address: std::net::SocketAddr, path: &str, holds: &str) {
    let started = Instant::now();
    loop {
        let answer = get(address, path).await.unwrap_or_default();
        if answer.contains(holds) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{path} does not say {holds:?} but {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_once_the_placement_is_known_and_all_local_nodes_are_connected() {
    let directory = FakeDirectory::start().await;
    let (home, follower) = (FakeNode::start("y-1").await, FakeNode::start("z-1").await);
    let replicator = start("z", &directory, &[]);
    until_answer(replicator.listen, "/healthz", "200 OK").await;
    until_answer(replicator.listen, "/readyz", "503").await;
    home.become_home(0, EPOCH);
    home.write(0, records(1, 30));
    directory.place(&[&home, &follower], &[(0, &home, EPOCH)]);
    until_answer(replicator.listen, "/readyz", "200 OK").await;
    converges(&home, &follower, 0..1).await;
    let records = "hearth_replicator_records_total{home_region=\"y\",follower=\"z-1\"} 30";
    until_answer(replicator.listen, "/metrics", records).await;
    let lag = "hearth_replicator_lag_records{home_region=\"y\",follower=\"z-1\"} 0";
    until_answer(replicator.listen, "/metrics", lag).await;
}

#[tokio::test]
async fn a_port_in_use_and_a_bad_configuration_are_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let config = |directory: Vec<String>| replicator::Config {
        region: fakes::region_id("a"),
        listen: address,
        directory,
        dial: Default::default(),
    };
    let deps = || replicator::Deps { shutdown: Default::default(), metrics: fakes::metrics() };
    let error = replicator::run(config(vec!["http://127.0.0.1:1".to_owned()]), deps()).await;
    assert!(error.expect_err("in use").to_string().contains(&address.to_string()));
    let error = replicator::run(config(vec![]), deps()).await.expect_err("no directory");
    assert!(error.to_string().contains("directory names no address"));
}
