//! Planted bugs: each must be found by the checkers whose business it is.
//!
//! Several seeds are tried at a time, and what is told is as if one were tried after the other: of those that show a
//! bug the first one counts.

use super::{Args, child, crew};
use crate::sim::bugs::{EXPECTED, Expected};
use host::planted::Bug;
use parking_lot::Mutex;
use std::{collections::BTreeSet, io, iter, process::ExitCode};

/// What came of a bug: where it was found, or what is wrong.
type Verdict = Result<String, String>;

/// Runs all of them, or the one that was asked for.
pub(super) fn all_bugs(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = EXPECTED.iter().filter(|expected| args.bug.is_none_or(|bug| bug == expected.bug));
    let until = args.from + args.seeds;
    let hunts = wanted.map(|expected| Hunt::new(*expected, args.from, until)).collect();
    let hunts = Mutex::new(Hunts(hunts));
    let mut missed = 0;
    let tries = iter::from_fn(|| hunts.lock().next());
    crew::work(
        args.jobs(),
        tries,
        |next| carry_out(&hunts, next),
        |ended| match ended.flatten() {
            None => {}
            Some((bug, verdict)) => {
                missed += usize::from(verdict.is_err());
                println!("{:<24} {}", bug.name(), verdict.unwrap_or_else(|why| why));
            }
        },
    )?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A seed that is tried for a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Try {
    /// Which hunt.
    hunt: usize,
    /// The how manieth seed of it.
    place: usize,
    seed: u64,
}

/// Tries a seed; the verdict of its hunt, if that is over with it.
fn carry_out(hunts: &Mutex<Hunts>, next: Try) -> io::Result<Option<(Bug, Verdict)>> {
    let expected = hunts.lock().0[next.hunt].expected;
    let ended = child::run(next.seed, Some(expected.bug))?;
    let shown = match expected.found(&ended.said) {
        None => None,
        Some(line) if child::run(next.seed, None)?.is_clean => Some(Ok(line.to_owned())),
        Some(_) => Some(Err(())),
    };
    let verdict = hunts.lock().0[next.hunt].ended(next.place, shown);
    Ok(verdict.map(|verdict| (expected.bug, verdict)))
}

/// All that are on.
#[derive(Debug)]
struct Hunts(Vec<Hunt>);

impl Hunts {
    /// What to try next: the known seed of each bug, and then seeds of those that were not shown, in turn.
    fn next(&mut self) -> Option<Try> {
        let open = self.0.iter_mut().enumerate().filter(|(_, hunt)| hunt.is_on());
        let (at, hunt) = open.min_by_key(|(_, hunt)| hunt.begun)?;
        let place = hunt.begun;
        hunt.begun += 1;
        hunt.under_way.insert(place);
        Some(Try { hunt: at, place, seed: hunt.seeds[place] })
    }
}

/// The hunt for one bug.
#[derive(Debug)]
struct Hunt {
    expected: Expected,
    /// The known one, and then those whose faults are aimed at the rule.
    seeds: Vec<u64>,
    /// How many of them were begun.
    begun: usize,
    /// Those that have not ended, by their places.
    under_way: BTreeSet<usize>,
    /// The first place that has shown it, with what its checker said; an error where the seed fails without the bug.
    shown: Option<(usize, Result<String, ()>)>,
}

impl Hunt {
    fn new(expected: Expected, from: u64, until: u64) -> Self {
        let others = expected.seeds(from).take_while(|seed| *seed < until);
        let others = others.filter(|seed| *seed != expected.known);
        let seeds = iter::once(expected.known).chain(others).collect();
        Self { expected, seeds, begun: 0, under_way: BTreeSet::new(), shown: None }
    }

    /// Whether there is a seed to be tried.
    fn is_on(&self) -> bool {
        self.shown.is_none() && self.begun < self.seeds.len()
    }

    /// A try has ended; the verdict, if nothing that is under way can change it any more.
    fn ended(&mut self, place: usize, shown: Option<Result<String, ()>>) -> Option<Verdict> {
        let was_over = self.is_over();
        self.under_way.remove(&place);
        if let Some(shown) = shown
            && self.shown.as_ref().is_none_or(|(first, _)| place < *first)
        {
            self.shown = Some((place, shown));
        }
        (!was_over && self.is_over()).then(|| self.verdict())
    }

    fn is_over(&self) -> bool {
        match &self.shown {
            Some((first, _)) => self.under_way.first().is_none_or(|earliest| earliest > first),
            None => self.begun == self.seeds.len() && self.under_way.is_empty(),
        }
    }

    fn verdict(&self) -> Verdict {
        let (known, bug) = (self.expected.known, self.expected.bug);
        let Some((place, shown)) = &self.shown else {
            let (tried, replay) = (self.seeds.len(), child::replay(known, Some(bug)));
            return Err(format!("NOT FOUND in {tried} seeds; the known one: {replay}"));
        };
        let seed = self.seeds[*place];
        let Ok(line) = shown else {
            return Err(format!("seed {seed} FAILS WITHOUT IT: {}", child::replay(seed, None)));
        };
        let moved = if seed == known { "" } else { ", which is not the known one" };
        Ok(format!("seed {seed:<4} {line}{moved}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunts(count: usize) -> Hunts {
        Hunts(EXPECTED[..count].iter().map(|expected| Hunt::new(*expected, 0, 400)).collect())
    }

    fn tries(hunts: &mut Hunts, count: usize) -> Vec<Try> {
        iter::from_fn(|| hunts.next()).take(count).collect()
    }

    #[test]
    fn known_seeds_come_first_and_then_seeds_of_what_was_not_shown() {
        let mut hunts = hunts(3);
        let known = tries(&mut hunts, 3);
        assert!(known.iter().map(|next| next.seed).eq(EXPECTED[..3].iter().map(|it| it.known)));
        assert!(hunts.0[1].ended(0, Some(Ok("C2: lost".to_owned()))).is_some_and(|verdict| verdict.is_ok()));
        assert_eq!(tries(&mut hunts, 4).iter().map(|next| next.hunt).collect::<Vec<_>>(), [0, 2, 0, 2]);
    }

    #[test]
    fn the_first_seed_that_shows_a_bug_counts_whichever_ends_first() {
        let mut hunts = hunts(1);
        let tried = tries(&mut hunts, 4);
        let hunt = &mut hunts.0[0];
        let line = |seed: u64| Some(Ok(format!("C7: by seed {seed}")));
        assert_eq!(hunt.ended(3, line(tried[3].seed)), None, "earlier ones are under way");
        assert_eq!(hunt.ended(1, line(tried[1].seed)), None);
        assert!(!hunt.is_on(), "no later one matters any more");
        let verdict = hunt.ended(0, None).expect("nothing earlier is under way");
        assert!(verdict.is_ok_and(|said| said.contains(&format!("by seed {}", tried[1].seed))));
        assert_eq!(hunt.ended(2, line(tried[2].seed)), None, "it is told once");
    }

    #[test]
    fn a_bug_that_no_seed_shows_is_missed_once_all_have_ended() {
        let mut hunts = hunts(1);
        let tried = tries(&mut hunts, usize::MAX);
        let mut verdicts = tried.iter().map(|next| hunts.0[0].ended(next.place, None));
        assert!(verdicts.by_ref().take(tried.len() - 1).all(|verdict| verdict.is_none()));
        assert!(verdicts.next().flatten().expect("the last one").is_err());
    }

    #[test]
    fn a_seed_that_fails_by_itself_shows_nothing() {
        let mut hunts = hunts(1);
        tries(&mut hunts, 2);
        assert_eq!(hunts.0[0].ended(1, Some(Ok("C2: lost".to_owned()))), None);
        let verdict = hunts.0[0].ended(0, Some(Err(()))).expect("it is the first");
        assert!(verdict.is_err_and(|why| why.contains("FAILS WITHOUT IT")));
    }
}
