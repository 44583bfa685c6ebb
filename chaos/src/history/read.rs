//! Histories from files and from memory, checked.

use super::{Event, Header, History, Kind, Names, VERSION};
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

/// What is read is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// A line is not what it has to be.
    #[error("line {line} of the history: {source}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("the history is of version {found}, and only {VERSION} can be read")]
    Version {
        /// What it says.
        found: u32,
    },
    /// There is not even a header.
    #[error("the history is empty")]
    Empty,
    /// An event contradicts what came before it.
    #[error("event {event} of the history: {why}")]
    Inconsistent {
        /// Counted from 1.
        event: usize,
        /// What is wrong.
        why: String,
    },
}

impl History {
    /// Reads a file that a [`super::Recorder`] wrote.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let header = lines.next().ok_or(HistoryError::Empty)??;
        let header: Header =
            serde_json::from_str(&header).map_err(|source| HistoryError::Malformed { line: 1, source })?;
        let mut events = Vec::new();
        for (at, line) in lines.enumerate() {
            let event = serde_json::from_str(&line?);
            events.push(event.map_err(|source| HistoryError::Malformed { line: at + 2, source })?);
        }
        Self::new(header, events)
    }

    /// Puts a history together.
    ///
    /// # Errors
    /// [`HistoryError::Version`] and [`HistoryError::Inconsistent`].
    pub fn new(header: Header, events: Vec<Event>) -> Result<Self, HistoryError> {
        if header.hearth_history != VERSION {
            return Err(HistoryError::Version { found: header.hearth_history });
        }
        let mut names = Names::default();
        let mut writes = Writes::default();
        let mut now_us = 0;
        for (at, event) in events.iter().enumerate() {
            let wrong = |why| HistoryError::Inconsistent { event: at + 1, why };
            if event.at_us < now_us {
                return Err(wrong(format!("{} µs comes after {now_us} µs", event.at_us)));
            }
            now_us = event.at_us;
            names.take(&event.kind).map_err(wrong)?;
            writes.take(&event.kind).map_err(wrong)?;
        }
        Ok(Self { header, events, names })
    }
}

/// Which messages were invoked so far.
#[derive(Default)]
struct Writes(Vec<bool>);

impl Writes {
    fn take(&mut self, kind: &Kind) -> Result<(), String> {
        match kind {
            Kind::Message { .. } => self.0.push(false),
            Kind::Invoke { message, .. } if std::mem::replace(&mut self.0[message.index()], true) => {
                return Err(format!("{message} is invoked twice"));
            }
            Kind::Ok { message, .. } | Kind::Fail { message, .. } | Kind::Indeterminate { message, .. }
                if !self.0[message.index()] =>
            {
                return Err(format!("{message} is answered and was not invoked"));
            }
            _ => {}
        }
        Ok(())
    }
}
