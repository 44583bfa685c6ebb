//! A position as `[generation, epoch, offset]`.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
use types::{Epoch, Generation, Offset, Position};

pub(super) fn serialize<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    (position.generation, position.epoch, position.offset).serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
    let (generation, epoch, offset) = <(Generation, Epoch, Offset)>::deserialize(deserializer)?;
    Ok(Position { generation, epoch, offset })
}
