//! Pages of receipts: how far the members of a chat have come, by name.

use super::{board::Board, event::Receipt};
use crate::{home::core::rules, service::ReadRefusal};
use log_store::fold::LogState;
use std::ops::Bound;
use types::{Generation, LogId, Offset, PartitionId, UserId};

/// Which receipts are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) log: LogId,
    /// Who asks.
    pub(crate) user: UserId,
    /// Only of those who have received up to here; zero: of all.
    pub(crate) offset: Offset,
    /// Only of those behind this user.
    pub(crate) after: Option<UserId>,
    pub(crate) limit: usize,
}

/// How far members have come, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) receipts: Vec<Receipt>,
    /// There are no more.
    pub(crate) at_end: bool,
    /// Up to which generation the log is known not to be written here any more; zero: to none.
    pub(crate) closed: Generation,
}

/// The page of a log whose home is here.
pub(super) fn page(
    board: &Board,
    partition: PartitionId,
    state: &LogState,
    asked: &Asked,
) -> Result<Page, ReadRefusal> {
    let Asked { log, user, offset, after, limit } = asked;
    rules::role_of(*log, state, user)?;
    let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
    let members = state.members.range((from, Bound::Unbounded)).map(|(member, _)| member);
    let mut receipts = members
        .map(|member| board.receipt((partition, *log), state, member).shown(member == user))
        .filter(|receipt| receipt.marks.delivered.offset >= *offset);
    let page: Vec<Receipt> = receipts.by_ref().take(*limit).collect();
    let at_end = receipts.next().is_none();
    Ok(Page { receipts: page, at_end, closed: state.standing().closed() })
}
