//! When a log follows, when it does not, and what is remembered.

use super::*;
use proptest::prelude::*;

const HALF_LIFE_MS: u64 = 60_000;
const HOLD_MS: u64 = 60_000;
const HOME: &str = "home";

fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a valid name")
}

fn log(number: u32) -> LogId {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    LogId::group(key)
}

fn following(weight_min: u32) -> Following {
    let region = region(HOME);
    Following::new(FollowWhen { region, half_life_ms: HALF_LIFE_MS, hold_ms: HOLD_MS, weight_min })
}

/// Writes every `every_ms` in [`from_ms`, `to_ms`); when the log was told of first.
fn write(
    following: &mut Following,
    origin: &str,
    (from_ms, to_ms): (u64, u64),
    every_ms: u64,
) -> Option<(u64, RegionId)> {
    let origin = region(origin);
    (from_ms..to_ms)
        .step_by(usize::try_from(every_ms).expect("fits"))
        .filter_map(|now_ms| Some((now_ms, following.count(now_ms, log(0), Some(&origin))?)))
        .reduce(|first, _| first)
}

#[test]
fn a_log_follows_once_another_region_has_led_for_long_enough() {
    let mut following = following(10);
    let told = write(&mut following, "b", (0, 2 * HOLD_MS), 1_000).expect("it is told of");
    // It leads from the tenth entry on.
    assert_eq!(told, (10_000 + HOLD_MS, region("b")));
}

#[test]
fn a_log_that_is_written_at_home_is_not_even_remembered() {
    let mut following = following(1);
    for now_ms in 0..10_000 {
        assert_eq!(following.count(now_ms, log(0), None), None);
        assert_eq!(following.count(now_ms, log(0), Some(&region(HOME))), None);
    }
    assert!(following.logs.is_empty());
}

#[test]
fn less_than_two_thirds_lead_nothing() {
    let mut following = following(1);
    for now_ms in (0..20 * HOLD_MS).step_by(1_000) {
        let origin = if now_ms % 5_000 < 3_000 { region("b") } else { region("c") };
        assert_eq!(following.count(now_ms, log(0), Some(&origin)), None);
    }
}

#[test]
fn the_lead_of_a_log_that_falls_silent_is_over() {
    let mut following = following(10);
    assert_eq!(write(&mut following, "b", (0, 30_000), 1_000), None);
    let silent_until_ms = 30_000 + 5 * HALF_LIFE_MS;
    let told = write(&mut following, "b", (silent_until_ms, silent_until_ms + 2 * HOLD_MS), 1_000);
    let (at_ms, _) = told.expect("it is told of");
    assert!(
        at_ms >= silent_until_ms + HOLD_MS,
        "what was before the silence does not count as held: {at_ms}"
    );
}

#[test]
fn weights_halve() {
    let mut tally = Tally { rest: 8.0, others: vec![(region("b"), 4.0)], ..Tally::default() };
    tally.decay(HALF_LIFE_MS, HALF_LIFE_MS);
    assert!((tally.rest - 4.0).abs() < 1e-9 && (tally.others[0].1 - 2.0).abs() < 1e-9);
    tally.decay(3 * HALF_LIFE_MS, HALF_LIFE_MS);
    assert!((tally.total() - 1.5).abs() < 1e-9);
}

#[test]
fn a_log_is_told_of_again_only_when_it_may_be() {
    let mut following = following(1);
    let (at_ms, _) = write(&mut following, "b", (0, 2 * HOLD_MS), 1_000).expect("it is told of");
    let asked = following.count(at_ms + 1, log(0), Some(&region("b")));
    assert_eq!(asked, None, "the answer is waited for");
    following.put_off(log(0), 10 * HOLD_MS);
    assert_eq!(write(&mut following, "b", (at_ms + 1, 10 * HOLD_MS), 1_000), None);
    let again = write(&mut following, "b", (10 * HOLD_MS, 11 * HOLD_MS), 1_000);
    assert_eq!(again, Some((10 * HOLD_MS, region("b"))));
}

#[test]
fn too_many_logs_and_regions_leave_those_that_matter() {
    let mut following = following(1);
    for _ in 0..50 {
        following.count(0, log(u32::MAX), Some(&region("b")));
    }
    for number in 0..20 * LOGS_MAX as u32 {
        following.count(u64::from(number), log(number), Some(&region("b")));
        assert!(following.logs.len() <= LOGS_MAX);
    }
    assert!(following.logs.contains_key(&log(u32::MAX)), "the one that is written to most");
    for number in 0..100 {
        following.count(20_000, log(u32::MAX), Some(&region(&format!("far-{number}"))));
    }
    let tally = &following.logs[&log(u32::MAX)];
    assert_eq!(tally.others.len(), ORIGINS_MAX);
    assert!(
        tally.total() > 100.0 && tally.others[0].0 == region("b"),
        "and the region that leads: {tally:?}"
    );
}

proptest! {
    /// Whatever the length of the turns, up to the hold, and however many write in each.
    #[test]
    fn regions_that_take_turns_never_make_a_log_flap(
        turn_ms in 1_000..=HOLD_MS,
        every_ms in 50..1_000_u64,
        others in prop::sample::subsequence(vec!["b", "c", "d", HOME], 2..=4),
    ) {
        let mut following = following(4);
        for turn in 0..60 {
            let origin = others[turn as usize % others.len()];
            let told = write(&mut following, origin, (turn * turn_ms, (turn + 1) * turn_ms), every_ms);
            prop_assert_eq!(told, None, "in turn {}", turn);
        }
    }

    /// A table that any writes go to answers only regions that have sent at least two thirds of what is left.
    #[test]
    fn nobody_is_followed_who_does_not_lead(
        writes in prop::collection::vec((0..20_000_u64, 0..3_u32, 0..5_usize), 1..400),
    ) {
        const NAMES: [&str; 5] = ["b", "c", "d", "e", HOME];
        let (mut following, mut now_ms) = (following(3), 0);
        let mut all: Vec<(u64, u32, usize)> = Vec::new();
        for (after_ms, number, origin) in writes {
            now_ms += after_ms;
            all.push((now_ms, number, origin));
            let Some(told) = following.count(now_ms, log(number), Some(&region(NAMES[origin]))) else { continue };
            let weight = |of: &dyn Fn(usize) -> bool| -> f64 {
                let mine = all.iter().filter(|(_, log, origin)| *log == number && of(*origin));
                mine.map(|(at_ms, ..)| (-((now_ms - at_ms) as f64) / HALF_LIFE_MS as f64).exp2()).sum()
            };
            let (lead, total) = (weight(&|origin| region(NAMES[origin]) == told), weight(&|_| true));
            // What is written at home before anybody else has written is not counted.
            let uncounted = weight(&|origin| NAMES[origin] == HOME);
            prop_assert!(3.0 * lead >= 2.0 * (total - uncounted) - 1e-6, "{lead} of {total}");
            prop_assert!(told != region(HOME));
        }
    }
}
