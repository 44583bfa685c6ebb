//! What a session knows of one log's order.
//!
//! ```text
//!   checkpoints (thinned)      base   window (every entry)            end
//!   .....o......o...o..o.......o|eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee|
//!                                       ^ replicated
//! ```
//!
//! Invariants: the window is dense; entries leave it from the front only, replicated ones first; an
//! offset is handed out as new once per divergence; tokens are compared, never read.

use crate::{
    Position,
    entry::{Entry, EntryKey},
};
use std::collections::{HashSet, VecDeque};

/// Replicated entries that stay in the window, so that a late or repeated frame is still recognised.
const TAIL_ENTRIES: usize = 1_024;
const CHECKPOINTS_MAX: usize = 64;
const CHECKPOINT_EVERY: u64 = 256;

/// What an arriving entry is to the app.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next entry, never seen.
    New,
    /// The next entry; it was seen at a place that was undone.
    Moved,
    /// Already handed out, at this place.
    Known,
    /// Entries are missing before it.
    Gap,
    /// Another entry stands at its offset here: the order diverged and nobody has said so yet.
    Conflict,
}

/// What becomes of a server's `diverged`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// The common position is ours too: everything behind it is undone.
    Common(Cut),
    /// It is not: neither this own place nor any behind it is in the log; see [`Timeline::place`].
    Undone { place: usize },
}

/// What a cut took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) undone: Vec<EntryKey>,
    pub(crate) forgotten: bool,
}

/// What a `replicated` position says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Replicated up to here, checked against the own order.
    To(u64),
    /// Nothing that can be used now.
    Nothing,
    /// The own order holds something else there.
    Conflict,
}

#[derive(Debug)]
struct Seen {
    position: Position,
    key: EntryKey,
}

#[derive(Debug)]
pub(crate) struct Timeline {
    window_max: usize,
    checkpoints: Vec<(u64, Position)>,
    base: (u64, Position),
    window: VecDeque<Seen>,
    undone: HashSet<EntryKey>,
    undone_order: VecDeque<EntryKey>,
    replicated: u64,
    replicated_ahead: Option<(u64, Position)>,
}

impl Timeline {
    pub(crate) fn new(offset: u64, position: Position, window_max: usize) -> Self {
        Self {
            window_max,
            checkpoints: Vec::new(),
            base: (offset, position),
            window: VecDeque::new(),
            undone: HashSet::new(),
            undone_order: VecDeque::new(),
            replicated: 0,
            replicated_ahead: None,
        }
    }

    /// A timeline as [`Timeline::checkpoints`] gave it, ascending by offset; the last one is the end.
    pub(crate) fn restore(
        mut checkpoints: Vec<(u64, Position)>,
        undone: Vec<EntryKey>,
        window_max: usize,
    ) -> Self {
        let (offset, position) = checkpoints.pop().unwrap_or((0, Position::start()));
        checkpoints.retain(|(at, _)| *at > 0);
        let mut timeline = Self { checkpoints, ..Self::new(offset, position, window_max) };
        timeline.remember_undone(undone);
        timeline
    }

    /// What was undone and has not returned.
    pub(crate) fn undone(&self) -> Vec<EntryKey> {
        let mut order: Vec<_> = self.undone_order.iter().filter(|key| self.undone.contains(key)).collect();
        order.dedup();
        order.into_iter().cloned().collect()
    }

    /// Positions at growing distances back from the end, ascending: enough to find a common position later.
    pub(crate) fn checkpoints(&self) -> Vec<(u64, Position)> {
        let mut points = self.checkpoints.clone();
        points.push(self.base.clone());
        let end = self.end();
        let mut distance = self.window.len().next_power_of_two() as u64;
        while distance > 0 {
            let offset = end.saturating_sub(distance);
            if let Some(position) = self.at(offset).filter(|_| offset > self.base.0) {
                points.push((offset, position.clone()));
            }
            distance /= 2;
        }
        if end > self.base.0 {
            points.push((end, self.end_position().clone()));
        }
        points
    }

    pub(crate) fn end(&self) -> u64 {
        self.base.0 + self.window.len() as u64
    }

    pub(crate) fn end_position(&self) -> &Position {
        self.window.back().map_or(&self.base.1, |seen| &seen.position)
    }

    pub(crate) const fn replicated(&self) -> u64 {
        self.replicated
    }

    /// The own position at an offset, where it is remembered.
    pub(crate) fn at(&self, offset: u64) -> Option<&Position> {
        if offset > self.base.0 {
            return self.window.get((offset - self.base.0 - 1) as usize).map(|seen| &seen.position);
        }
        if offset == self.base.0 {
            return Some(&self.base.1);
        }
        self.checkpoints.iter().find(|(at, _)| *at == offset).map(|(_, position)| position)
    }

    /// Takes an entry in, where it is the next one.
    pub(crate) fn take(&mut self, entry: &Entry) -> Step {
        let end = self.end();
        if entry.offset <= end {
            return match self.at(entry.offset) {
                Some(own) if *own != entry.position => Step::Conflict,
                _ => Step::Known,
            };
        }
        if entry.offset > end + 1 {
            return Step::Gap;
        }
        let key = entry.key();
        let step = if self.undone.remove(&key) { Step::Moved } else { Step::New };
        self.window.push_back(Seen { position: entry.position.clone(), key });
        self.trim();
        step
    }

    /// Weighs the server's common position against the own order.
    pub(crate) fn diverge(&mut self, common: &Position, offset: u64) -> Agreement {
        if offset == 0 {
            return Agreement::Common(self.cut(0, &Position::start()));
        }
        match self.at(offset) {
            Some(own) if own == common => Agreement::Common(self.cut(offset, common)),
            _ => Agreement::Undone { place: self.place_at(offset) },
        }
    }

    /// What is remembered at a place; place 0 is before the first entry, and the last one is the end. No two places
    /// have one offset.
    pub(crate) fn place(&self, place: usize) -> (u64, Position) {
        let Some(at) = place.checked_sub(1) else { return (0, Position::start()) };
        if let Some(checkpoint) = self.checkpoints.get(at) {
            return checkpoint.clone();
        }
        match place.checked_sub(self.places_before_window()).and_then(|at| Some((at, self.window.get(at)?))) {
            Some((at, seen)) => (self.base.0 + 1 + at as u64, seen.position.clone()),
            None => self.base.clone(),
        }
    }

    /// The first place at this offset or behind it.
    pub(crate) fn place_at(&self, offset: u64) -> usize {
        match offset {
            0 => 0,
            _ if offset > self.base.0 => self.places_before_window() + (offset - self.base.0 - 1) as usize,
            _ => 1 + self.checkpoints.partition_point(|(at, _)| *at < offset),
        }
    }

    fn places_before_window(&self) -> usize {
        1 + self.checkpoints.len() + usize::from(self.base.0 > 0)
    }

    /// The own position is confirmed up to `offset` and no further.
    pub(crate) fn cut_to(&mut self, offset: u64) -> Cut {
        let (offset, position) = self.known_before(offset + 1);
        self.cut(offset, &position)
    }

    fn known_before(&self, offset: u64) -> (u64, Position) {
        if offset > self.end() {
            return (self.end(), self.end_position().clone());
        }
        if offset > self.base.0 + 1
            && let Some(seen) = self.window.get((offset - self.base.0 - 2) as usize)
        {
            return (offset - 1, seen.position.clone());
        }
        if offset > self.base.0 {
            return self.base.clone();
        }
        let below = self.checkpoints.iter().rev().find(|(at, _)| *at < offset);
        below.cloned().unwrap_or((0, Position::start()))
    }

    fn cut(&mut self, offset: u64, position: &Position) -> Cut {
        let mut cut = Cut { undone: Vec::new(), forgotten: offset < self.base.0 };
        let keep = offset.saturating_sub(self.base.0) as usize;
        if keep < self.window.len() {
            cut.undone = self.window.drain(keep..).map(|seen| seen.key).collect();
        }
        if cut.forgotten {
            self.checkpoints.retain(|(at, _)| *at < offset);
            self.base = (offset, position.clone());
        }
        self.remember_undone(cut.undone.iter().cloned());
        self.replicated = self.replicated.min(offset);
        self.replicated_ahead = None;
        cut
    }

    fn remember_undone(&mut self, keys: impl IntoIterator<Item = EntryKey>) {
        for key in keys {
            if self.undone.insert(key.clone()) {
                self.undone_order.push_back(key);
            }
        }
        while self.undone_order.len() > self.window_max {
            if let Some(key) = self.undone_order.pop_front() {
                self.undone.remove(&key);
            }
        }
    }

    /// Takes in up to where the log is replicated.
    pub(crate) fn replicate(&mut self, position: Position, offset: u64) -> Advance {
        if offset <= self.replicated {
            return Advance::Nothing;
        }
        if offset > self.end() {
            if self.replicated_ahead.as_ref().is_none_or(|(ahead, _)| *ahead < offset) {
                self.replicated_ahead = Some((offset, position));
            }
            return Advance::Nothing;
        }
        match self.at(offset) {
            Some(own) if *own == position => {
                self.replicated = offset;
                self.trim();
                Advance::To(offset)
            }
            Some(_) => Advance::Conflict,
            None => Advance::Nothing,
        }
    }

    /// What an earlier [`Timeline::replicate`] says now that more entries are here.
    pub(crate) fn replicate_ahead(&mut self) -> Advance {
        match self.replicated_ahead.take_if(|(offset, _)| *offset <= self.base.0 + self.window.len() as u64) {
            Some((offset, position)) => self.replicate(position, offset),
            None => Advance::Nothing,
        }
    }

    fn trim(&mut self) {
        while self.window.len() > TAIL_ENTRIES.min(self.window_max)
            && (self.base.0 < self.replicated || self.window.len() > self.window_max)
        {
            let Some(seen) = self.window.pop_front() else { return };
            let offset = self.base.0 + 1;
            let below = std::mem::replace(&mut self.base, (offset, seen.position));
            if below.0 > 0 && below.0.is_multiple_of(CHECKPOINT_EVERY) {
                self.checkpoints.push(below);
            }
        }
        if self.checkpoints.len() > CHECKPOINTS_MAX {
            // Thinning the older half again and again spaces the rest at growing distances.
            let mut index = 0;
            self.checkpoints.retain(|_| {
                index += 1;
                index > CHECKPOINTS_MAX / 2 || index % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryBody;
    use types::{DeviceId, MessageId, UserId};

    fn entry(offset: u64, era: &str, id: u8) -> Entry {
        Entry {
            position: format!("{era}.{offset}").into(),
            offset,
            sender: UserId::new("alice").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([id; 16]),
            accepted_at_ms: 0,
            expires_at_ms: None,
            salvaged: false,
            kind: types::chat::MessageKind::Text,
            refers_to: None,
            body: EntryBody::Erased,
        }
    }

    fn filled(count: u64) -> Timeline {
        let mut timeline = Timeline::new(0, Position::start(), 4_096);
        for offset in 1..=count {
            assert_eq!(timeline.take(&entry(offset, "a", offset as u8)), Step::New);
        }
        timeline
    }

    #[test]
    fn an_entry_is_new_once() {
        let mut timeline = filled(3);
        assert_eq!(timeline.take(&entry(2, "a", 2)), Step::Known);
        assert_eq!(timeline.take(&entry(2, "b", 9)), Step::Conflict);
        assert_eq!(timeline.take(&entry(5, "a", 5)), Step::Gap);
    }

    #[test]
    fn an_undone_entry_that_returns_is_moved() {
        let mut timeline = filled(5);
        let Agreement::Common(cut) = timeline.diverge(&"a.3".into(), 3) else { panic!("3 is common") };
        assert_eq!(cut.undone.len(), 2);
        assert_eq!(timeline.take(&entry(4, "b", 5)), Step::Moved);
        assert_eq!(timeline.take(&entry(5, "b", 7)), Step::New);
        assert_eq!(timeline.take(&entry(6, "b", 4)), Step::Moved);
    }

    #[test]
    fn a_common_position_of_another_era_cuts_nothing() {
        let mut timeline = filled(5);
        let Agreement::Undone { place } = timeline.diverge(&"b.4".into(), 4) else {
            panic!("4 is not common")
        };
        assert_eq!(timeline.place(place), (4, "a.4".into()));
        assert_eq!(timeline.place(place - 1), (3, "a.3".into()));
        assert_eq!(timeline.end(), 5, "nothing is cut before the two agree");
        assert_eq!(timeline.cut_to(4).undone.len(), 1);
    }

    #[test]
    fn replicated_counts_only_where_the_own_order_agrees() {
        let mut timeline = filled(3);
        assert_eq!(timeline.replicate("b.2".into(), 2), Advance::Conflict);
        assert_eq!(timeline.replicate("a.4".into(), 4), Advance::Nothing);
        assert_eq!(timeline.replicate_ahead(), Advance::Nothing);
        assert_eq!(timeline.replicate("a.2".into(), 2), Advance::To(2));
        timeline.take(&entry(4, "a", 4));
        assert_eq!(timeline.replicate_ahead(), Advance::To(4));
    }

    #[test]
    fn a_long_log_is_remembered_in_little_memory() {
        let mut timeline = Timeline::new(0, Position::start(), 4_096);
        for offset in 1..=200_000 {
            timeline.take(&entry(offset, "a", offset as u8));
            timeline.replicate(format!("a.{offset}").into(), offset);
        }
        assert_eq!(timeline.window.len(), TAIL_ENTRIES);
        assert!(timeline.checkpoints.len() <= CHECKPOINTS_MAX);
        let Agreement::Undone { place } = timeline.diverge(&"a.9000".into(), 9_000) else {
            panic!("9000 is not remembered exactly")
        };
        assert!(timeline.place(place).0 > 9_000);
        let (offset, _) = timeline.place(place - 1);
        assert!(offset < 9_000);
        let cut = timeline.cut_to(offset);
        assert!(cut.forgotten);
        assert_eq!(timeline.end(), offset);
    }

    #[test]
    fn places_are_what_is_remembered_in_order() {
        let mut long = Timeline::new(0, Position::start(), 4_096);
        for offset in 1..=9_000 {
            long.take(&entry(offset, "a", 1));
            long.replicate(format!("a.{offset}").into(), offset);
        }
        let again = Timeline::restore(long.checkpoints(), Vec::new(), 4_096);
        let begun = Timeline::restore(filled(9).checkpoints(), Vec::new(), 4_096);
        let from_within = Timeline::new(7, "a.7".into(), 4_096);
        for (timeline, last) in [(long, 9_000), (again, 9_000), (filled(9), 9), (begun, 9), (from_within, 7)]
        {
            let end = timeline.place_at(last);
            let offsets: Vec<u64> = (0..=end).map(|place| timeline.place(place).0).collect();
            assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
            assert_eq!((offsets[0], offsets[end]), (0, last));
            for (place, offset) in offsets.iter().enumerate() {
                assert_eq!(timeline.place_at(*offset), place, "of offset {offset}");
                assert_eq!(timeline.place_at(offset + 1), place + 1, "behind offset {offset}");
            }
        }
    }

    #[test]
    fn checkpoints_restore_the_end() {
        let timeline = filled(100);
        let restored = Timeline::restore(timeline.checkpoints(), Vec::new(), 4_096);
        assert_eq!((restored.end(), restored.end_position()), (100, &"a.100".into()));
        assert_eq!(restored.at(99), Some(&"a.99".into()));
        assert!(restored.at(68).is_some());
    }
}
