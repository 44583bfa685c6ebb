//! The words of Hearth as types: ids, positions, records, placement rows, limits, errors.
//!
//! Nothing here does I/O, reads a clock or draws a random number. Every other crate stands on this
//! one, so an item belongs here only when at least two crates must agree on it.
#![warn(missing_docs)]

pub mod account;
pub mod chat;
mod cursor;
mod effect;
mod error;
mod ids;
mod import;
pub mod limits;
mod names;
mod placement;
mod position;
mod record;
mod token;

pub use cursor::{DeviceCursor, Mark, Marks};
pub use effect::{Effect, EffectAct, EffectTarget, PendingEffect};
pub use error::{Code, Refusal};
pub use ids::{
    DeviceId, IdError, Incarnation, LogId, LogKind, MessageId, MoveId, NodeId, PartitionId, RegionId,
    RehomeId, RequestId, StoreId, UserId,
};
pub use import::{DeviceMark, EraBegin, Import};
pub use names::{Name, NameError, Phone, Username};
pub use placement::{
    EpochStart, Home, Move, MoveCause, NodeRow, PartitionRow, PartitionState, Pin, PinSegment, Placement,
    PlacementDelta, RegionRow, RegionStatus, Replica, Retirement, VerifyingKey, Waiting,
};
pub use position::{Epoch, Generation, Lsn, Offset, Overflow, PartitionPosition, Position};
pub use record::{
    AckPolicy, Body, BodyHash, Class, DedupKey, Entry, EntryBody, MemberRole, Record, StateUpdate,
};
pub use token::{PositionToken, TokenError};
