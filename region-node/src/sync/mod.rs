//! What a client is told that has no session: where it stands, and what comes next. Pure.
//!
//! ```text
//!   token ─▶ Stand ─┬─ Catching: the chats and their heads, then pages ─▶ events ─┐
//!                   └─ hear: frames of the feeds, while it waits ───────▶ events ─┴─▶ Stand ─▶ token
//! ```
//!
//! # What the token holds
//!
//! The server keeps nothing of such a client: where it stands is in the token, which any node of any region reads.
//! Of at most [`NEAR_MAX`] chats, the *near* ones, it holds the position of the last entry that was told, and up to
//! where the client knows it to be `replicated`. Of all others, the *far* ones, clients are told heads only, and read
//! what they lack as history; of these it holds, for all chats whose ids end in the same byte, one sum over their heads.
//!
//! * **A position per chat, not per partition.** A store has no index from an LSN to the logs of one user, an LSN says
//!   nothing any more once a chat is re-homed, and a partition's position cannot tell a chat that has just been joined
//!   from one that was told long ago. A position says the same everywhere, and [`log_store::locate`] judges it.
//! * **Size.** A near chat takes 27 bytes or less while offsets stay below 2 million; one ending of far ones takes 6.
//!   100 chats: 3.7 KB as text. 4,096 chats: 7.9 KB, however many partitions they lie in (with positions per chat alone
//!   it were 130 KB).
//! * **Receipts** are no entries. Of each near chat the token holds a sum over those that were told; where a copy's add up to
//!   something else, all of the chat are told. Who waits hears of each as it comes, and once more the next time.
//! * **A failover** undoes what was not `replicated`. What the client holds behind its last `replicated` position may be
//!   of eras that the log never had, so it is told `diverged` from there: everything up to there stands for good.
//!   A position that a log has never given out is not in any token that was made by it, or the log was lost; its client is
//!   told `diverged` from the beginning.
//! * **Re-homing** of a chat changes the generation of positions to come, of an account nothing: neither is in the token
//!   but as positions.
//!
//! # Invariants
//!
//! * Of a near chat, entries are told in order without a gap, each once, but for those behind a `diverged`.
//! * Whatever the head of a far chat becomes, its client is told of it: sums of 48 bits miss one change in 2⁴⁸.
//! * A token and the events that led to it are given out together or not at all.

mod catching;
mod event;
mod stand;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use catching::{Catching, Caught, Chats, Found, Head, Reading, Room};
pub(crate) use event::Event;
pub(crate) use stand::{Heard, Stand};

/// The most chats that are told entry by entry.
pub(crate) const NEAR_MAX: usize = 160;
/// Chats that are near at first where there are more than that: some room is left for those in which something happens.
const NEAR_FIRST: usize = 112;
