//! What a home tells of where its logs are written from.

use super::*;

impl World {
    fn say_from(&mut self, origin: Option<u8>, write: Write) {
        self.lease_until_ms = self.now.boot_ms + TTL_MS;
        self.append(Write { origin: origin.map(region), ..write });
        self.load_all();
    }
}

#[test]
fn a_home_tells_where_a_log_is_written_from_and_the_answer_says_when_again() {
    let mut world = World::with_chat();
    for number in 1..200_u8 {
        world.say_from(Some(2), write(log(1), number, message(number), AckPolicy::Home, None));
        world.say_from(Some(1), write(log(2), number, message(number), AckPolicy::Home, None));
        world.sync(usize::MAX);
        world.time(50);
        if let [_, ..] = world.follows[..] {
            break;
        }
    }
    let told =
        Follow { log: log(1), generation: Generation::FIRST, region: region(2), allowed_regions: vec![] };
    assert_eq!(world.follows, std::slice::from_ref(&told), "and nothing of a log that is not there");
    world.say(Input::FollowAnswered { log: log(1), retry_after_ms: 500 });
    let before = world.now.boot_ms;
    for number in 200..=255_u8 {
        world.say_from(Some(2), write(log(1), number, message(number), AckPolicy::Home, None));
        if world.follows.len() == 2 {
            break;
        }
        world.time(50);
    }
    assert_eq!(world.follows[1..], [told]);
    assert!(world.now.boot_ms >= before + 500, "not before it may");
}

#[test]
fn only_what_users_newly_write_counts() {
    let mut world = World::with_chat();
    let first = write(log(1), 1, message(1), AckPolicy::Home, None);
    for number in 2..100_u8 {
        world.say_from(Some(2), first.clone());
        world.say_from(Some(2), salvaged(log(1), number, number, &[]));
        world.sync(usize::MAX);
        world.time(50);
    }
    assert_eq!(world.follows, [], "retries and what is put back from archives move nothing");
}
