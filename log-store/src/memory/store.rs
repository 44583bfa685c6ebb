//! The store around the device: handles, futures and the test's controls.

use super::{
    disk::Disk,
    partition::PartitionLog,
    sync::{Device, Fate, Pending, Survive},
};
use crate::{
    Append, AppendError, Archive, ArchiveId, Deduped, Durable, LogStore, PartitionEnd, ReadError, Reclaimed,
    RefusedEntry, Replicated, Salvage, Scan, Settle, StoreError, TailError, check, fold::LogState,
};
use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;
use types::{DedupKey, Epoch, LogId, Lsn, PartitionId, Record, StoreId};

/// The most bytes of batches that may wait for a held sync.
const UNDER_WAY_MAX_BYTES: usize = 256 * 1024 * 1024;

/// A store in memory.
///
/// Clones are handles on the same opening of the same store. Without further orders each change is
/// synced within its call.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    id: StoreId,
    opening: u64,
    device: Arc<Mutex<Device>>,
}

impl MemoryStore {
    /// An empty store that syncs each change at once.
    pub fn new(id: StoreId) -> Self {
        Self { id, opening: 0, device: Arc::default() }
    }

    /// Lets changes wait until [`MemoryStore::release`] or [`MemoryStore::resume_syncs`].
    pub fn hold_syncs(&self) {
        self.device.lock().held = true;
    }

    /// Syncs the oldest so many waiting changes and answers them; how many there were.
    pub fn release(&self, changes: usize) -> usize {
        self.device.lock().sync(changes)
    }

    /// Syncs all that waits, and from now on each change at once.
    pub fn resume_syncs(&self) {
        let mut device = self.device.lock();
        device.held = false;
        device.sync(usize::MAX);
    }

    /// How many changes wait for a sync.
    pub fn pending(&self) -> usize {
        self.device.lock().pending.len()
    }

    /// Lets the next sync fail, which closes the store; so much of what waits then survives.
    pub fn fail_next_sync(&self, survive: Survive) {
        self.device.lock().failing = Some(survive);
    }

    /// Whether the disk is out of room: every change but a discarded archive is then refused as `Full`.
    pub fn set_full(&self, full: bool) {
        self.device.lock().full = full;
    }

    /// Crashes the machine: this handle and its clones are closed, and so much of what was not synced
    /// survives. Nothing of it is acked.
    pub fn crash(&self, survive: Survive) {
        let mut device = self.device.lock();
        if device.opening == self.opening && device.closed.is_none() {
            device.end("the machine crashed", survive);
        }
    }

    /// Opens the store again, with what is on its disk; the orders about syncs start afresh.
    ///
    /// # Errors
    /// `InUse` while another opening has neither been closed nor crashed.
    pub fn reopen(&self) -> Result<Self, StoreError> {
        let mut device = self.device.lock();
        if device.closed.take().is_none() {
            return Err(StoreError::InUse { folder: "memory".into() });
        }
        if let Some(why) = &device.condemned {
            return Err(why.clone());
        }
        device.damage = None;
        device.opening += 1;
        (device.held, device.full, device.failing) = (false, false, None);
        Ok(Self { id: self.id, opening: device.opening, device: self.device.clone() })
    }

    /// Damages what stands at an LSN: who reads it is told so.
    pub fn damage_record(&self, partition: PartitionId, lsn: Lsn) {
        self.device.lock().damaged = Some((partition, lsn));
    }

    /// Tells of the damage if a page holds it.
    fn undamaged(&self, partition: PartitionId, page: Vec<Record>) -> Result<Vec<Record>, ReadError> {
        let mut device = self.device.lock();
        let Some((at, lsn)) = device.damaged.filter(|(at, _)| *at == partition) else { return Ok(page) };
        if !page.iter().any(|record| record.lsn == lsn) {
            return Ok(page);
        }
        let (file, what) = (at.to_string().into(), "its checksum does not match".into());
        let error = StoreError::Damaged { file, at: lsn.get(), what };
        device.damage.get_or_insert_with(|| error.clone());
        Err(error.into())
    }

    fn check_open(&self, device: &Device) -> Result<(), StoreError> {
        match &device.closed {
            None if device.opening == self.opening => Ok(()),
            Some(reason) if device.opening == self.opening => {
                Err(StoreError::Closed { reason: reason.clone() })
            }
            _ => Err(StoreError::Closed { reason: "it was opened anew".into() }),
        }
    }

    /// Reads what is durable.
    fn read<T, E: From<StoreError>>(&self, read: impl FnOnce(&Disk) -> Result<T, E>) -> Result<T, E> {
        let device = self.device.lock();
        self.check_open(&device)?;
        read(&device.disk)
    }

    /// Submits a change, in the order of the calls, and answers what comes of it.
    fn change<T, E>(
        &self,
        bytes: usize,
        takes_room: bool,
        apply: impl FnOnce(&mut Disk) -> Result<T, E> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let settle = move |disk: &mut Disk, fate: Fate| {
            let result = match fate {
                Fate::Durable => apply(disk),
                Fate::Survived(error) => apply(disk).and(Err(error.into())),
                Fate::Lost(error) => Err(error.into()),
            };
            // A caller that has gone away does not want to know.
            let _ = reply.send(result);
        };
        let mut device = self.device.lock();
        if let Err(error) = self.check_open(&device) {
            return futures_util::future::ready(Err(error.into())).boxed();
        }
        device.submit(Pending { bytes, takes_room, settle: Box::new(settle) });
        let dropped = || StoreError::Closed { reason: "its last handle was dropped".into() };
        async move { answer.await.unwrap_or_else(|_| Err(dropped().into())) }.boxed()
    }
}

#[async_trait]
impl LogStore for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Durable, AppendError>> {
        let batch_bytes = append.records.iter().map(encoded_bytes).sum();
        if let Err(refusal) = self.admit(&append, batch_bytes) {
            return futures_util::future::ready(Err(refusal)).boxed();
        }
        self.change(batch_bytes, true, |disk| disk.append(append))
    }

    async fn fence(&self, partition: PartitionId, epoch: Epoch) -> Result<PartitionEnd, StoreError> {
        self.change(0, true, move |disk| Ok(disk.fence(partition, epoch))).await
    }

    async fn end(&self, partition: PartitionId) -> Result<PartitionEnd, StoreError> {
        self.read(|disk| Ok(disk.end(partition)))
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, StoreError> {
        self.read(|disk| Ok(disk.partitions()))
    }

    async fn archive_tail(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Archive>, TailError> {
        self.change(0, true, move |disk| disk.archive_tail(partition, obeys, from)).await
    }

    async fn truncate(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError> {
        self.change(0, true, move |disk| disk.truncate(partition, obeys, from)).await
    }

    async fn read_partition(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let replicated = self.device.lock().replicated.watermark(partition);
        self.read(|disk| {
            within(partition, from, disk.end(partition).last.lsn)?;
            let log = disk.partition(partition);
            Ok(page(
                log.into_iter().flat_map(|log| log.records_from(from, replicated)),
                max_records,
                max_bytes,
            ))
        })
        .and_then(|page| self.undamaged(partition, page))
    }

    async fn read_log(
        &self,
        partition: PartitionId,
        log: LogId,
        scan: Scan,
        max_entries: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> Result<Vec<Record>, ReadError> {
        self.read(|disk| {
            let held = disk.partition(partition);
            let entries = held.into_iter().flat_map(|held| held.entries(&log, scan, now_ms));
            Ok(page(entries, max_entries, max_bytes))
        })
        .and_then(|page| self.undamaged(partition, page))
    }

    async fn log_state(
        &self,
        partition: PartitionId,
        log: LogId,
    ) -> Result<Option<Arc<LogState>>, ReadError> {
        self.read(|disk| Ok(disk.partition(partition).and_then(|held| held.state(&log))))
    }

    async fn logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        let behind = |log: &PartitionLog| log.logs_behind(after).take(max).collect();
        self.read(|disk| Ok(disk.partition(partition).map(behind).unwrap_or_default()))
    }

    async fn effect_logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        let behind = |log: &PartitionLog| log.effect_logs(after).take(max).collect();
        self.read(|disk| Ok(disk.partition(partition).map(behind).unwrap_or_default()))
    }

    async fn find(
        &self,
        partition: PartitionId,
        log: LogId,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadError> {
        self.read(|disk| Ok(disk.partition(partition).and_then(|held| held.find(&log, key))))
    }

    async fn archives(&self) -> Result<Vec<Archive>, StoreError> {
        self.read(|disk| Ok(disk.archives()))
    }

    async fn read_archive(
        &self,
        archive: ArchiveId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.read(|disk| {
            let (archive, records) = disk.archive(archive)?;
            within(archive.partition, from, archive.last.lsn)?;
            let wanted = records.iter().filter(|record| record.lsn >= from).cloned();
            Ok(page(wanted, max_records, max_bytes))
        })
    }

    async fn settle_archive(&self, step: Settle) -> Result<Salvage, StoreError> {
        self.change(0, true, move |disk| disk.settle_archive(step)).await
    }

    async fn refused_entries(
        &self,
        archive: ArchiveId,
        after: Lsn,
        max: usize,
    ) -> Result<Vec<RefusedEntry>, ReadError> {
        self.read(|disk| {
            let refused = disk.refused_entries(archive)?.iter().filter(|refused| refused.lsn > after);
            Ok(refused.take(max).cloned().collect())
        })
    }

    async fn discard_archive(&self, archive: ArchiveId) -> Result<(), StoreError> {
        self.change(0, false, move |disk| disk.discard_archive(archive)).await
    }

    fn note_replicated(&self, replicated: Replicated) {
        self.device.lock().replicated = replicated;
    }

    async fn reclaim(&self, now_ms: u64) -> Result<Reclaimed, StoreError> {
        let replicated = self.device.lock().replicated.clone();
        self.change(0, true, move |disk| Ok(disk.reclaim(now_ms, &replicated))).await
    }

    async fn canary(&self) -> Result<(), StoreError> {
        self.change(0, true, |_| Ok(())).await
    }

    fn damage(&self) -> Option<StoreError> {
        self.device.lock().damage.clone()
    }

    async fn condemn(&self, why: &StoreError) -> Result<(), StoreError> {
        self.device.lock().condemned = Some(why.clone());
        self.close().await;
        Ok(())
    }

    async fn close(&self) {
        let mut device = self.device.lock();
        if self.check_open(&device).is_ok() {
            device.sync(usize::MAX);
            if device.closed.is_none() {
                device.end("its owner closed it", Survive::Everything);
            }
        }
    }
}

impl MemoryStore {
    /// Refuses what need not wait for its turn.
    fn admit(&self, append: &Append, batch_bytes: usize) -> Result<(), AppendError> {
        check::shape(append, batch_bytes)?;
        let device = self.device.lock();
        self.check_open(&device)?;
        if device.pending_bytes + batch_bytes > UNDER_WAY_MAX_BYTES {
            return Err(AppendError::Busy { bytes: device.pending_bytes });
        }
        Ok(())
    }
}

fn within(partition: PartitionId, from: Lsn, end: Lsn) -> Result<(), ReadError> {
    if from > end.plus(1) { Err(ReadError::PastEnd { partition, from, end }) } else { Ok(()) }
}

/// The first records, within both bounds but at least one.
fn page(records: impl Iterator<Item = Record>, max_records: usize, max_bytes: usize) -> Vec<Record> {
    let mut bytes = 0;
    let mut page = Vec::new();
    for record in records.take(max_records.max(1)) {
        bytes += encoded_bytes(&record);
        if bytes > max_bytes && !page.is_empty() {
            break;
        }
        page.push(record);
    }
    page
}

fn encoded_bytes(record: &Record) -> usize {
    proto::encode_record(record).len()
}
