//! How far the members of a chat have received and read it.

use crate::Position;
use proto::client as wire;
use types::{IdError, UserId};

/// How far a member has come, on whichever device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who; this may be the app's own user, who has read on another device.
    pub user: UserId,
    /// Received up to here; none: nothing.
    pub delivered: Option<Reached>,
    /// Read up to here; none: nothing, or the user does not show it.
    pub read: Option<Reached>,
}

/// An entry that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Where it stands. After a failover the same offset can hold another entry: then this counts for nothing.
    pub position: Position,
    /// Its offset.
    pub offset: u64,
    /// When it was reached, by the home's clock, ms since 1970.
    pub at_ms: u64,
}

/// A page of receipts, by user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptsPage {
    /// How far each has come.
    pub receipts: Vec<Receipt>,
    /// There are no more.
    pub at_end: bool,
}

impl From<wire::ReceiptMark> for Reached {
    fn from(mark: wire::ReceiptMark) -> Self {
        Self { position: mark.position.into(), offset: mark.offset, at_ms: mark.at_ms }
    }
}

impl TryFrom<wire::Receipt> for Receipt {
    type Error = IdError;
    fn try_from(receipt: wire::Receipt) -> Result<Self, IdError> {
        let (delivered, read) = (receipt.delivered.map(Into::into), receipt.read.map(Into::into));
        Ok(Self { user: UserId::new(&receipt.user)?, delivered, read })
    }
}
