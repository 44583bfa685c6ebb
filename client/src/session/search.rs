//! The search for the last own position that stands, where the server's word alone does not name it.
//!
//! A server answers a position that is undone with the end of what can be shared. Mostly that is a position of our
//! own, and there is nothing to search. Where our history has epochs that the log never had, we hold another
//! entry there. Then own positions are asked, at growing distances back from there until one stands, and then
//! halfway between it and the earliest that does not; each answer can also name the place at once.
//!
//! ```text
//!   own places    o o o o o o o o o o o o o|x x x x x x x x
//!   asked               3       2   1           0: what the server named, and what is not ours
//!                       ╰ stands ──▶ 4 5 between 3 and 2
//! ```
//!
//! Invariants: `low` stands and `high` does not, both in the order of what a timeline remembers; every answer brings
//! them closer, so that a search over n places has at most 2 · log₂ n + 2 questions. A place that stands has
//! only such before it, because an entry is shared only with all that is before it.

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this place.
    Ask(usize),
    /// This is the last one that stands.
    Found(usize),
}

/// A search over places 0, 1, 2 … of which the first stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    low: usize,
    high: usize,
    /// How far back the next question goes; none once a place was found that stands.
    stride: Option<usize>,
}

impl Search {
    /// A search among the places before `high`, which does not stand.
    pub(super) const fn below(high: usize) -> Self {
        Self { low: 0, high, stride: Some(1) }
    }

    /// The place stands.
    pub(super) fn stands(&mut self, place: usize) {
        self.low = self.low.max(place);
        self.stride = None;
    }

    /// Neither the place nor any behind it stands.
    pub(super) fn undone(&mut self, place: usize) {
        self.high = self.high.min(place);
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        let between = self.high.saturating_sub(self.low + 1);
        if between == 0 {
            return Next::Found(self.low);
        }
        Next::Ask(match &mut self.stride {
            None => self.low + between.div_ceil(2),
            Some(stride) => {
                let back = (*stride).min(between);
                *stride = stride.saturating_mul(2);
                self.high - back
            }
        })
    }
}
