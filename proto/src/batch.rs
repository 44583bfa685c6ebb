//! What stands beside the records of a batch, so that they need not be read on their way.

use crate::{
    Malformed, decode_record,
    node::{Batch, EpochRun},
};
use types::{Epoch, Record};

/// The epochs of records in their order, as runs.
pub fn epoch_runs(epochs: impl IntoIterator<Item = Epoch>) -> Vec<EpochRun> {
    let mut runs: Vec<EpochRun> = Vec::new();
    for epoch in epochs {
        match runs.last_mut() {
            Some(run) if run.epoch == epoch.get() => run.records += 1,
            _ => runs.push(EpochRun { epoch: epoch.get(), records: 1 }),
        }
    }
    runs
}

/// The records of a batch; their bodies share its memory.
///
/// # Errors
/// [`Malformed`] when one is no record, or is not what the batch says of it.
pub fn batch_records(batch: &Batch) -> Result<Vec<Record>, Malformed> {
    let mut said = batch.epochs.iter().flat_map(|run| (0..run.records).map(|_| run.epoch));
    let mut records = Vec::with_capacity(batch.records.len());
    for (at, encoded) in (0..).zip(&batch.records) {
        let record = decode_record(encoded.clone())?;
        let (lsn, epoch) = (record.lsn.get(), record.epoch.get());
        if said.next() != Some(epoch) || batch.first_lsn.checked_add(at) != Some(lsn) {
            let place = format!("lsn {lsn} of epoch {epoch}");
            return Err(Malformed::value("batch.records", place, "the batch says another place"));
        }
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prost::Message as _;

    fn record(epoch: u64, lsn: u64) -> Bytes {
        let seal = crate::log::state_update::Update::Seal(crate::log::Seal { move_id: 1 });
        let update = crate::log::StateUpdate { update: Some(seal) };
        let log = types::LogId::group([1; 16]).to_bytes();
        crate::log::Record {
            lsn,
            epoch,
            generation: 1,
            log: Bytes::copy_from_slice(&log),
            accepted_at_ms: 0,
            body: Some(crate::log::record::Body::Update(update)),
        }
        .encode_to_vec()
        .into()
    }

    fn batch(records: &[(u64, u64)], said: &[u64]) -> Batch {
        Batch {
            records: records.iter().map(|&(epoch, lsn)| record(epoch, lsn)).collect(),
            first_lsn: 5,
            epochs: epoch_runs(said.iter().copied().map(Epoch::new)),
            ..Batch::default()
        }
    }

    #[test]
    fn records_are_what_their_batch_says() {
        let records = batch_records(&batch(&[(1, 5), (1, 6), (3, 7)], &[1, 1, 3])).expect("it fits");
        assert_eq!(records.len(), 3);
        assert!(batch_records(&batch(&[(1, 5), (1, 7)], &[1, 1])).is_err());
        assert!(batch_records(&batch(&[(1, 5), (2, 6)], &[1, 1])).is_err());
        assert!(batch_records(&batch(&[(1, 5), (1, 6)], &[1])).is_err());
    }
}
