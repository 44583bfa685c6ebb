//! What is live and no entry, across regions and the loss of one: receipts, typing, presence.

use crate::PROGRAM;
use anyhow::Context as _;
use client::{Chat, Client, Config, Entry, Event, Events, From, Presence, Receipt};
use lab::{Lab, placement};
use std::time::Duration;
use tests::{
    deployment::{REGIONS, patience, start, whole},
    eventually,
    session::user,
};
use tokio::time::{Instant, timeout};
use types::{DeviceId, LogId, UserId};

/// Within which a change reaches another region.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// For how long a device is there after its node has said so last, in these tests.
const PRESENCE_TTL: Duration = Duration::from_secs(6);
/// Within which a lost home has a successor.
const FAILOVER: Duration = Duration::from_secs(10);

/// A client that connects to the nodes of these regions only, the first one first.
fn open_client(lab: &Lab, regions: &[&str], name: &UserId) -> Client {
    let edges = regions.iter().map(|region| lab.edge(region).expect("a region"));
    let config = Config::new(edges.collect::<Vec<_>>(), name.clone(), DeviceId::new(1));
    Client::connect(config).expect("good settings")
}

/// The first event that is wanted.
async fn until<T>(
    what: &str,
    events: &mut Events,
    patience: Duration,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    let waiting = async {
        loop {
            if let Some(found) = wanted(events.next().await.expect("the client lives")) {
                return found;
            }
        }
    };
    timeout(patience, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
}

async fn entry_at(events: &mut Events, offset: u64) -> Entry {
    let wanted = |event| match event {
        Event::Entry { entry, .. } if entry.offset == offset => Some(entry),
        _ => None,
    };
    until("the entry", events, patience(), wanted).await
}

async fn read_up_to(events: &mut Events, name: &str, offset: u64, patience: Duration) {
    let has_read = |receipt: &Receipt| {
        receipt.user.as_str() == name && receipt.read.as_ref().is_some_and(|read| read.offset == offset)
    };
    let wanted = |event| match event {
        Event::Receipts { receipts, .. } => receipts.iter().any(has_read).then_some(()),
        _ => None,
    };
    until("the receipt", events, patience, wanted).await;
}

async fn send(chat: &Chat, text: &'static str) {
    chat.send(text).await.expect("is taken").replicated().await.expect("is replicated");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_typing_cross_regions_and_no_receipt_is_lost_with_a_home() {
    let [home, near, far] = REGIONS;
    let lab = start(whole(PROGRAM)).await;
    let ann = open_client(&lab, &[home, near], &user("ann"));
    let ben = open_client(&lab, &[far], &user("ben"));
    let (mut at_ann, mut at_ben) = (ann.events().await, ben.events().await);
    let anns = ann.open_direct(&user("ben")).await.expect("opens");
    let bens = ben.chat(anns.log());
    anns.follow(From::Start).await;
    bens.follow(From::Start).await;

    send(&anns, "one").await;
    let one = entry_at(&mut at_ben, 2).await;
    let began = Instant::now();
    bens.mark_read(&one).await;
    read_up_to(&mut at_ann, "ben", 2, TOLD_WITHIN).await;
    println!("a receipt was told in another region after {:.2} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    bens.typing().await;
    let is_typing = |event| matches!(event, Event::Typing { .. }).then_some(());
    until("ben types", &mut at_ann, TOLD_WITHIN, is_typing).await;
    println!("typing was told in another region after {:.2} s", began.elapsed().as_secs_f64());

    send(&anns, "two").await;
    let two = entry_at(&mut at_ben, 3).await;
    bens.mark_read(&two).await;
    read_up_to(&mut at_ann, "ben", 3, TOLD_WITHIN).await;
    // Its home has told it, and had no time to write it.
    lab.kill(home).await.expect("kills");
    let died = Instant::now();
    for (name, chat) in [("ann", &anns), ("ben", &bens)] {
        eventually("the receipt at the next home", patience(), async || {
            let page = chat.receipts(3, None, 10).await?;
            let of_ben = page.receipts.iter().find(|receipt| receipt.user.as_str() == "ben");
            let read = of_ben.and_then(|receipt| receipt.read.as_ref()).context("ben has read nothing")?;
            anyhow::ensure!((read.offset, &read.position) == (3, &two.position), "{read:?}");
            Ok(())
        })
        .await;
        println!("{name} sees the receipt {:.2} s after its home died", died.elapsed().as_secs_f64());
    }
    send(&anns, "three").await;
    let three = entry_at(&mut at_ben, 4).await;
    bens.mark_read(&three).await;
    read_up_to(&mut at_ann, "ben", 4, patience()).await;
    lab.stop().await.expect("stops");
}

/// A user whose presence is kept in a region.
async fn user_kept_in(lab: &Lab, region: &str) -> UserId {
    let rows =
        placement::snapshot(&lab.directory_address(), patience()).await.expect("the directory answers");
    let partitions = rows.partitions.len() as u64;
    let homes = lab.node_ids(region).expect("a region");
    let is_kept_here = |user: &UserId| {
        let key: [u8; 8] = LogId::account(user).key()[..8].try_into().expect("8 bytes");
        let number = u64::from_be_bytes(key) % partitions;
        let row = rows.partitions.iter().find(|row| u64::from(row.partition.get()) == number);
        row.and_then(|row| row.home.as_ref()).is_some_and(|home| homes.contains(&home.node))
    };
    let mut users = (0..).map(|number| user(&format!("ben{number}")));
    users.find(is_kept_here).expect("there are many names")
}

/// A deployment in which ann, near, watches ben, who is far and whose presence is kept in the region `home`.
struct Watching {
    lab: Lab,
    /// Ann's.
    events: Events,
    _ann: Client,
    ben: Client,
}

impl Watching {
    async fn start() -> Self {
        let [home, near, far] = REGIONS;
        let mut options = whole(PROGRAM);
        let ttl_ms = PRESENCE_TTL.as_millis() as i64;
        options.overlay.node.insert("presence-ttl-ms".to_owned(), ttl_ms.into());
        let lab = start(options).await;
        let name = user_kept_in(&lab, home).await;
        let ann = open_client(&lab, &[near], &user("ann"));
        let mut events = ann.events().await;
        ann.open_direct(&name).await.expect("opens");
        ann.watch(std::slice::from_ref(&name)).await;
        until("ben is not there", &mut events, 3 * PRESENCE_TTL, told(false)).await;
        let began = Instant::now();
        let ben = open_client(&lab, &[far], &name);
        let presence = until("ben comes", &mut events, TOLD_WITHIN, told(true)).await;
        println!("who came was told in another region after {:.2} s", began.elapsed().as_secs_f64());
        assert!(presence.last_seen_ms.is_some());
        Self { lab, events, _ann: ann, ben }
    }
}

fn told(wanted: bool) -> impl FnMut(Event) -> Option<Presence> {
    move |event| match event {
        Event::Presence(presence) if presence.online == Some(wanted) => Some(presence),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_flaps_in_a_failover_and_the_next_home_tells_who_goes() {
    let [home, ..] = REGIONS;
    let Watching { lab, mut events, _ann, ben } = Watching::start().await;
    lab.kill(home).await.expect("kills");
    let flap = timeout(PRESENCE_TTL + FAILOVER, async {
        loop {
            if let Some(Event::Presence(presence)) = events.next().await {
                return presence;
            }
        }
    });
    if let Ok(presence) = flap.await {
        panic!("ben was there all the time, and ann was told {presence:?}");
    }
    drop(ben);
    let began = Instant::now();
    // A home that has not listened for long enough yet, for want of a lease in between, tells it when it has.
    until("ben goes", &mut events, patience(), told(false)).await;
    println!("who went was told by the next home after {:.2} s", began.elapsed().as_secs_f64());
    lab.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_killed_node_are_offline_once_their_time_is_over() {
    let [.., far] = REGIONS;
    let Watching { lab, mut events, _ann, ben: _ben } = Watching::start().await;
    lab.kill(far).await.expect("kills");
    let died = Instant::now();
    until("ben's node is lost", &mut events, patience(), told(false)).await;
    println!("users of a killed node were offline after {:.2} s", died.elapsed().as_secs_f64());
    lab.stop().await.expect("stops");
}
