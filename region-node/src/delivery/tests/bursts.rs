//! Bursts, and sessions that come and go, on a feed whose sessions are level.

use super::*;
use crate::delivery::feed::LINGER_MS;
use log_store::locate::Located;

/// A feed that is subscribed in epoch 1 at the first entry of a log, with sessions that have it.
fn level_feed(sessions: impl IntoIterator<Item = u64>) -> (Feed, Log) {
    let mut log = Log::default();
    log.append(Epoch::FIRST);
    let mut feed = Feed::new(PIN);
    let mut out = Vec::new();
    feed.handle(0, Input::Route(Some(route(1))), &mut out);
    let answer = Subscribed {
        head: at(1, 1),
        replicated: Position::START,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
    };
    feed.handle(0, Input::Subscribed(route(1), Some(answer)), &mut out);
    for session in sessions {
        let join = Input::Join {
            session: SessionId(session),
            position: at(1, 1),
            checked: (Generation::FIRST, Epoch::FIRST),
            at_end: false,
        };
        feed.handle(0, join, &mut out);
    }
    assert_eq!(out, [Output::SubscribeAt(route(1))]);
    (feed, log)
}

fn publish(log: &mut Log, epoch: u64, count: usize) -> Vec<Arc<Published>> {
    (0..count).map(|_| Arc::new(log.append(Epoch::new(epoch)))).collect()
}

fn handle(feed: &mut Feed, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    feed.handle(0, input, &mut out);
    out
}

#[test]
fn a_burst_is_handed_over_as_one() {
    let (mut feed, mut log) = level_feed([1, 2]);
    let burst = publish(&mut log, 1, 5);
    let out = handle(&mut feed, Input::Published(burst.clone()));
    let to = vec![SessionId(1), SessionId(2)];
    assert_eq!(out, [Output::Deliver { entries: burst, after: at(1, 1), to }]);
    let out = handle(&mut feed, Input::Replicated(at(1, 4)));
    let to = vec![SessionId(1), SessionId(2)];
    assert_eq!(out, [Output::Replicated { position: at(1, 4), has: at(1, 6), to, is_news: true }]);
}

#[test]
fn what_comes_before_a_gap_in_a_burst_is_handed_over() {
    let (mut feed, mut log) = level_feed([1]);
    let mut burst = publish(&mut log, 1, 5);
    burst.remove(2);
    let out = handle(&mut feed, Input::Published(burst.clone()));
    burst.truncate(2);
    let deliver = Output::Deliver { entries: burst, after: at(1, 1), to: vec![SessionId(1)] };
    let fill = Output::Fill { after: at(1, 3), to: vec![(SessionId(1), 1)], known_head: at(1, 6) };
    assert_eq!(out, [deliver, fill]);
}

#[test]
fn a_session_that_is_filled_gets_the_rest_of_the_bursts_from_the_tail() {
    let (mut feed, mut log) = level_feed([1]);
    let session = SessionId(2);
    let out = handle(
        &mut feed,
        Input::Join {
            session,
            position: Position::START,
            checked: (Generation::FIRST, Epoch::FIRST),
            at_end: false,
        },
    );
    assert_eq!(out, [Output::Fill { after: Position::START, to: vec![(session, 1)], known_head: at(1, 1) }]);
    let burst = publish(&mut log, 1, 3);
    handle(&mut feed, Input::Published(burst.clone()));
    handle(&mut feed, Input::Replicated(at(1, 2)));
    let filled = Input::Filled { session, fill: 1, to: at(1, 1), at_end: true };
    let out = handle(&mut feed, filled);
    let deliver = Output::Deliver { entries: burst, after: at(1, 1), to: vec![session] };
    let (position, has) = (at(1, 2), at(1, 4));
    let tick = Output::Replicated { position, has, to: vec![session], is_news: false };
    assert_eq!(out, [deliver, tick]);
}

#[test]
fn an_entry_of_a_later_epoch_in_a_burst_stops_it() {
    let (mut feed, mut log) = level_feed([1]);
    let mut burst = publish(&mut log, 1, 2);
    let known = burst.clone();
    burst.extend(publish(&mut log, 2, 2));
    let out = handle(&mut feed, Input::Published(burst));
    let deliver = Output::Deliver { entries: known, after: at(1, 1), to: vec![SessionId(1)] };
    assert_eq!(out, [Output::SubscribeAt(route(1)), deliver]);
    let answer = Subscribed {
        head: at(2, 5),
        replicated: Position::START,
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
    };
    let out = handle(&mut feed, Input::Subscribed(route(1), Some(answer)));
    assert_eq!(out, [Output::Check { position: at(1, 3), session: SessionId(1) }]);
}

#[test]
fn an_undone_head_stops_a_burst_and_is_checked() {
    let (mut feed, mut log) = level_feed([1]);
    let mut burst = publish(&mut log, 1, 1);
    // The home has written its head again, in the epoch of the feed, and goes on from there.
    let mut next = log.append(Epoch::FIRST);
    next.previous_era = Position::START.era();
    burst.push(Arc::new(next));
    let out = handle(&mut feed, Input::Published(burst.clone()));
    burst.truncate(1);
    let deliver = Output::Deliver { entries: burst, after: at(1, 1), to: vec![SessionId(1)] };
    assert_eq!(out, [deliver, Output::Check { position: at(1, 2), session: SessionId(1) }]);
}

#[test]
fn a_session_that_overflows_leaves_and_the_others_stay() {
    let (mut feed, mut log) = level_feed([1, 2, 3]);
    handle(&mut feed, Input::Published(publish(&mut log, 1, 3)));
    let session = SessionId(2);
    let out = handle(&mut feed, Input::Overflowed { session, has: at(1, 2) });
    assert_eq!(out, [Output::Behind { session, position: at(1, 2) }]);
    let out = handle(&mut feed, Input::Published(publish(&mut log, 1, 1)));
    let [Output::Deliver { to, .. }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(to.len(), 2);
    assert!(!to.contains(&session));
}

#[test]
fn a_quiet_feed_is_small() {
    assert!(size_of::<Feed>() <= 128, "{}", size_of::<Feed>());
    let (feed, _) = level_feed([1, 2]);
    assert!(feed.is_settled(), "{feed:?}");
}

#[test]
fn who_has_all_that_is_known_waits_for_the_subscription_and_is_not_filled() {
    let mut feed = Feed::new(PIN);
    handle(&mut feed, Input::Route(Some(route(1))));
    for session in 1..=2 {
        let (session, position) = (SessionId(session), at(1, 3));
        let out = handle(
            &mut feed,
            Input::Join { session, position, checked: (Generation::FIRST, Epoch::FIRST), at_end: true },
        );
        assert_eq!(out, []);
    }
    let answer = Subscribed {
        head: at(1, 3),
        replicated: Position::START,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
    };
    assert_eq!(handle(&mut feed, Input::Subscribed(route(1), Some(answer))), []);
    assert!(feed.is_settled(), "{feed:?}");
}

#[test]
fn who_waits_is_filled_when_the_home_knows_more_or_does_not_answer() {
    let more = Subscribed {
        head: at(1, 5),
        replicated: Position::START,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
    };
    for answer in [Some(more), None] {
        let mut feed = Feed::new(PIN);
        handle(&mut feed, Input::Route(Some(route(1))));
        let (session, position) = (SessionId(1), at(1, 3));
        handle(
            &mut feed,
            Input::Join { session, position, checked: (Generation::FIRST, Epoch::FIRST), at_end: true },
        );
        let known_head = answer.map_or(Position::START, |answer| answer.head);
        let out = handle(&mut feed, Input::Subscribed(route(1), answer));
        assert_eq!(out, [Output::Fill { after: at(1, 3), to: vec![(session, 1)], known_head }]);
    }
}

#[test]
fn a_session_that_joins_behind_a_lingering_feed_is_in_it() {
    let (mut feed, mut log) = level_feed([1]);
    let mut out = handle(&mut feed, Input::Leave(SessionId(1)));
    let late_ms = LINGER_MS + 1;
    feed.handle(late_ms, Input::Route(Some(route(1))), &mut out);
    let join = Input::Join {
        session: SessionId(2),
        position: at(1, 1),
        checked: (Generation::FIRST, Epoch::FIRST),
        at_end: false,
    };
    feed.handle(late_ms, join, &mut out);
    feed.handle(late_ms, Input::Tick, &mut out);
    assert!(out.is_empty(), "{out:?}");
    let entries = publish(&mut log, 1, 1);
    feed.handle(late_ms, Input::Published(entries), &mut out);
    assert!(matches!(&out[..], [Output::Deliver { to, .. }] if to[..] == [SessionId(2)]), "{out:?}");
}

#[test]
fn a_feed_that_nobody_follows_goes_by_a_tick() {
    let (mut feed, _) = level_feed([1]);
    let mut out = handle(&mut feed, Input::Leave(SessionId(1)));
    feed.handle(LINGER_MS - 1, Input::Tick, &mut out);
    assert!(out.is_empty(), "{out:?}");
    feed.handle(LINGER_MS, Input::Tick, &mut out);
    assert_eq!(out, [Output::Unsubscribe(route(1), PARTITION), Output::Drop]);
}

#[test]
fn what_is_lost_while_the_home_is_being_asked_is_asked_for_again() {
    let mut feed = Feed::new(PIN);
    handle(&mut feed, Input::Route(Some(route(1))));
    let (session, position) = (SessionId(1), at(1, 3));
    let checked = (Generation::FIRST, Epoch::FIRST);
    handle(&mut feed, Input::Join { session, position, checked, at_end: true });
    let answer = |offset| Subscribed {
        head: at(1, offset),
        replicated: Position::START,
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
    };
    assert_eq!(handle(&mut feed, Input::Lagged), [], "one question at a time");
    let out = handle(&mut feed, Input::Subscribed(route(1), Some(answer(3))));
    assert_eq!(out, [Output::SubscribeAt(route(1))], "the answer may be older than what is lost");
    let out = handle(&mut feed, Input::Subscribed(route(1), Some(answer(4))));
    assert_eq!(out, [Output::Fill { after: position, to: vec![(session, 1)], known_head: at(1, 4) }]);
}

#[test]
fn a_session_that_was_filled_from_a_later_epoch_gets_nothing_behind_that_from_an_older_bus() {
    let (mut feed, mut log) = level_feed([]);
    let (session, position) = (SessionId(1), at(2, 3));
    let checked = (Generation::FIRST, Epoch::FIRST);
    assert_eq!(handle(&mut feed, Input::Join { session, position, checked, at_end: true }), []);
    let out = handle(&mut feed, Input::Published(publish(&mut log, 1, 3)));
    assert_eq!(out, [Output::Check { position, session }], "4@1 never followed 3@2");
}

#[test]
fn thousands_that_come_while_there_is_no_home_cost_no_look_at_each_other_and_are_level_when_there_is_one() {
    const SESSIONS: u64 = 20_000;
    let mut feed = Feed::new(PIN);
    let began = std::time::Instant::now();
    for session in 1..=SESSIONS {
        let join = Input::Join {
            session: SessionId(session),
            position: at(1, 1),
            checked: (Generation::FIRST, Epoch::FIRST),
            at_end: true,
        };
        assert_eq!(handle(&mut feed, join), [], "nothing is read: it has all that is known");
    }
    // Each with a look at all others they would be 200 million looks.
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(handle(&mut feed, Input::Route(Some(route(2)))), [Output::SubscribeAt(route(2))]);
    let (epoch, generation) = (Epoch::new(2), Generation::FIRST);
    let answer = Subscribed { head: at(1, 1), replicated: Position::START, epoch, generation };
    let asked = handle(&mut feed, Input::Subscribed(route(2), Some(answer)));
    assert_eq!(asked, [Output::Check { position: at(1, 1), session: SessionId(1) }], "once for all");
    let stands = LocateAnswer {
        located: Located::Continue,
        head: at(1, 1),
        replicated: Position::START,
        generation,
        epoch,
        closed: Generation::ZERO,
        until: None,
    };
    assert_eq!(handle(&mut feed, Input::Checked(at(1, 1), Ok(stands))), []);
    assert!(feed.is_settled(), "all are level");
}
