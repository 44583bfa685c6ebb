//! `locate` against brute force, over trees of histories as failovers grow them.
//!
//! A record is named by its epoch and place, and its name stands for all that came before it. So the
//! truth about two histories is found by comparing them place by place.

use log_store::{
    EpochBegin,
    fold::{EraBegin, LogState},
    locate::{Located, locate, locate_record},
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;
use types::{Epoch, Generation, Lsn, Offset, PartitionPosition, Position};

const REPLICAS: usize = 3;
const LOGS: u8 = 2;

#[derive(Debug, Clone)]
enum Event {
    /// The home writes records of these logs.
    Write(Vec<u8>),
    /// A replica drops what the home does not have, then copies so many records behind that.
    Copy { replica: usize, records: usize },
    /// Of these replicas the most advanced one becomes home.
    FailOver { reachable: [bool; REPLICAS] },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => vec(0..LOGS, 1..4).prop_map(Event::Write),
        4 => (0..REPLICAS, 0_usize..6).prop_map(|(replica, records)| Event::Copy { replica, records }),
        3 => any::<[bool; REPLICAS]>().prop_map(|reachable| Event::FailOver { reachable }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    epoch: u64,
    log: u8,
}

/// What one replica holds, and the highest epoch of which it knows the whole past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Replica {
    records: Vec<Written>,
    known: u64,
}

impl Replica {
    fn last(&self) -> (u64, usize) {
        (self.records.last().map_or(0, |last| last.epoch), self.records.len())
    }
}

fn shared<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Every state that any replica was ever in.
fn grow(events: Vec<Event>) -> Vec<Replica> {
    let mut replicas: [Replica; REPLICAS] = Default::default();
    let (mut home, mut epoch) = (0, 1);
    replicas[home].known = epoch;
    let mut states = Vec::new();
    for event in events {
        match event {
            Event::Write(logs) => {
                replicas[home].records.extend(logs.into_iter().map(|log| Written { epoch, log }));
            }
            Event::Copy { replica, records } if replica != home => {
                let from = replicas[home].records.clone();
                let copy = &mut replicas[replica];
                copy.records.truncate(shared(&copy.records, &from));
                let held = copy.records.len();
                copy.records.extend(from.into_iter().skip(held).take(records));
                copy.known = copy.last().0;
            }
            Event::Copy { .. } => {}
            Event::FailOver { reachable } => {
                let candidates = (0..REPLICAS).filter(|replica| reachable[*replica]);
                if let Some(next) = candidates.max_by_key(|replica| replicas[*replica].last()) {
                    (home, epoch) = (next, epoch + 1);
                    replicas[home].known = epoch;
                }
            }
        }
        for replica in &replicas {
            if !states.contains(replica) {
                states.push(replica.clone());
            }
        }
    }
    states
}

/// Every history that ends in a record that was ever written.
fn histories(states: &[Replica]) -> Vec<Vec<Written>> {
    let mut histories: BTreeMap<(u64, usize), Vec<Written>> = BTreeMap::new();
    for state in states {
        for (at, record) in state.records.iter().enumerate() {
            histories.entry((record.epoch, at)).or_insert_with(|| state.records[..=at].to_vec());
        }
    }
    histories.into_values().collect()
}

/// Asks for the asker's last place, then again from each `common` that it has other than the replica.
/// Answers how many places are shared, or `None` where the replica cannot tell.
fn search<P: Copy>(
    asker: &[u64],
    name: impl Fn(u64, usize) -> P,
    locate: impl Fn(P) -> Located<P>,
    unname: impl Fn(P) -> (u64, usize),
) -> Result<Option<usize>, TestCaseError> {
    let mut asked = asker.len();
    loop {
        let Some(epoch) = asked.checked_sub(1).map(|at| asker[at]) else { return Ok(Some(0)) };
        match locate(name(epoch, asked)) {
            Located::Continue => return Ok(Some(asked)),
            Located::Ahead => {
                prop_assert_eq!(asked, asker.len(), "ahead only at the first question");
                return Ok(None);
            }
            Located::Diverged { common } => {
                let (epoch, place) = unname(common);
                prop_assert!(place < asked, "the place falls");
                if place == 0 || asker[place - 1] == epoch {
                    return Ok(Some(place));
                }
                asked = place;
            }
        }
    }
}

/// What the answer must be, and whether `Ahead` is one.
fn check(asker: &[u64], replica: &[u64], known: u64, found: Option<usize>) -> Result<(), TestCaseError> {
    let last = *asker.last().expect("a history ends in a record");
    let above = last > known || (last == known && asker.len() > replica.len());
    let shared = shared(asker, replica);
    match found {
        None => prop_assert!(above && shared < asker.len(), "ahead only when above what is known"),
        Some(found) => {
            prop_assert_eq!(found, shared);
            prop_assert!(!above || shared == asker.len(), "above what is known is never diverged");
        }
    }
    Ok(())
}

fn begins(epochs: &[u64]) -> Vec<(u64, usize)> {
    let mut begins: Vec<(u64, usize)> = Vec::new();
    for (at, epoch) in epochs.iter().enumerate() {
        if begins.last().is_none_or(|(last, _)| last != epoch) {
            begins.push((*epoch, at + 1));
        }
    }
    begins
}

/// Spreads epochs over generations, in order, so that both parts of an era are compared.
fn era(epoch: u64) -> (Generation, Epoch) {
    (Generation::new(1 + (epoch / 3) as u32), Epoch::new(1 + epoch % 3))
}

fn unera((generation, epoch): (Generation, Epoch)) -> u64 {
    u64::from(generation.get() - 1) * 3 + epoch.get() - 1
}

fn check_records(asker: &[Written], replica: &Replica) -> Result<(), TestCaseError> {
    let epochs = |records: &[Written]| records.iter().map(|record| record.epoch).collect::<Vec<u64>>();
    let (asker, held) = (epochs(asker), epochs(&replica.records));
    let starts: Vec<EpochBegin> = begins(&held)
        .into_iter()
        .map(|(epoch, at)| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(at as u64) })
        .collect();
    let name = |epoch, lsn| PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn as u64));
    let end = held.last().map_or(PartitionPosition::ZERO, |epoch| name(*epoch, held.len()));
    let found = search(
        &asker,
        name,
        |position| locate_record(end, &starts, Epoch::new(replica.known), position),
        |position| (position.epoch.get(), position.lsn.get() as usize),
    )?;
    check(&asker, &held, replica.known, found)
}

fn check_log(log: u8, asker: &[Written], replica: &Replica) -> Result<(), TestCaseError> {
    let epochs = |records: &[Written]| {
        let of_log = records.iter().filter(|record| record.log == log);
        of_log.map(|record| record.epoch).collect::<Vec<u64>>()
    };
    let (asker, held) = (epochs(asker), epochs(&replica.records));
    if asker.is_empty() {
        return Ok(());
    }
    let name = |epoch, offset| {
        let (generation, epoch) = era(epoch);
        Position::new(generation, epoch, Offset::new(offset as u64))
    };
    let begin = |(epoch, at): (u64, usize)| {
        let (generation, epoch) = era(epoch);
        EraBegin { generation, epoch, first_offset: Offset::new(at as u64) }
    };
    let state = LogState {
        eras: begins(&held).into_iter().map(begin).collect(),
        head: held.last().map_or(Position::START, |epoch| name(*epoch, held.len())),
        ..LogState::default()
    };
    let found = search(
        &asker,
        name,
        |position| locate(&state, era(replica.known), position),
        |position| match position {
            Position::START => (0, 0),
            _ => (unera(position.era()), position.offset.get() as usize),
        },
    )?;
    check(&asker, &held, replica.known, found)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_question_is_answered_as_brute_force_would(events in vec(event(), 1..40)) {
        let states = grow(events);
        for asker in histories(&states) {
            for replica in &states {
                check_records(&asker, replica)?;
                for log in 0..LOGS {
                    check_log(log, &asker, replica)?;
                }
            }
        }
    }

    #[test]
    fn a_made_up_position_is_never_continued_and_never_stalls(
        events in vec(event(), 1..30),
        epoch in 0_u64..12,
        lsn in 0_u64..40,
    ) {
        for replica in grow(events) {
            let held: Vec<u64> = replica.records.iter().map(|record| record.epoch).collect();
            let starts: Vec<EpochBegin> = begins(&held)
                .into_iter()
                .map(|(epoch, at)| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(at as u64) })
                .collect();
            let name = |epoch, lsn| PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn));
            let end = held.last().map_or(PartitionPosition::ZERO, |epoch| name(*epoch, held.len() as u64));
            let asked = name(epoch, lsn);
            let is_held = lsn.checked_sub(1).and_then(|at| held.get(at as usize)) == Some(&epoch);
            match locate_record(end, &starts, Epoch::new(replica.known), asked) {
                Located::Continue => prop_assert!(is_held || asked == PartitionPosition::ZERO),
                Located::Ahead => prop_assert!(!is_held && (epoch > replica.known || lsn > end.lsn.get())),
                Located::Diverged { common } => {
                    prop_assert!(!is_held && (common.lsn < asked.lsn || common == PartitionPosition::ZERO));
                    prop_assert!(common.lsn <= end.lsn);
                }
            }
        }
    }
}

#[test]
fn the_example_of_the_module_is_true() {
    let replica = [1, 1, 1, 1, 1, 3, 3, 3];
    let starts: Vec<EpochBegin> = begins(&replica)
        .into_iter()
        .map(|(epoch, at)| EpochBegin { epoch: Epoch::new(epoch), first_lsn: Lsn::new(at as u64) })
        .collect();
    let name = |epoch, lsn| PartitionPosition::new(Epoch::new(epoch), Lsn::new(lsn));
    let ask = |epoch, lsn| locate_record(name(3, 8), &starts, Epoch::new(3), name(epoch, lsn));
    assert_eq!(ask(2, 7), Located::Diverged { common: name(1, 5) });
    assert_eq!(ask(2, 5), Located::Diverged { common: name(1, 4) });
    assert_eq!(ask(2, 4), Located::Diverged { common: name(1, 3) });
    assert_eq!(ask(1, 3), Located::Continue);
    assert_eq!(ask(3, 9), Located::Ahead);
    assert_eq!(ask(4, 1), Located::Ahead);
    assert_eq!(ask(0, 0), Located::Continue);
}
