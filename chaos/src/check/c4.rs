//! C4: no reader skips or goes back except after `diverged`, and none keeps what was undone unknowingly.
//!
//! Three rules:
//!
//! 1. What a session sees of a log follows, offset by offset, what it saw last; after `diverged(common)` it
//!    goes on behind `common`. Eras never go down along a log.
//! 2. **One predecessor.** What stands before an entry never changes: a log only grows and is only ever cut at
//!    its end. So all who saw an entry, and all copies that hold it, have the same entry before it. A session
//!    that resumes behind an undone entry as if nothing had happened breaks this.
//! 3. The last entry that a session saw, where it lives to the end, is in the final state: it was told of
//!    everything that was undone.

use super::{Checker, Found, Violation, finals::Finals};
use crate::history::{History, Kind, Log, Session, Told};
use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};
use types::{Epoch, Generation, Position};

type Era = (Generation, Epoch);

/// What a session holds of a log: the offsets from which each era goes, up to `last`. What lies before the
/// position that it started from it does not hold.
struct Timeline {
    runs: Vec<(u64, Era)>,
    last: u64,
    event: usize,
}

impl Timeline {
    fn new(from: Position, event: usize) -> Self {
        Self { runs: vec![(from.offset.get(), from.era())], last: from.offset.get(), event }
    }

    /// That of the last entry, where the session holds it.
    fn era(&self) -> Option<Era> {
        match self.runs.last() {
            Some((_, era)) => Some(*era),
            None if self.last == 0 => Some(Position::START.era()),
            None => None,
        }
    }

    fn cut(&mut self, common: u64) {
        self.last = self.last.min(common);
        while self.runs.last().is_some_and(|(from, _)| *from > self.last) {
            self.runs.pop();
        }
    }

    fn push(&mut self, at: Position, event: usize) {
        if self.era() != Some(at.era()) {
            self.runs.push((at.offset.get(), at.era()));
        }
        self.last = at.offset.get();
        self.event = event;
    }
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::new(Checker::C4);
    let mut before = Predecessors::default();
    let mut timelines: HashMap<(Session, Log), Timeline> = HashMap::new();
    let mut ended = BTreeSet::new();
    for (event, happened) in history.events().iter().enumerate() {
        match &happened.kind {
            Kind::Follow { session, log, from } => {
                timelines.insert((*session, *log), Timeline::new(*from, event));
            }
            Kind::Told { session, log, told: Told::Diverged { common } } => {
                if let Some(timeline) = timelines.get_mut(&(*session, *log)) {
                    timeline.cut(*common);
                }
            }
            Kind::Ended { session } => drop(ended.insert(*session)),
            Kind::Seen { session, log, at, .. } => {
                let Entry::Occupied(mut timeline) = timelines.entry((*session, *log)) else {
                    found
                        .add([event], || format!("{session} is given {at} of {log}, and does not follow it"));
                    continue;
                };
                let timeline = timeline.get_mut();
                see(timeline, *session, *log, *at, event, &mut before, &mut found);
            }
            _ => {}
        }
    }
    let finals = Finals::of(history);
    for ((log, node), copy) in &finals.copies {
        let mut last = Position::START;
        for held in copy {
            before.learn(*log, held.at, last.era(), held.event, &mut found, || node.to_string());
            last = held.at;
        }
    }
    timelines.retain(|(session, _), _| !ended.contains(session));
    keep_nothing_undone(&timelines, &finals, &mut found);
    found.done()
}

fn see(
    timeline: &mut Timeline,
    session: Session,
    log: Log,
    at: Position,
    event: usize,
    before: &mut Predecessors,
    found: &mut Found,
) {
    let (last, era) = (timeline.last, timeline.era());
    if at.offset.get() != last + 1 {
        let how = if at.offset.get() > last { "skips" } else { "goes back" };
        found.add([timeline.event, event], || format!("{session} {how} from offset {last} to {at} of {log}"));
    } else if let Some(era) = era {
        if at.era() < era {
            found.add([timeline.event, event], || {
                format!("{session} is given {at} of {log} behind an entry of epoch {}.{}", era.0, era.1)
            });
        }
        before.learn(log, at, era, event, found, || session.to_string());
    }
    timeline.push(at, event);
}

fn keep_nothing_undone(timelines: &HashMap<(Session, Log), Timeline>, finals: &Finals, found: &mut Found) {
    let mut by_log: HashMap<Log, Vec<(Session, &Timeline)>> = HashMap::new();
    for ((session, log), timeline) in timelines {
        by_log.entry(*log).or_default().push((*session, timeline));
    }
    let mut logs: Vec<_> = by_log.into_iter().collect();
    logs.sort_by_key(|(log, _)| *log);
    for (log, mut sessions) in logs {
        let Some((node, copy)) = finals.of_log(log).next() else { continue };
        let stand: HashSet<(u64, Era)> =
            copy.iter().map(|held| (held.at.offset.get(), held.at.era())).collect();
        sessions.sort_by_key(|(session, _)| *session);
        for (session, timeline) in sessions {
            let Some(era) = timeline.era() else { continue };
            let last = timeline.last;
            if last > 0 && !stand.contains(&(last, era)) {
                found.add([timeline.event], || {
                    format!(
                        "{session} ends at {last}@{}.{} of {log}, which {node} does not hold",
                        era.0, era.1
                    )
                });
            }
        }
    }
}

/// The era of the entry before each entry.
#[derive(Default)]
struct Predecessors(HashMap<(Log, Position), (Era, usize)>);

impl Predecessors {
    fn learn(
        &mut self,
        log: Log,
        at: Position,
        before: Era,
        event: usize,
        found: &mut Found,
        who: impl FnOnce() -> String,
    ) {
        let (known, first) = *self.0.entry((log, at)).or_insert((before, event));
        if known != before {
            found.add([first, event], || {
                format!(
                    "{} has {at} of {log} behind an entry of {}.{}, where others have one of {}.{}",
                    who(),
                    before.0,
                    before.1,
                    known.0,
                    known.1
                )
            });
        }
    }
}
