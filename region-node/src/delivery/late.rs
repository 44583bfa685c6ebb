//! Whom to tell what is no news: how far a log is replicated, to sessions that have just become level with it.
//!
//! Where a partition has found a new home, all that follow its logs become level at about the same time: thousands of
//! sessions on hundreds of logs. Told at once they would take the processors from what people write meanwhile. So such a
//! tick waits in the session's queue for whatever the session is told next, or else for the session's turn here: one
//! round every [`STEP`], and in each a part of those that wait. However many they are, half of them are told within 2 s.

use super::feed::SessionId;
use host::HashSet;
use std::{collections::VecDeque, time::Duration};

/// The time between two rounds.
pub(super) const STEP: Duration = Duration::from_millis(5);
/// The part of those that wait whose turn it is in one round.
const PART: usize = 400;
/// Sessions of a round, where so many wait.
const ROUND_MIN: usize = 4;

/// The sessions that wait, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Late {
    turns: VecDeque<SessionId>,
    waiting: HashSet<SessionId>,
}

impl Late {
    /// Something waits for a session.
    pub(super) fn push(&mut self, session: SessionId) {
        if self.waiting.insert(session) {
            self.turns.push_back(session);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Those whose turn it is.
    pub(super) fn round(&mut self) -> Vec<SessionId> {
        let count = self.turns.len().div_ceil(PART).max(ROUND_MIN).min(self.turns.len());
        let round: Vec<SessionId> = self.turns.drain(..count).collect();
        for session in &round {
            self.waiting.remove(session);
        }
        if self.turns.is_empty() {
            *self = Self::default();
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(late: &mut Late) -> Vec<Vec<SessionId>> {
        std::iter::from_fn(|| (!late.is_empty()).then(|| late.round())).collect()
    }

    #[test]
    fn each_has_one_turn_in_the_order_in_which_they_came() {
        let mut late = Late::default();
        for session in [3, 1, 3, 2, 1, 7, 5, 6] {
            late.push(SessionId(session));
        }
        let sessions = |of: &[u64]| of.iter().copied().map(SessionId).collect::<Vec<_>>();
        assert_eq!(rounds(&mut late), [sessions(&[3, 1, 2, 7]), sessions(&[5, 6])]);
        late.push(SessionId(3));
        assert_eq!(late.round(), sessions(&[3]));
        assert!(late.is_empty());
    }

    #[test]
    fn a_round_is_a_small_part_of_those_that_wait_and_grows_with_them() {
        for count in [10, 3_000, 100_000] {
            let mut late = Late::default();
            (0..count as u64).for_each(|session| late.push(SessionId(session)));
            let rounds = rounds(&mut late);
            assert!(rounds[0].len() <= ROUND_MIN.max(count / PART + 1), "{count}");
            let mut told = 0;
            let half = rounds.iter().position(|round| {
                told += round.len();
                told >= count / 2
            });
            let within = |rounds: usize| STEP * u32::try_from(rounds).expect("few");
            assert!(within(half.expect("all are told")) <= Duration::from_secs(2), "{count}");
            assert!(within(rounds.len()) <= Duration::from_secs(16), "{count}");
        }
    }
}
