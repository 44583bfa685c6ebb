//! What links do to connections. Delays are checked by lower bounds and ratios: a busy machine may add to them.

use lab::{
    Place, WanTable,
    wan::{Conditions, Link, Wan},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Within this nothing that hangs may answer; on an idle machine an answer takes under a millisecond.
const HANGS_FOR: Duration = Duration::from_millis(150);
/// Within this everything else has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn place(name: &str) -> Place {
    name.parse().expect("a place")
}

/// A server that sends back what it reads, behind a link from `a` to `b`.
async fn echo_behind(table: &WanTable) -> (Wan, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    behind(table, target).await
}

async fn behind(table: &WanTable, target: SocketAddr) -> (Wan, Link) {
    let (a, b) = (place("a"), place("b"));
    let wan = Wan::new(&[a.clone(), b.clone()], table, 7);
    let link = wan.open_link(&a, &b, target).await.expect("a link");
    (wan, link)
}

async fn connect(link: &Link) -> TcpStream {
    TcpStream::connect(link.address()).await.expect("the kernel accepts")
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

async fn answers(stream: &mut TcpStream) {
    timeout(PATIENCE, ping(stream)).await.expect("in time").expect("an answer");
}

async fn hangs(stream: &mut TcpStream) {
    let outcome = timeout(HANGS_FOR, ping(stream)).await;
    assert!(outcome.is_err(), "it neither answers nor ends: {outcome:?}");
}

fn conditions(delay_ms: u64) -> Conditions {
    Conditions { delay: Duration::from_millis(delay_ms), ..Conditions::default() }
}

#[tokio::test]
async fn a_round_trip_and_a_handshake_cost_what_the_table_says() {
    let table = WanTable::parse("[rtt-ms]\n\"a b\" = 60").expect("a table");
    let (_wan, link) = echo_behind(&table).await;
    let begun = Instant::now();
    let mut stream = connect(&link).await;
    answers(&mut stream).await;
    let first = begun.elapsed();
    let begun = Instant::now();
    answers(&mut stream).await;
    let second = begun.elapsed();
    assert!(first >= Duration::from_millis(120), "handshake and round trip: {first:?}");
    assert!(second >= Duration::from_millis(60), "round trip: {second:?}");
    assert!(second < first, "{second:?} < {first:?}");
}

#[tokio::test]
async fn delay_costs_no_bandwidth() {
    const BYTES: usize = 8 * 1024 * 1024;
    let table = WanTable::parse("[rtt-ms]\n\"a b\" = 200").expect("a table");
    let (_wan, link) = echo_behind(&table).await;
    let begun = Instant::now();
    let (mut read, mut write) = connect(&link).await.into_split();
    let sent = tokio::spawn(async move { write.write_all(&vec![7; BYTES]).await });
    let mut received = vec![0; BYTES];
    timeout(PATIENCE, read.read_exact(&mut received)).await.expect("in time").expect("all bytes");
    sent.await.expect("the sender lives").expect("all bytes sent");
    let took = begun.elapsed();
    // One chunk per round trip would take 128 chunks × 200 ms.
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn jitter_never_reorders() {
    let table = WanTable::parse("jitter-ms = 5\n[rtt-ms]\n\"a b\" = 2").expect("a table");
    let (_wan, link) = echo_behind(&table).await;
    let (mut read, mut write) = connect(&link).await.into_split();
    tokio::spawn(async move {
        for number in 0..200_u32 {
            write.write_all(&number.to_be_bytes()).await.expect("it is sent");
            tokio::task::yield_now().await;
        }
    });
    for expected in 0..200_u32 {
        let number = timeout(PATIENCE, read.read_u32()).await.expect("in time").expect("a number");
        assert_eq!(number, expected);
    }
}

#[tokio::test]
async fn bandwidth_is_shared_by_the_connections_of_a_direction() {
    let (wan, link) = echo_behind(&WanTable::none()).await;
    let slow = Conditions { bandwidth_bytes_per_s: Some(100_000), ..Conditions::default() };
    wan.set_conditions(&place("a"), &place("b"), slow).expect("a lane");
    let begun = Instant::now();
    let one = async {
        let mut stream = connect(&link).await;
        stream.write_all(&vec![1; 20_000]).await.expect("it is sent");
        stream.read_exact(&mut vec![0; 20_000]).await.expect("it comes back");
    };
    let other = async {
        let mut stream = connect(&link).await;
        stream.write_all(&vec![2; 20_000]).await.expect("it is sent");
        stream.read_exact(&mut vec![0; 20_000]).await.expect("it comes back");
    };
    timeout(PATIENCE, async { tokio::join!(one, other) }).await.expect("in time");
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cut_hangs_old_and_new_connections_and_healing_lets_them_go_on() {
    let (wan, link) = echo_behind(&WanTable::none()).await;
    let mut old = connect(&link).await;
    answers(&mut old).await;
    wan.cut(&place("a"), &place("b"), false).expect("lanes");
    assert_eq!(wan.cuts().len(), 2);
    assert!(!wan.is_open_to_clients(&place("a"), &place("b")));
    let mut new = connect(&link).await;
    tokio::join!(hangs(&mut old), hangs(&mut new));
    wan.heal();
    for stream in [&mut old, &mut new] {
        let mut held = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut held)).await.expect("in time").expect("what was held");
        answers(stream).await;
    }
}

#[tokio::test]
async fn a_one_way_cut_lets_the_other_direction_through() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (wan, link) = behind(&WanTable::none(), listener.local_addr().expect("an address")).await;
    let mut client = connect(&link).await;
    let (mut server, _) = listener.accept().await.expect("a connection");
    wan.cut(&place("a"), &place("b"), true).expect("a lane");
    client.write_all(b"lost").await.expect("the kernel takes it");
    server.write_all(b"heard").await.expect("the kernel takes it");
    let mut heard = [0; 5];
    timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("in time").expect("it arrives");
    let lost = timeout(HANGS_FOR, server.read_exact(&mut [0; 4])).await;
    assert!(lost.is_err(), "nothing arrives: {lost:?}");
}

#[tokio::test]
async fn a_dead_place_is_silent_until_it_is_back_and_then_its_old_connections_break() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (wan, link) = behind(&WanTable::none(), listener.local_addr().expect("an address")).await;
    let mut client = connect(&link).await;
    let (server, _) = listener.accept().await.expect("a connection");
    wan.set_silent(&place("b"), true);
    server.set_zero_linger().expect("the option");
    drop((server, listener));
    hangs(&mut client).await;
    wan.heal();
    hangs(&mut client).await;
    wan.set_silent(&place("b"), false);
    let broken = timeout(PATIENCE, client.read(&mut [0; 1])).await.expect("in time");
    assert!(!matches!(broken, Ok(1)), "{broken:?}");
}

#[tokio::test]
async fn the_clients_of_a_dead_region_reach_the_others_until_a_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let target = listener.local_addr().expect("an address");
    let (wan, _link) = behind(&WanTable::none(), target).await;
    let clients = wan.open_client_link(&place("a"), &place("b"), target).await.expect("a link");
    wan.set_silent(&place("a"), true);
    let mut client = connect(&clients).await;
    client.write_all(b"hello").await.expect("it is sent");
    let (mut server, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    timeout(PATIENCE, server.read_exact(&mut [0; 5])).await.expect("in time").expect("it arrives");
    assert!(wan.is_open_to_clients(&place("a"), &place("b")));
    assert!(!wan.is_open_to_clients(&place("b"), &place("a")));
    wan.cut(&place("a"), &place("b"), true).expect("a lane");
    client.write_all(b"lost").await.expect("the kernel takes it");
    let lost = timeout(HANGS_FOR, server.read_exact(&mut [0; 4])).await;
    assert!(lost.is_err(), "nothing arrives: {lost:?}");
}

#[tokio::test]
async fn a_stall_ends_by_itself() {
    let (wan, link) = echo_behind(&WanTable::none()).await;
    let mut stream = connect(&link).await;
    answers(&mut stream).await;
    let begun = Instant::now();
    wan.stall(&place("a"), &place("b"), Duration::from_millis(200)).expect("a lane");
    answers(&mut stream).await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reset_breaks_what_is_connected_and_nothing_else() {
    let (wan, link) = echo_behind(&WanTable::none()).await;
    let mut stream = connect(&link).await;
    answers(&mut stream).await;
    wan.reset(&place("b"), &place("a")).expect("a lane");
    let broken = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("in time");
    assert!(broken.is_err(), "{broken:?}");
    answers(&mut connect(&link).await).await;
}

#[tokio::test]
async fn delays_can_be_changed_in_one_direction_while_connections_live() {
    let (wan, link) = echo_behind(&WanTable::none()).await;
    let mut stream = connect(&link).await;
    answers(&mut stream).await;
    wan.set_conditions(&place("b"), &place("a"), conditions(80)).expect("a lane");
    let begun = Instant::now();
    answers(&mut stream).await;
    assert!(begun.elapsed() >= Duration::from_millis(80), "{:?}", begun.elapsed());
    let error = wan.set_conditions(&place("a"), &place("mars"), conditions(1)).expect_err("no lane");
    assert_eq!(error.to_string(), "there is no link between a and mars");
}

#[tokio::test]
async fn a_closed_half_is_passed_on_and_the_other_half_still_works() {
    let (_wan, link) = echo_behind(&WanTable::none()).await;
    let mut stream = connect(&link).await;
    stream.write_all(b"last words").await.expect("it is sent");
    stream.shutdown().await.expect("it is closed");
    let mut echoed = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut echoed)).await.expect("in time").expect("the end");
    assert_eq!(echoed, b"last words");
}
