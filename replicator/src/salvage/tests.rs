//! The window against a follower, homes and a directory that forget, refuse and die at every step.

use super::window::{Addressee, Answer, Offer, Pinned, Window};
use bytes::Bytes;
use proptest::prelude::*;
use proto::node as wire;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use types::{
    AckPolicy, Body, DeviceCursor, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MemberRole,
    MessageId, NodeId, Offset, PartitionId, PinSegment, Record, StateUpdate, UserId,
};

const FIRST: u64 = 41;

fn log(number: u8) -> LogId {
    LogId::group([number; 16])
}

fn alice() -> UserId {
    UserId::new("alice").expect("a valid name")
}

/// What stands in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message(u8),
    /// The home refuses it for good.
    Unwelcome(u8),
    /// Its log is pinned nowhere.
    Orphan,
    Creation(u8),
    Cursor,
}

fn archived(at: usize, kind: Kind) -> wire::ArchivedRecord {
    let (log, body) = match kind {
        Kind::Message(number) | Kind::Unwelcome(number) => {
            (log(number), EntryBody::Message { ciphertext: Bytes::from(at.to_string()) })
        }
        Kind::Orphan => (log(9), EntryBody::Message { ciphertext: Bytes::new() }),
        Kind::Creation(number) => {
            let members = vec![(alice(), MemberRole::Owner)];
            (
                log(number),
                EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: vec![] },
            )
        }
        Kind::Cursor => return cursor(at),
    };
    let entry = Entry {
        offset: Offset::new(at as u64 + 7),
        sender: alice(),
        device: DeviceId::new(1),
        message_id: MessageId::from_bytes((at as u128).to_be_bytes()),
        expires_at_ms: None,
        salvaged: false,
        about: None,
        body,
    };
    told(at, log, Body::Entry(entry))
}

fn cursor(at: usize) -> wire::ArchivedRecord {
    let cursor = DeviceCursor::read(alice(), DeviceId::new(1), Offset::FIRST, 1);
    told(at, log(1), Body::Update(StateUpdate::Cursors(vec![cursor])))
}

fn told(at: usize, log: LogId, body: Body) -> wire::ArchivedRecord {
    let record = Record {
        lsn: Lsn::new(FIRST + at as u64),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log,
        accepted_at_ms: 1,
        body,
    };
    wire::ArchivedRecord { record: proto::encode_record(&record), ..wire::ArchivedRecord::default() }
}

/// What happens to one round of offers.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    /// The home takes so many and answers none.
    Unheard(usize),
    /// The home has room for so many.
    Full(usize),
    /// There is no home.
    Homeless,
    /// The salvager dies before the step is noted.
    DiesBefore,
    /// The step is noted, and the salvager dies before it hears so.
    DiesAfter,
}

struct World {
    archive: Vec<Kind>,
    settled: Lsn,
    salvaged: u64,
    refused: BTreeMap<u64, String>,
    /// What the home has put back, in its order.
    put_back: Vec<u64>,
}

impl World {
    fn new(archive: Vec<Kind>) -> Self {
        Self { archive, settled: Lsn::ZERO, salvaged: 0, refused: BTreeMap::new(), put_back: Vec::new() }
    }

    fn last(&self) -> Lsn {
        Lsn::new(FIRST + self.archive.len() as u64 - 1)
    }

    fn open(&self) -> Window {
        let next = self.settled.plus(1).max(Lsn::new(FIRST));
        let skip = (next.get() - FIRST) as usize;
        let page = self.archive.iter().enumerate().skip(skip).take(5).map(|(at, kind)| archived(at, *kind));
        Window::open(self.settled, next, page.collect()).expect("a dense page")
    }

    fn offer(&mut self, offers: Vec<Offer>, room: usize) -> Vec<(Lsn, Answer)> {
        let mut held_up = BTreeSet::new();
        let mut answers = Vec::new();
        for (nth, Offer { lsn, offer }) in offers.into_iter().enumerate() {
            let record = proto::decode_record(offer.record).expect("a record");
            let answer = if nth >= room || held_up.contains(&record.log) {
                held_up.insert(record.log);
                Answer::Again
            } else if matches!(self.archive[(lsn.get() - FIRST) as usize], Kind::Unwelcome(_)) {
                Answer::Refused("forbidden".to_owned())
            } else {
                if !self.put_back.contains(&lsn.get()) {
                    self.put_back.push(lsn.get());
                }
                Answer::Salvaged
            };
            answers.push((lsn, answer));
        }
        answers
    }

    /// Answers whether the window survives.
    fn round(&mut self, window: &mut Window, fate: Fate) -> bool {
        let pins = window.logs().into_iter().map(|log| {
            let segment = PinSegment {
                generation: Generation::FIRST,
                partition: PartitionId::new(3),
                first_offset: Offset::FIRST,
            };
            (log, if log == self::log(9) { Pinned::Nowhere } else { Pinned::To(segment) })
        });
        let pins: HashMap<LogId, Pinned> = pins.collect();
        let home = NodeId::new("eu-west-1").expect("a valid name");
        let has_home = !matches!(fate, Fate::Homeless);
        let offers = window.offers(&pins, |_| has_home.then(|| home.clone()));
        let to = Addressee { home: home.clone(), partition: PartitionId::new(3) };
        assert!(offers.keys().all(|addressee| *addressee == to), "by pin");
        for offers in offers.into_values() {
            assert!(offers.is_sorted_by_key(|offer| offer.lsn), "in the archive's order");
            match fate {
                Fate::Unheard(room) => drop(self.offer(offers, room)),
                Fate::Full(room) => {
                    self.offer(offers, room).into_iter().for_each(|(at, said)| window.take(at, said))
                }
                _ => self.offer(offers, usize::MAX).into_iter().for_each(|(at, said)| window.take(at, said)),
            }
        }
        let Some(step) = window.step() else { return true };
        if matches!(fate, Fate::DiesBefore) {
            return false;
        }
        assert_eq!(step.after, self.settled, "steps follow each other");
        self.settled = step.through;
        self.salvaged += step.salvaged;
        self.refused.extend(step.refused.into_iter().map(|(lsn, why)| (lsn.get(), why)));
        !matches!(fate, Fate::DiesAfter)
    }

    fn run(&mut self, fates: Vec<Fate>) {
        let mut fates = fates.into_iter();
        while self.settled < self.last() {
            let mut window = self.open();
            while !window.is_done() {
                if !self.round(&mut window, fates.next().unwrap_or(Fate::Answered)) {
                    break;
                }
            }
        }
    }

    /// Everything is back exactly once and in order, or listed.
    fn check(&self) {
        for (at, kind) in self.archive.iter().enumerate() {
            let lsn = FIRST + at as u64;
            let is_back = self.put_back.contains(&lsn);
            match kind {
                Kind::Message(_) => assert!(is_back && !self.refused.contains_key(&lsn)),
                Kind::Cursor => assert!(!is_back && !self.refused.contains_key(&lsn)),
                Kind::Unwelcome(_) | Kind::Orphan | Kind::Creation(_) => {
                    assert!(!is_back && self.refused.contains_key(&lsn));
                }
            }
        }
        for number in 1..3 {
            let of_log = |lsn: &&u64| self.archive[(**lsn - FIRST) as usize] == Kind::Message(number);
            assert!(self.put_back.iter().filter(of_log).is_sorted(), "each log keeps its order");
        }
        assert_eq!(self.salvaged, self.put_back.len() as u64);
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => (1..3_u8).prop_map(Kind::Message),
        1 => (1..3_u8).prop_map(Kind::Unwelcome),
        1 => Just(Kind::Orphan),
        1 => (1..3_u8).prop_map(Kind::Creation),
        1 => Just(Kind::Cursor),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Answered),
        (0..5_usize).prop_map(Fate::Unheard),
        (0..5_usize).prop_map(Fate::Full),
        Just(Fate::Homeless),
        Just(Fate::DiesBefore),
        Just(Fate::DiesAfter),
    ]
}

proptest! {
    #[test]
    fn whatever_dies_everything_comes_back_once_or_is_listed(
        archive in proptest::collection::vec(kind(), 1..24),
        fates in proptest::collection::vec(fate(), 0..40),
    ) {
        let mut world = World::new(archive);
        world.run(fates);
        world.check();
    }
}

#[test]
fn a_crash_at_every_step_costs_a_repetition_only() {
    let archive =
        vec![Kind::Message(1), Kind::Unwelcome(1), Kind::Message(2), Kind::Cursor, Kind::Message(1)];
    for dies_at in 0..4 {
        for death in [Fate::DiesBefore, Fate::DiesAfter, Fate::Unheard(1), Fate::Unheard(9)] {
            let mut fates = vec![Fate::Full(1); dies_at];
            fates.push(death);
            let mut world = World::new(archive.clone());
            world.run(fates);
            world.check();
        }
    }
}

#[test]
fn a_page_with_a_hole_is_none() {
    let page = vec![archived(0, Kind::Message(1)), archived(2, Kind::Message(1))];
    assert!(Window::open(Lsn::ZERO, Lsn::new(FIRST), page).is_err());
}

#[test]
fn only_the_last_word_of_a_home_settles() {
    use wire::salvage_outcome::Outcome;
    let refused =
        |code: &str| Outcome::Refused(wire::Refused { code: code.to_owned(), ..wire::Refused::default() });
    let answer = |outcome| Answer::from(wire::SalvageOutcome { outcome: Some(outcome) });
    assert_eq!(answer(Outcome::Salvaged(wire::Salvaged {})), Answer::Salvaged);
    assert_eq!(answer(refused("expired")), Answer::Refused("expired: ".to_owned()));
    for code in ["overloaded", "home_unavailable", "internal", "what_a_newer_home_says"] {
        assert_eq!(answer(refused(code)), Answer::Again, "{code}");
    }
    assert_eq!(answer(Outcome::NotHome(wire::NotHome::default())), Answer::Again);
    assert_eq!(answer(Outcome::Unknown(wire::Unknown {})), Answer::Again);
    assert_eq!(Answer::from(wire::SalvageOutcome::default()), Answer::Again);
}
