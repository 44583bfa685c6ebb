//! Up to where the devices of a chat's members have received and read it.

use crate::{DeviceId, Offset, UserId};

/// A place that was reached, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The last entry that was reached; zero: none was.
    pub offset: Offset,
    /// When, in ms since 1970, by the clock of the home that was told.
    pub at_ms: u64,
}

impl Mark {
    /// Moves forward to a mark that is further on; `false`, and nothing changes, where it is not.
    pub fn raise(&mut self, other: Self) -> bool {
        let is_raised = other.offset > self.offset;
        if is_raised {
            *self = other;
        }
        is_raised
    }

    /// This mark, or one at `offset` where that is before it.
    #[must_use]
    pub fn clamped(self, offset: Offset) -> Self {
        Self { offset: self.offset.min(offset), at_ms: self.at_ms }
    }
}

/// What somebody has received and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Received up to here; never before `read`.
    pub delivered: Mark,
    /// Read up to here.
    pub read: Mark,
    /// What was read last is not shown to others.
    pub hides_read: bool,
}

impl Marks {
    /// Moves each mark forward that is further on in `other`; whether one was.
    pub fn raise(&mut self, other: Self) -> bool {
        let is_read = self.read.raise(other.read);
        if is_read {
            self.hides_read = other.hides_read;
        }
        // What was read was received, if nobody has said so before.
        let is_delivered = self.delivered.raise(other.delivered) | self.delivered.raise(other.read);
        is_read | is_delivered
    }

    /// With no mark behind `offset`.
    #[must_use]
    pub fn clamped(self, offset: Offset) -> Self {
        let (delivered, read) = (self.delivered.clamped(offset), self.read.clamped(offset));
        Self { delivered, read, ..self }
    }

    /// As the user's own devices see them, or all others.
    #[must_use]
    pub fn shown(self, to_own: bool) -> Self {
        let is_hidden = self.hides_read && !to_own;
        Self { read: if is_hidden { Mark::default() } else { self.read }, ..self }
    }
}

/// The marks of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCursor {
    /// Whose device.
    pub user: UserId,
    /// Which; 0 stands for those that are not told apart any more.
    pub device: DeviceId,
    /// Its marks.
    pub marks: Marks,
}

impl DeviceCursor {
    /// The cursor of a device that has received and read up to an offset.
    pub fn read(user: UserId, device: DeviceId, offset: Offset, at_ms: u64) -> Self {
        let mark = Mark { offset, at_ms };
        Self { user, device, marks: Marks { delivered: mark, read: mark, hides_read: false } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: u64, at_ms: u64) -> Mark {
        Mark { offset: Offset::new(offset), at_ms }
    }

    #[test]
    fn marks_only_move_forward_and_keep_the_time_of_the_move() {
        let mut marks = Marks { delivered: mark(5, 50), read: mark(3, 30), hides_read: false };
        let before = marks;
        assert!(!marks.raise(Marks { delivered: mark(5, 99), read: mark(2, 99), hides_read: true }));
        assert_eq!(marks, before);
        assert!(marks.raise(Marks { delivered: mark(6, 60), ..Marks::default() }));
        assert_eq!((marks.delivered, marks.read), (mark(6, 60), mark(3, 30)));
    }

    #[test]
    fn what_was_read_was_delivered() {
        let mut marks = Marks::default();
        marks.raise(Marks { read: mark(4, 40), ..Marks::default() });
        assert_eq!(marks.delivered, mark(4, 40));
    }

    #[test]
    fn a_hidden_read_is_shown_to_the_own_devices_only() {
        let mut marks = Marks::default();
        marks.raise(Marks { read: mark(4, 40), hides_read: true, ..Marks::default() });
        assert_eq!((marks.shown(true).read, marks.shown(false).read), (mark(4, 40), Mark::default()));
        assert_eq!(marks.shown(false).delivered, mark(4, 40));
    }
}
