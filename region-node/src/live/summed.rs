//! All receipts of a chat, and whether they are others than those that somebody was told.

use super::{
    board::{self, TOLD_MEMBERS_MAX},
    event::Receipt,
};
use log_store::fold::LogState;
use sha2::{Digest as _, Sha256};
use types::UserId;

/// A sum over receipts, in any order, of 24 bits: it misses one change in 2²⁴. 0 where nobody has received anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiptsSum(u32);

impl ReceiptsSum {
    /// What its number takes.
    pub const BYTES: usize = 3;
    /// Of no receipts.
    pub const NONE: Self = Self(0);

    /// The sum that has this number, as far as there is room for it.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & ((1 << (8 * Self::BYTES)) - 1))
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    fn of(receipts: &[Receipt]) -> Self {
        receipts.iter().fold(Self::NONE, |sum, receipt| {
            let mut hash = Sha256::new();
            hash.update(receipt.marks.delivered.offset.get().to_be_bytes());
            hash.update(receipt.marks.read.offset.get().to_be_bytes());
            hash.update(receipt.user.as_str());
            let digest = hash.finalize();
            let one = u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
            Self::new(sum.0.wrapping_add(one))
        })
    }
}

/// How far the members of a chat have come, as one of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReceipts {
    /// Over all of them.
    pub sum: ReceiptsSum,
    /// Those who have received anything, by name; empty although the sum is not 0: they were too many to be told.
    pub receipts: Vec<Receipt>,
}

impl ChatReceipts {
    /// What a copy of the chat knows. `None` where there are too many members for receipts to be told to all.
    #[must_use]
    pub fn in_copy(state: &LogState, seen_by: &UserId) -> Option<Self> {
        if state.members.len() > TOLD_MEMBERS_MAX {
            return None;
        }
        let members = state.members.keys();
        let shown = members.map(|member| board::receipt(state, None, member).shown(member == seen_by));
        let receipts: Vec<Receipt> = shown
            .filter(|receipt| !receipt.marks.delivered.offset.max(receipt.marks.read.offset).is_zero())
            .collect();
        Some(Self { sum: ReceiptsSum::of(&receipts), receipts })
    }
}
