//! The newest message ids of the devices that write to a log, so that a new message is known to be new
//! without a look at the log.
//!
//! A device names its messages in ascending order as a rule (the SDK draws UUIDs of version 7), so a message
//! that is new has an id above all that its device has written. The table remembers for each device how high
//! that is, and for the devices that it had to forget how high all of theirs were.
//!
//! # Invariants
//!
//! - It is folded from the log's entries alone, so home, follower and a truncated copy have the same one.
//! - It never guesses: an id is called new only if no entry can have it, whatever ids were chosen, and latest
//!   only if an entry has it. Of every other id it says nothing, and the log has to be asked.
//! - At most [`DEVICES_MAX`] devices are in it; the one whose last entry is the oldest leaves first.

use types::{DeviceId, DeviceMark, Entry, MessageId, UserId};

/// How many devices of a log are remembered.
pub const DEVICES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// Ascending by device and sender.
    pub(crate) known: Vec<DeviceMark>,
    /// No entry of a device that is not known has a higher id.
    pub(crate) floor: MessageId,
}

impl Default for Devices {
    fn default() -> Self {
        Self { known: Vec::new(), floor: MessageId::from_bytes([0; 16]) }
    }
}

impl Devices {
    /// A table as another partition had it.
    pub(crate) fn new(mut known: Vec<DeviceMark>, floor: MessageId) -> Self {
        known.sort_by(|a, b| (a.device, &a.sender).cmp(&(b.device, &b.sender)));
        let mut devices = Self { known, floor };
        devices.forget_surplus();
        devices
    }

    /// Whether the log is proven to hold no entry under this message id.
    pub fn is_new(&self, sender: &UserId, device: DeviceId, id: MessageId) -> bool {
        match self.place(sender, device) {
            Ok(at) => id > self.known[at].highest,
            Err(_) => id > self.floor,
        }
    }

    /// Whether the log is proven to hold this message as the device's last entry.
    pub fn is_latest(&self, sender: &UserId, device: DeviceId, id: MessageId) -> bool {
        self.place(sender, device).is_ok_and(|at| id == self.known[at].latest)
    }

    /// Takes the log's next entry in.
    pub(crate) fn note(&mut self, entry: &Entry) {
        let (latest, offset) = (entry.message_id, entry.offset);
        match self.place(&entry.sender, entry.device) {
            Ok(at) => {
                let device = &mut self.known[at];
                device.highest = device.highest.max(latest);
                (device.latest, device.offset) = (latest, offset);
            }
            Err(at) => {
                // It may have been known before, and then its entries are at or below the floor.
                let highest = latest.max(self.floor);
                let (sender, device) = (entry.sender.clone(), entry.device);
                self.known.insert(at, DeviceMark { sender, device, latest, highest, offset });
                self.forget_surplus();
            }
        }
    }

    fn place(&self, sender: &UserId, device: DeviceId) -> Result<usize, usize> {
        self.known.binary_search_by(|known| (known.device, &known.sender).cmp(&(device, sender)))
    }

    fn forget_surplus(&mut self) {
        while self.known.len() > DEVICES_MAX {
            let oldest = (0..self.known.len()).min_by_key(|at| self.known[*at].offset).unwrap_or_default();
            self.floor = self.floor.max(self.known.remove(oldest).highest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::collections::{HashMap, HashSet};
    use types::{EntryBody, Offset};

    fn entry(offset: u64, device: u64, id: u128) -> Entry {
        Entry {
            offset: Offset::new(offset),
            sender: sender(device),
            device: DeviceId::new(device),
            message_id: message_id(id),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Message { ciphertext: Bytes::new() },
        }
    }

    /// Some devices share their number, some their user.
    fn sender(device: u64) -> UserId {
        UserId::new(&format!("user{}", device % 7)).expect("a valid name")
    }

    fn message_id(id: u128) -> MessageId {
        MessageId::from_bytes(id.to_be_bytes())
    }

    #[test]
    fn a_device_that_was_forgotten_and_came_back_is_not_taken_for_a_new_one() {
        let mut devices = Devices::default();
        devices.note(&entry(1, 0, 1_000));
        for other in 1..=DEVICES_MAX as u64 {
            devices.note(&entry(1 + other, other, 10));
        }
        devices.note(&entry(100, 0, 7));
        assert_eq!(devices.known.len(), DEVICES_MAX);
        let is_new = |id| devices.is_new(&sender(0), DeviceId::new(0), message_id(id));
        assert!(!is_new(1_000) && !is_new(8) && is_new(1_001));
        assert!(devices.is_latest(&sender(0), DeviceId::new(0), message_id(7)));
    }

    #[test]
    fn an_id_that_comes_late_is_told_from_a_new_one() {
        let mut devices = Devices::default();
        for (offset, id) in [(1, 10), (2, 30), (3, 20)] {
            assert_eq!(
                devices.is_new(&sender(0), DeviceId::new(0), message_id(id)),
                id != 20,
                "asked, not guessed"
            );
            devices.note(&entry(offset, 0, id));
        }
        let is_new = |id| devices.is_new(&sender(0), DeviceId::new(0), message_id(id));
        assert!(!is_new(20) && !is_new(25) && !is_new(30) && is_new(31));
        let is_latest = |id| devices.is_latest(&sender(0), DeviceId::new(0), message_id(id));
        assert!(is_latest(20) && !is_latest(30));
    }

    fn id() -> impl Strategy<Value = u128> {
        prop_oneof![4 => 0_u128..300, 1 => any::<u128>(), 1 => u128::MAX - 3..=u128::MAX]
    }

    proptest! {
        #[test]
        fn it_never_calls_new_what_is_there_nor_latest_what_is_not(
            writes in prop::collection::vec((0_u64..DEVICES_MAX as u64 + 40, id()), 0..500),
            asked in prop::collection::vec((0_u64..DEVICES_MAX as u64 + 60, id()), 0..200),
        ) {
            let (mut devices, mut held, mut latest) = (Devices::default(), HashSet::new(), HashMap::new());
            let mut offset = 0;
            for (device, id) in writes {
                if held.insert((device, id)) {
                    offset += 1;
                    devices.note(&entry(offset, device, id));
                    latest.insert(device, id);
                }
                prop_assert!(devices.known.len() <= DEVICES_MAX);
            }
            for (device, id) in held.iter().chain(&asked) {
                let (sender, number, message) = (sender(*device), DeviceId::new(*device), message_id(*id));
                let (is_held, is_last) = (held.contains(&(*device, *id)), latest.get(device) == Some(id));
                prop_assert!(!(is_held && devices.is_new(&sender, number, message)));
                prop_assert!(is_last || !devices.is_latest(&sender, number, message));
            }
        }

        #[test]
        fn ascending_ids_of_few_devices_are_all_known_to_be_new(
            writes in prop::collection::vec(0_u64..DEVICES_MAX as u64, 1..300),
        ) {
            let mut devices = Devices::default();
            for (at, device) in writes.into_iter().enumerate() {
                let entry = entry(at as u64 + 1, device, at as u128 + 1);
                prop_assert!(devices.is_new(&entry.sender, entry.device, entry.message_id));
                devices.note(&entry);
                prop_assert!(!devices.is_new(&entry.sender, entry.device, entry.message_id));
                prop_assert!(devices.is_latest(&entry.sender, entry.device, entry.message_id));
                prop_assert_eq!(devices.floor, message_id(0));
            }
        }
    }
}
