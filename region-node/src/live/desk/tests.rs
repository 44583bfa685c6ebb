use super::*;
use crate::peer::Channel;
use types::{Epoch, NodeId};

const TTL_MS: u64 = 30_000;
const PARTITION: PartitionId = PartitionId::new(1);
const ALL: View = View { last_seen: true };

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn route(channel: u64, epoch: u64) -> Option<Route> {
    let node = NodeId::new("eu-west-1").expect("a valid name");
    Some(Route { node, channel: Channel(channel), epoch: Epoch::new(epoch) })
}

fn seen(name: &str, online: bool, last_seen_ms: u64) -> Seen {
    Seen { user: user(name), online, last_seen_ms }
}

/// The one beat that is told now.
#[track_caller]
fn beat(desk: &mut Desk, now_ms: u64, route: &Option<Route>) -> Beat {
    let mut beats = desk.beats(now_ms, |_| route.clone());
    match (beats.pop(), beats.is_empty()) {
        (Some((_, mut of_home)), true) if of_home.len() == 1 => of_home.remove(0).1,
        other => panic!("one beat, not {other:?}"),
    }
}

#[test]
fn a_home_is_told_all_from_time_to_time_and_changes_at_once() {
    let (mut desk, to) = (Desk::new(TTL_MS), route(1, 1));
    let (alice, bob, phone) = (user("alice"), user("bob"), DeviceId::new(1));
    desk.enter(PARTITION, &alice, phone);
    desk.watch(SessionId(1), PARTITION, &bob, ALL);
    let all = beat(&mut desk, 0, &to);
    assert_eq!((all.online.clone(), all.watched.clone()), (vec![(alice.clone(), phone)], vec![bob.clone()]));
    assert!(desk.beats(1_000, |_| to.clone()).is_empty());
    desk.enter(PARTITION, &alice, phone);
    desk.exit(PARTITION, &alice, phone);
    assert!(desk.beats(2_000, |_| to.clone()).is_empty(), "the device has another session");
    desk.enter(PARTITION, &bob, phone);
    let change = beat(&mut desk, 3_000, &to);
    assert_eq!((change.online, change.watched), (vec![(bob.clone(), phone)], vec![]));
    desk.exit(PARTITION, &bob, phone);
    assert_eq!(beat(&mut desk, 4_000, &to).gone, [(bob, phone)]);
    assert_eq!(beat(&mut desk, TTL_MS / BEATS, &to), all);
}

#[test]
fn another_home_is_told_all_at_once_and_one_that_refuses_a_little_later() {
    let mut desk = Desk::new(TTL_MS);
    desk.enter(PARTITION, &user("alice"), DeviceId::new(1));
    let all = beat(&mut desk, 0, &route(1, 1));
    assert!(desk.beats(100, |_| None).is_empty());
    assert_eq!(beat(&mut desk, 200, &route(1, 2)), all);
    assert_eq!(beat(&mut desk, 300, &route(2, 2)), all, "another stream: it may have been down");
    desk.refused(400, PARTITION);
    assert!(desk.beats(400 + AGAIN_MS - 1, |_| route(2, 2)).is_empty());
    assert_eq!(beat(&mut desk, 400 + AGAIN_MS, &route(2, 2)), all);
}

#[test]
fn watchers_are_told_of_changes_and_keep_what_they_know() {
    let mut desk = Desk::new(TTL_MS);
    let bob = user("bob");
    assert_eq!(desk.watch(SessionId(1), PARTITION, &bob, ALL), None);
    assert_eq!(desk.seen(PARTITION, &seen("bob", true, 5)), [(SessionId(1), seen("bob", true, 5))]);
    assert_eq!(desk.seen(PARTITION, &seen("bob", true, 9)), [], "no news");
    let hidden = View { last_seen: false };
    assert_eq!(desk.watch(SessionId(2), PARTITION, &bob, hidden), Some(seen("bob", true, 0)));
    let told = desk.seen(PARTITION, &seen("bob", false, 0));
    assert_eq!(told, [(SessionId(1), seen("bob", false, 9)), (SessionId(2), seen("bob", false, 0))]);
    assert_eq!(desk.seen(PARTITION, &seen("carol", true, 9)), [], "nobody watches her");
}

#[test]
fn nothing_stays_of_sessions_that_have_ended() {
    let (mut desk, to) = (Desk::new(TTL_MS), route(1, 1));
    let (alice, bob, phone) = (user("alice"), user("bob"), DeviceId::new(1));
    desk.enter(PARTITION, &alice, phone);
    desk.watch(SessionId(1), PARTITION, &bob, ALL);
    beat(&mut desk, 0, &to);
    desk.exit(PARTITION, &alice, phone);
    desk.leave(SessionId(1));
    let last = beat(&mut desk, 10, &to);
    assert_eq!((last.gone, last.unwatched), (vec![(alice, phone)], vec![bob]));
    assert!(desk.is_empty() && desk.sessions.is_empty());
}
