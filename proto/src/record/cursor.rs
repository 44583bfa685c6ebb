//! Cursors of devices, in records and between nodes.

use super::bounded;
use crate::{
    convert::{Malformed, device, user},
    log,
};
use types::{DeviceCursor, Mark, Marks, Offset, limits};

pub(super) fn wire_cursors(cursors: &[DeviceCursor]) -> log::Cursors {
    log::Cursors { cursors: cursors.iter().map(Into::into).collect() }
}

pub(super) fn cursors(wire: &log::Cursors) -> Result<Vec<DeviceCursor>, Malformed> {
    bounded("cursors", wire.cursors.len(), limits::CURSORS_PER_UPDATE_MAX)?;
    wire.cursors.iter().map(TryInto::try_into).collect()
}

impl From<&DeviceCursor> for log::DeviceCursor {
    fn from(cursor: &DeviceCursor) -> Self {
        let Marks { delivered, read, hides_read } = cursor.marks;
        Self {
            user: cursor.user.to_string(),
            device: cursor.device.get(),
            delivered: delivered.offset.get(),
            delivered_at_ms: delivered.at_ms,
            read: read.offset.get(),
            read_at_ms: read.at_ms,
            hides_read,
        }
    }
}

impl TryFrom<&log::DeviceCursor> for DeviceCursor {
    type Error = Malformed;
    fn try_from(wire: &log::DeviceCursor) -> Result<Self, Malformed> {
        let mark = |offset, at_ms| Mark { offset: Offset::new(offset), at_ms };
        let marks = Marks {
            delivered: mark(wire.delivered, wire.delivered_at_ms),
            read: mark(wire.read, wire.read_at_ms),
            hides_read: wire.hides_read,
        };
        Ok(Self { user: user("cursor.user", &wire.user)?, device: device(wire.device), marks })
    }
}
