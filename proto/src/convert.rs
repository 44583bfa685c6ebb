//! Ids and positions: the small conversions that the others are made of.

use crate::{directory, log};
use types::{
    DeviceId, Epoch, Generation, Home, IdError, Incarnation, LogId, Lsn, MessageId, NodeId, Offset,
    PartitionPosition, Position, Replica, RequestId, StoreId, UserId,
};

/// What a peer sent does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field that must be there is not.
    #[error("field {field} is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field holds no valid name.
    #[error("field {field}: {source}")]
    Id {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        source: IdError,
    },
    /// A field holds a value that is not allowed there.
    #[error("field {field} is {value}: {why}")]
    Value {
        /// Its name.
        field: &'static str,
        /// What it holds.
        value: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The bytes are no message of this kind.
    #[error("undecodable: {0}")]
    Undecodable(String),
}

impl Malformed {
    pub(crate) fn value(field: &'static str, value: impl ToString, why: &'static str) -> Self {
        Self::Value { field, value: value.to_string(), why }
    }
}

/// Names the field of an id that does not parse.
pub(crate) fn id<T>(field: &'static str, parsed: Result<T, IdError>) -> Result<T, Malformed> {
    parsed.map_err(|source| Malformed::Id { field, source })
}

/// Unwraps a message field that must be there.
pub(crate) fn require<T>(field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or(Malformed::Missing { field })
}

/// A log id from its 17 bytes.
///
/// # Errors
/// [`Malformed`] names `field`.
pub fn log_id(field: &'static str, bytes: &[u8]) -> Result<LogId, Malformed> {
    id(field, LogId::try_from(bytes))
}

/// A message id from its 16 bytes.
///
/// # Errors
/// [`Malformed`] names `field`.
pub fn message_id(field: &'static str, bytes: &[u8]) -> Result<MessageId, Malformed> {
    id(field, MessageId::try_from(bytes))
}

/// A store id from its 16 bytes.
///
/// # Errors
/// [`Malformed`] names `field`.
pub fn store_id(field: &'static str, bytes: &[u8]) -> Result<StoreId, Malformed> {
    id(field, StoreId::try_from(bytes))
}

/// A request id from its 16 bytes.
///
/// # Errors
/// [`Malformed`] names `field`.
pub fn request_id(field: &'static str, bytes: &[u8]) -> Result<RequestId, Malformed> {
    id(field, RequestId::try_from(bytes))
}

pub(crate) fn user(field: &'static str, text: &str) -> Result<UserId, Malformed> {
    id(field, UserId::new(text))
}

pub(crate) const fn device(number: u64) -> DeviceId {
    DeviceId::new(number)
}

impl From<PartitionPosition> for log::PartitionPosition {
    fn from(position: PartitionPosition) -> Self {
        Self { epoch: position.epoch.get(), lsn: position.lsn.get() }
    }
}

impl From<log::PartitionPosition> for PartitionPosition {
    fn from(position: log::PartitionPosition) -> Self {
        Self::new(Epoch::new(position.epoch), Lsn::new(position.lsn))
    }
}

impl From<Position> for log::Position {
    fn from(position: Position) -> Self {
        Self {
            generation: position.generation.get(),
            epoch: position.epoch.get(),
            offset: position.offset.get(),
        }
    }
}

impl From<log::Position> for Position {
    fn from(position: log::Position) -> Self {
        Self::new(
            Generation::new(position.generation),
            Epoch::new(position.epoch),
            Offset::new(position.offset),
        )
    }
}

impl From<&Replica> for directory::Replica {
    fn from(replica: &Replica) -> Self {
        Self { node: replica.node.to_string(), store: replica.store.as_bytes().to_vec().into() }
    }
}

impl TryFrom<directory::Replica> for Replica {
    type Error = Malformed;
    fn try_from(replica: directory::Replica) -> Result<Self, Malformed> {
        Ok(Self {
            node: id("replica.node", NodeId::new(&replica.node))?,
            store: store_id("replica.store", &replica.store)?,
        })
    }
}

impl From<&Home> for directory::Home {
    fn from(home: &Home) -> Self {
        Self { node: home.node.to_string(), incarnation: home.incarnation.get() }
    }
}

impl TryFrom<directory::Home> for Home {
    type Error = Malformed;
    fn try_from(home: directory::Home) -> Result<Self, Malformed> {
        Ok(Self {
            node: id("home.node", NodeId::new(&home.node))?,
            incarnation: Incarnation::new(home.incarnation),
        })
    }
}

/// `Option`al message fields of placement rows.
pub(crate) fn home(wire: Option<directory::Home>) -> Result<Option<Home>, Malformed> {
    wire.map(Home::try_from).transpose()
}

/// Converts a repeated field, element by element.
pub(crate) fn each<A, B>(items: Vec<A>) -> Result<Vec<B>, Malformed>
where
    B: TryFrom<A, Error = Malformed>,
{
    items.into_iter().map(B::try_from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_id_names_its_field() {
        let error = log_id("append.log", &[1, 2]).expect_err("too short");
        assert_eq!(
            error.to_string(),
            "field append.log: log id \"of 2 bytes\" is not valid: it needs 17 bytes"
        );
    }
}
