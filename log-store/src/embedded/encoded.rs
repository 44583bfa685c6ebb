//! Reading records as they are stored, for those who pass them on.

use super::{core::Core, read, reader::Reader, tail::SEQUENTIAL_BYTES};
use crate::{Encoded, EpochBegin, ReadError, erase};
use types::{Epoch, Lsn, PartitionId, PartitionPosition};

/// How many locations are looked up at once.
const CHUNK: u64 = 256;

impl Core {
    pub(crate) fn read_encoded(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Encoded>, ReadError> {
        let _gate = self.gate.read();
        let end = self.partition(partition).end;
        read::within(partition, from, end.last.lsn)?;
        let mut reader = Reader::new(&self.segments, SEQUENTIAL_BYTES);
        let (mut page, mut page_bytes) = (Vec::new(), 0);
        let (mut next, last) = (from.max(Lsn::FIRST).get(), end.last.lsn.get());
        while next <= last {
            let wants = CHUNK.min(max_records.max(1).saturating_sub(page.len()) as u64);
            let until = last.min(next.saturating_add(wants.saturating_sub(1)));
            for (lsn, location) in (next..).zip(self.lsns(partition, next..=until)?) {
                let (_, mut bytes) = reader.frame(location)?;
                let mark = self.view.read().marks.get(&location).copied();
                if mark.is_some_and(|mark| self.is_final(&mark)) {
                    let mut record = read::record(&mut reader, location)?;
                    if erase::erase(&mut record) {
                        bytes = proto::encode_record(&record);
                    }
                }
                page_bytes += bytes.len();
                if page_bytes > max_bytes && !page.is_empty() {
                    return Ok(page);
                }
                let lsn = Lsn::new(lsn);
                page.push(Encoded {
                    position: PartitionPosition::new(epoch_of(&end.epochs, lsn), lsn),
                    bytes,
                });
                if page.len() >= max_records {
                    return Ok(page);
                }
            }
            next = until + 1;
        }
        Ok(page)
    }
}

/// The epoch of a record that the log holds.
fn epoch_of(epochs: &[EpochBegin], lsn: Lsn) -> Epoch {
    let begun = epochs.partition_point(|begin| begin.first_lsn <= lsn);
    begun.checked_sub(1).map_or(Epoch::ZERO, |at| epochs[at].epoch)
}
