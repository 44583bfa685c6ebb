//! The logs of a group: as they were before it, and where they stand with what the group holds so far.

use super::view::LogKey;
use crate::fold::{LogState, Standing};
use foldhash::HashMap;
use std::sync::Arc;

/// A log that a group adds to.
#[derive(Debug)]
pub(crate) struct StagedLog {
    /// The state before the group; taken out when the group's first record of the log is published.
    pub(crate) base: Option<Arc<LogState>>,
    pub(crate) standing: Standing,
}

/// The logs of one group, each under the place that it was given when it was first asked for.
#[derive(Debug, Default)]
pub(crate) struct StagedLogs {
    places: HashMap<LogKey, usize>,
    logs: Vec<StagedLog>,
    /// The one asked for last: a record asks for its log several times.
    last: Option<(LogKey, usize)>,
}

impl StagedLogs {
    /// The place of a log. `base` tells its state before the group, where that is needed.
    pub(crate) fn place<E>(
        &mut self,
        key: &LogKey,
        base: impl FnOnce() -> Result<Arc<LogState>, E>,
    ) -> Result<usize, E> {
        if let Some((last, place)) = &self.last
            && last == key
        {
            return Ok(*place);
        }
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                let (base, place) = (base()?, self.logs.len());
                self.logs.push(StagedLog { standing: base.standing(), base: Some(base) });
                self.places.insert(*key, place);
                place
            }
        };
        self.last = Some((*key, place));
        Ok(place)
    }

    pub(crate) fn at(&mut self, place: usize) -> &mut StagedLog {
        &mut self.logs[place]
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.logs.clear();
        self.last = None;
    }
}
