//! Records to measure with, and a partition that holds nothing.

use log_store::{StoreError, check::Ends, fold::Standing};
use types::{
    Body, DedupKey, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset,
    PartitionPosition, Record, UserId,
};

/// Bytes in each message.
pub(crate) const BODY_BYTES: usize = 400;

/// A message of one device, with an id above all before it.
pub(crate) fn message(lsn: u64, log: u64, offset: u64, device: u64) -> Record {
    Record {
        lsn: Lsn::new(lsn),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log: LogId::group(u128::from(log).to_be_bytes()),
        accepted_at_ms: 1_780_000_000_000,
        body: Body::Entry(Entry {
            offset: Offset::new(offset),
            sender: UserId::new("alice").expect("a valid name"),
            device: DeviceId::new(device),
            message_id: MessageId::from_bytes(u128::from(lsn).to_be_bytes()),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Message { ciphertext: vec![lsn as u8; BODY_BYTES].into() },
        }),
    }
}

/// A partition that is empty.
pub(crate) struct Empty;

impl Ends for Empty {
    fn fence(&self) -> Epoch {
        Epoch::ZERO
    }

    fn last(&self) -> PartitionPosition {
        PartitionPosition::ZERO
    }

    fn standing(&mut self, _: &LogId) -> Result<Standing, StoreError> {
        Ok(Standing::default())
    }

    fn holds(&mut self, _: &LogId, _: &DedupKey) -> Result<bool, StoreError> {
        Ok(false)
    }
}
