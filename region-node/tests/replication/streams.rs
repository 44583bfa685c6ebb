//! Peers of a node that say what makes no sense, or do not read what they are told.

use crate::{
    directory::{Directory, PARTITION},
    world::{NodeClient, PATIENCE, TestNode, until},
};
use proto::{
    directory as dir, log,
    node::{self as wire, fetch_reply, fetch_request, follow_reply, follow_request},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Endpoint};
use types::limits;

/// Far more reports than are answered to somebody who does not read.
const REPORTS: u32 = 150_000;
const WINDOW_BYTES: u32 = 64 * 1024;

async fn node() -> (Directory, TestNode) {
    let (directory, address) = Directory::start().await;
    let node = TestNode::start('a', address).await;
    until("it is registered", || async { directory.replica(&node.name).is_some() }).await;
    (directory, node)
}

struct Follow {
    requests: mpsc::Sender<wire::FollowRequest>,
    replies: Streaming<wire::FollowReply>,
}

impl Follow {
    async fn open(node: &TestNode) -> Self {
        let (requests, outgoing) = mpsc::channel(8);
        let mut client = node.client.clone();
        let replies = client.follow(ReceiverStream::new(outgoing)).await.expect("it serves").into_inner();
        Self { requests, replies }
    }

    async fn say(&self, partition: u32, request: follow_request::Request) {
        let request = wire::FollowRequest { partition, epoch: 1, request: Some(request) };
        self.requests.send(request).await.expect("the stream is open");
    }

    async fn hello(&self, protocol_version: u32) {
        let hello = wire::FollowHello { protocol_version, follower: None };
        self.say(0, follow_request::Request::Hello(hello)).await;
    }

    async fn next(&mut self) -> Result<wire::FollowReply, tonic::Status> {
        let next = timeout(PATIENCE, self.replies.message()).await.expect("an answer in time")?;
        Ok(next.expect("the stream goes on"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_read_is_refused_and_the_stream_goes_on() {
    let (_directory, node) = node().await;
    let mut follow = Follow::open(&node).await;
    let batch = wire::Batch { records: vec!["no record".into()], first_lsn: 1, ..wire::Batch::default() };
    follow.say(PARTITION.get(), follow_request::Request::Batch(batch)).await;
    let reply = follow.next().await.expect("the stream goes on");
    let Some(follow_reply::Outcome::Refused(refused)) = reply.outcome else { panic!("{reply:?}") };
    assert_eq!((reply.partition, refused.code.as_str()), (PARTITION.get(), "bad_request"));
    for partition in [PARTITION.get(), PARTITION.get() + 1] {
        follow.say(partition, follow_request::Request::Probe(wire::FollowProbe {})).await;
        let reply = follow.next().await.expect("the stream goes on");
        assert_eq!(reply.partition, partition);
        assert!(matches!(reply.outcome, Some(follow_reply::Outcome::Done(_))), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hello_of_the_nodes_version_is_answered() {
    let (_directory, node) = node().await;
    let mut follow = Follow::open(&node).await;
    follow.hello(limits::NODE_PROTOCOL_VERSION).await;
    let reply = follow.next().await.expect("a hello");
    assert!(matches!(reply.outcome, Some(follow_reply::Outcome::Hello(_))), "{reply:?}");
    follow.hello(limits::NODE_PROTOCOL_VERSION).await;
    assert_eq!(follow.next().await.expect_err("a second hello").code(), Code::InvalidArgument);
    let mut other = Follow::open(&node).await;
    other.hello(limits::NODE_PROTOCOL_VERSION - 1).await;
    assert_eq!(other.next().await.expect_err("another version").code(), Code::FailedPrecondition);
}

/// A report of a partition that is not at home here, as long as it can be.
fn report(partition: u32) -> wire::FetchRequest {
    let last = Some(log::PartitionPosition { epoch: u64::MAX, lsn: u64::MAX });
    let fetch = wire::Fetch { partition, epoch: u64::MAX, last, credit_bytes: u32::MAX, restart: true };
    wire::FetchRequest { request: Some(fetch_request::Request::Fetch(fetch)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_answers_is_not_heard_until_it_does() {
    let (directory, node) = node().await;
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address)).expect("a URI");
    let mut client = NodeClient::new(endpoint.initial_stream_window_size(WINDOW_BYTES).connect_lazy());
    let follower: dir::Replica = (&directory.replica(&node.name).expect("registered")).into();
    let hello = wire::FetchHello {
        protocol_version: limits::NODE_PROTOCOL_VERSION,
        follower: Some(follower),
        region: "region-a".to_owned(),
    };
    let hello = wire::FetchRequest { request: Some(fetch_request::Request::Hello(hello)) };
    let said = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&said);
    let reports = (0..REPORTS).map(report).inspect(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let requests = tokio_stream::iter(std::iter::once(hello).chain(reports));
    let mut replies = client.fetch(requests).await.expect("it serves").into_inner();
    until("it hears nothing more", || async {
        let before = said.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        before > 0 && said.load(Ordering::Relaxed) == before
    })
    .await;
    let heard = said.load(Ordering::Relaxed);
    assert!(heard < REPORTS, "it takes and answers all that it is told");
    let mut answered = 0;
    while let Some(reply) = timeout(PATIENCE, replies.message()).await.expect("in time").expect("no error") {
        match reply.reply {
            Some(fetch_reply::Reply::Hello(_)) => assert_eq!(answered, 0),
            Some(fetch_reply::Reply::NotHome(not_home)) => {
                assert_eq!(not_home.partition, answered);
                answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answered, REPORTS);
}
