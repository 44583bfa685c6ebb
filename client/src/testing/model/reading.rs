//! History of the server in memory.

use super::{Model, Say};
use proto::client::{self as wire, read_history};
use types::{Code, Refusal, limits};

impl Model {
    pub(super) fn history(&mut self, session: u64, id: u64, read: wire::ReadHistory) {
        let limit = match read.limit {
            0 => limits::PAGE_DEFAULT_ENTRIES,
            limit => (limit as usize).min(limits::PAGE_MAX_ENTRIES),
        };
        let (text, after) = match &read.from {
            Some(read_history::From::After(text)) => (text.as_str(), true),
            Some(read_history::From::Before(text)) => (text.as_str(), false),
            None => ("", false),
        };
        let (log, offset) = match self.locate(&read.log, text) {
            Err(error) => return self.refuse(session, id, error.code, &error.message),
            Ok((log, Some(common), _)) => {
                let refusal = Refusal::new(Code::Diverged, "the position was undone");
                let common = Some(self.logs[&log].token(common));
                let error = wire::Error { common, ..proto::client_error(&refusal) };
                return self.say(session, id, Say::Error(error));
            }
            Ok((log, None, offset)) => (log, offset as usize),
        };
        let entries = &self.logs[&log].entries;
        let (from, to) = if after {
            (offset, (offset + limit).min(entries.len()))
        } else {
            let to = if offset == 0 { entries.len() } else { offset - 1 };
            (to.saturating_sub(limit), to)
        };
        let page = wire::HistoryPage {
            log: read.log,
            entries: entries[from..to].iter().map(|stored| stored.entry.clone()).collect(),
            at_end: if after { to == entries.len() } else { from == 0 },
        };
        self.say(session, id, Say::HistoryPage(page));
    }
}
