//! Whose a name is, whatever crashes between two commands; and the keys of nodes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use types::{Home, Incarnation, Name, UserId, VerifyingKey};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid user")
}

fn wish(of: &str, names: &[&str]) -> NameWish {
    let names = names.iter().map(|name| Name::new(name).expect("a valid name")).collect();
    NameWish { names, user: user(of) }
}

fn claim(of: &str, names: &[&str]) -> Command {
    Command::ClaimNames(NameClaim { wish: wish(of, names), freed_before_ms: 0 })
}

fn row(directory: &Directory, name: &str) -> Option<NameRow> {
    let name = Name::new(name).expect("a valid name");
    let mut row = None;
    crate::kv::Kv::read(&directory.kv, &mut |tx| {
        row = crate::rows::name(tx, &name)?;
        Ok(())
    })
    .expect("readable");
    row
}

fn has(directory: &Directory, name: &str, of: &str, state: NameState) {
    assert_eq!(row(directory, name), Some(NameRow { user: user(of), state }), "{name}");
}

const CLAIMED: NameState = NameState::Claimed { at_ms: 0 };

#[test]
fn a_name_is_one_users_and_both_names_of_a_user_come_together() {
    let mut directory = in_sync();
    assert_eq!(directory.run(claim("u1", &["alice", "+491701234567"])), Ok(Answer::Applied(2)));
    let taken = directory.run(claim("u2", &["bob", "+491701234567"])).expect_err("the number is u1's");
    assert_eq!(taken.to_string(), "+491701234567 is taken");
    assert_eq!(row(&directory, "bob"), None, "all or none");
    assert_eq!(directory.run(claim("u1", &["alice"])), Ok(Answer::Applied(0)), "again");

    assert_eq!(directory.run(Command::HoldNames(wish("u1", &["alice"]))), Ok(Answer::Applied(1)));
    has(&directory, "alice", "u1", NameState::Held);
    assert_eq!(directory.run(claim("u1", &["alice"])), Ok(Answer::Applied(0)), "what is held stays so");
    has(&directory, "alice", "u1", NameState::Held);
    let not_its = directory.run(Command::HoldNames(wish("u2", &["alice"]))).expect_err("never claimed");
    assert_eq!(not_its.to_string(), "alice is not u2's to hold");
}

#[test]
fn a_claim_can_be_taken_over_and_a_held_name_cannot() {
    let mut directory = in_sync();
    let take_over = |of: &str, from: &str| {
        Command::TakeOverNames(NameTakeOver { wish: wish(of, &["alice"]), from: user(from) })
    };
    directory.run(claim("u1", &["alice"])).expect("free");
    assert_eq!(directory.run(take_over("u2", "u1")), Ok(Answer::Applied(1)));
    has(&directory, "alice", "u2", CLAIMED);
    assert_eq!(directory.run(take_over("u2", "u1")), Ok(Answer::Applied(0)), "again");
    let late = directory.run(Command::HoldNames(wish("u1", &["alice"]))).expect_err("taken over");
    assert_eq!(late.to_string(), "alice is not u1's to hold");
    directory.run(Command::HoldNames(wish("u2", &["alice"]))).expect("its own");
    assert!(directory.run(take_over("u3", "u2")).is_err(), "it is held");
    assert!(directory.run(take_over("u3", "u1")).is_err(), "it is not u1's");
}

#[test]
fn a_freed_name_rests_for_everyone_but_its_former_user() {
    let mut directory = in_sync();
    directory.run(claim("u1", &["alice"])).expect("free");
    directory.run(Command::HoldNames(wish("u1", &["alice"]))).expect("claimed");
    assert_eq!(directory.run(Command::ReleaseNames(wish("u2", &["alice"]))), Ok(Answer::Applied(0)));
    assert_eq!(directory.run(Command::ReleaseNames(wish("u1", &["alice"]))), Ok(Answer::Applied(1)));
    has(&directory, "alice", "u1", NameState::Freed { at_ms: 0 });

    // The directory's commands run at time 0 here: it was freed then.
    let at = |of: &str, freed_before_ms| {
        Command::ClaimNames(NameClaim { wish: wish(of, &["alice"]), freed_before_ms })
    };
    let freed_at_7 = |directory: &mut Directory| {
        let envelope = |command| Envelope { request: RequestId::from_bytes([9; 16]), at_ms: 7, command };
        directory.run(claim("u1", &["alice"])).expect("its own");
        directory.run(Command::HoldNames(wish("u1", &["alice"]))).expect("claimed");
        crate::kv::Kv::write(&directory.kv, &mut |tx| {
            execute(tx, &envelope(Command::ReleaseNames(wish("u1", &["alice"])))).expect("released");
            Ok(())
        })
        .expect("committed");
    };
    freed_at_7(&mut directory);
    assert!(directory.run(at("u2", 6)).is_err(), "it rests");
    assert_eq!(directory.run(at("u2", 7)), Ok(Answer::Applied(1)));
    has(&directory, "alice", "u2", CLAIMED);
}

#[test]
fn a_claim_that_is_given_back_leaves_nothing() {
    let mut directory = in_sync();
    directory.run(claim("u1", &["alice"])).expect("free");
    assert_eq!(directory.run(Command::ReleaseNames(wish("u1", &["alice"]))), Ok(Answer::Applied(1)));
    assert_eq!(row(&directory, "alice"), None);
}

proptest! {
    /// Whatever is asked in whatever order, a name changes hands only out of a claim, or out of freedom.
    #[test]
    fn a_held_name_stays_with_its_user_until_that_one_frees_it(
        steps in proptest::collection::vec((0..4u8, 0..3usize, 0..3usize, 0..3usize), 1..60)
    ) {
        const USERS: [&str; 3] = ["u1", "u2", "u3"];
        const NAMES: [&str; 3] = ["alice", "bob.b", "+491701234567"];
        let mut directory = Directory::born(&REGIONS, 1);
        let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
        for (what, of, other, name) in steps {
            let (of, other, name) = (USERS[of], USERS[other], NAMES[name]);
            let names = &[name];
            let command = match what {
                0 => claim(of, names),
                1 => Command::HoldNames(wish(of, names)),
                2 => Command::TakeOverNames(NameTakeOver { wish: wish(of, names), from: user(other) }),
                _ => Command::ReleaseNames(wish(of, names)),
            };
            let is_done = directory.run(command).is_ok();
            match what {
                1 if is_done => {
                    prop_assert!(holders.get(name).is_none_or(|holder| *holder == of));
                    holders.insert(name, of);
                }
                3 if holders.get(name) == Some(&of) => {
                    holders.remove(name);
                }
                _ => {}
            }
            for (name, holder) in &holders {
                has(&directory, name, holder, NameState::Held);
            }
        }
    }
}

fn key(node: &Home, id: u64) -> Command {
    let key = VerifyingKey { id, public: [id as u8; 32] };
    Command::PublishKey(NewKey { node: node.clone(), key })
}

#[test]
fn a_node_has_the_keys_of_its_last_boots_and_days() {
    let mut directory = in_sync();
    let ids = |directory: &Directory| {
        let row = directory.view.node(&node("us-east-1")).expect("there");
        row.keys.iter().map(|key| key.id).collect::<Vec<_>>()
    };
    let boot = home("us-east-1", 1);
    for id in 1..=3 {
        assert_eq!(directory.run(key(&boot, id)), Ok(Answer::Done));
    }
    assert_eq!(directory.run(key(&boot, 3)), Ok(Answer::Done), "again");
    assert_eq!(ids(&directory), [1, 2, 3]);
    let again = directory.register("us-east-1", 3);
    assert_eq!(ids(&directory), [1, 2, 3], "what it signed before it booted still counts");
    for id in 4..=5 {
        directory.run(key(&again, id)).expect("published");
    }
    assert_eq!(ids(&directory), [2, 3, 4, 5], "the oldest has gone");
}

#[test]
fn only_a_node_in_its_present_boot_publishes_a_key() {
    let mut directory = in_sync();
    let refused =
        |directory: &mut Directory, command| directory.run(command).expect_err("refused").to_string();
    let stale = key(&Home { node: node("us-east-1"), incarnation: Incarnation::new(7) }, 1);
    assert_eq!(refused(&mut directory, stale), "node us-east-1 does not run in incarnation 7");
    directory.run(key(&home("us-east-1", 1), 1)).expect("published");
    let other = NewKey { node: home("us-east-1", 1), key: VerifyingKey { id: 1, public: [9; 32] } };
    assert_eq!(refused(&mut directory, Command::PublishKey(other)), "node us-east-1 has another key 1");
    directory.run(Command::Bump(vec![home("us-east-1", 1)])).expect("bumped");
    let bumped = key(&home("us-east-1", 2), 2);
    assert_eq!(refused(&mut directory, bumped), "node us-east-1 does not run in incarnation 2");
}
