//! Names that are unique in the world, and whose they are.
//!
//! ```text
//!           claim                     hold                     release
//!   (none) ───────▶ Claimed(alice) ─────────▶ Held(alice) ──────────────▶ Freed(alice, when)
//!                    │    │   ▲  take_over (bob)                                │
//!          release   │    └───┘                          claim (bob), once it   │
//!   (none) ◀─────────┘             Claimed(bob) ◀────────has rested─────────────┘
//! ```
//!
//! A name is claimed before its user's account is begun and held once the account says that it has the name, so a
//! crash between the two leaves a claim. The account log alone decides what became of it: whoever takes a claim over
//! has made sure, in that log, that the claimant's account can never begin. No clock is behind that.
//! A freed name rests, so that nobody who looks for its former user soon after finds another one.

use super::{Answer, Failure};
use crate::rows::Rows;
use serde::{Deserialize, Serialize};
use types::{Name, UserId};

/// A name that somebody has, or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow {
    /// Whose it is; of a freed one: was.
    pub user: UserId,
    /// How far that is.
    pub state: NameState,
}

/// How far a name is its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameState {
    /// The user's account may or may not come to have it.
    Claimed {
        /// When, in ms since 1970.
        at_ms: u64,
    },
    /// The user's account has it.
    Held,
    /// Nobody has it any more.
    Freed {
        /// Since when, in ms since 1970.
        at_ms: u64,
    },
}

/// Names for a user: all of them or none. At most [`crate::bounds::NAMES_PER_COMMAND`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameWish {
    /// Which.
    pub names: Vec<Name>,
    /// Whose.
    pub user: UserId,
}

/// A claim, and which freed names have rested long enough for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameClaim {
    /// What is claimed.
    pub wish: NameWish,
    /// Names that were freed at or before this time, in ms since 1970.
    pub freed_before_ms: u64,
}

/// A claim that goes from a user who never began to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameTakeOver {
    /// What is taken over.
    pub wish: NameWish,
    /// From whom: an account that can never begin.
    pub from: UserId,
}

/// A name is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is another user's, or rests.
    #[error("{name} is taken")]
    Taken {
        /// Which.
        name: Name,
        /// By whom, and how far.
        row: NameRow,
    },
    /// The user has never claimed it, or it has been taken over.
    #[error("{name} is not {user}'s to hold")]
    NotClaimed {
        /// Which.
        name: Name,
        /// Who wants to hold it.
        user: UserId,
    },
}

/// Claims names that nobody has. What the user has claimed or holds already stays as it is.
pub(super) fn claim(rows: &mut Rows<'_>, claim: &NameClaim) -> Result<Answer, Failure> {
    let NameClaim { wish, freed_before_ms } = claim;
    let mut free = Vec::new();
    for name in &wish.names {
        match rows.name(name)? {
            None => free.push(name),
            Some(NameRow { state: NameState::Freed { at_ms }, .. }) if at_ms <= *freed_before_ms => {
                free.push(name);
            }
            // Whoever freed it may have it back at once: nobody would find another one there.
            Some(NameRow { user, state: NameState::Freed { .. } }) if user == wish.user => free.push(name),
            Some(row @ NameRow { state: NameState::Freed { .. }, .. }) => {
                return Err(NameError::Taken { name: name.clone(), row }.into());
            }
            Some(row) if row.user != wish.user => {
                return Err(NameError::Taken { name: name.clone(), row }.into());
            }
            Some(_) => {}
        }
    }
    put_all(rows, &free, &wish.user, NameState::Claimed { at_ms: rows.at_ms() })
}

/// The user's account has these names now.
pub(super) fn hold(rows: &mut Rows<'_>, wish: &NameWish) -> Result<Answer, Failure> {
    let mut claimed = Vec::new();
    for name in &wish.names {
        match rows.name(name)? {
            Some(NameRow { user, state: NameState::Claimed { .. } }) if user == wish.user => {
                claimed.push(name)
            }
            Some(NameRow { user, state: NameState::Held }) if user == wish.user => {}
            _ => {
                return Err(NameError::NotClaimed { name: name.clone(), user: wish.user.clone() }.into());
            }
        }
    }
    put_all(rows, &claimed, &wish.user, NameState::Held)
}

/// Claims of an account that can never begin go to another user; a repetition finds them there.
pub(super) fn take_over(rows: &mut Rows<'_>, take_over: &NameTakeOver) -> Result<Answer, Failure> {
    let NameTakeOver { wish, from } = take_over;
    let mut taken = Vec::new();
    for name in &wish.names {
        match rows.name(name)? {
            Some(NameRow { user, state: NameState::Claimed { .. } }) if user == *from => taken.push(name),
            Some(NameRow { user, state: NameState::Claimed { .. } | NameState::Held })
                if user == wish.user => {}
            None => taken.push(name),
            Some(row) => return Err(NameError::Taken { name: name.clone(), row }.into()),
        }
    }
    put_all(rows, &taken, &wish.user, NameState::Claimed { at_ms: rows.at_ms() })
}

/// The user's account has these names no more, or never will. Names that are not the user's are passed over.
pub(super) fn release(rows: &mut Rows<'_>, wish: &NameWish) -> Result<Answer, Failure> {
    let mut applied = 0;
    for name in &wish.names {
        let Some(row) = rows.name(name)?.filter(|row| row.user == wish.user) else { continue };
        match row.state {
            NameState::Claimed { .. } => rows.drop_name(name)?,
            NameState::Held => {
                let state = NameState::Freed { at_ms: rows.at_ms() };
                rows.put_name(name, &NameRow { state, ..row })?;
            }
            NameState::Freed { .. } => continue,
        }
        applied += 1;
    }
    Ok(Answer::Applied(applied))
}

fn put_all(rows: &mut Rows<'_>, names: &[&Name], user: &UserId, state: NameState) -> Result<Answer, Failure> {
    for name in names {
        rows.put_name(name, &NameRow { user: user.clone(), state })?;
    }
    Ok(Answer::Applied(names.len() as u64))
}
