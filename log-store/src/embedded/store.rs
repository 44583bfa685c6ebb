//! The store as its users hold it.

use super::{
    Config,
    cache::StateCache,
    core::Core,
    errors::{closed, io_error},
    fold::Fold,
    folder::{self, FOLD},
    folding, frame,
    index::Index,
    prepare::Preparer,
    queue::{Queue, Reply, Request},
    read::{LogPage, blocking},
    recovery::{self, Found},
    runs::RunCache,
    segment::{Segment, Segments},
    writer::{Tail, Writer},
};
use crate::{
    Append, AppendError, Archive, ArchiveId, Deduped, Durable, Encoded, LogStore, PartitionEnd, ReadError,
    Reclaimed, RefusedEntry, Replicated, Salvage, Scan, Settle, StoreError, TailError, check,
    files::{Files, Guard, RealFiles},
    fold::LogState,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::{Mutex, RwLock};
use std::{path::Path, sync::Arc, thread::JoinHandle};
use tokio::sync::oneshot;
use types::{DedupKey, Epoch, LogId, Lsn, PartitionId, Record, StoreId};

/// A store in a folder of this machine.
///
/// Reads that may wait for the disk run on tokio's blocking threads, so its methods need a tokio
/// runtime. Dropping the last handle ends the store like a crash would: nothing acked is lost, and the
/// next opening replays what was not folded. [`LogStore::close`] ends it in order.
#[derive(Debug)]
pub struct EmbeddedStore {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, and makes an empty one where there is none.
    ///
    /// Blocks until what was not folded is replayed and the recovered tail is synced: tens of
    /// milliseconds as a rule, a second for a few 100,000 unfolded records, and as long as it takes to
    /// read all segments when the fold was lost.
    ///
    /// # Errors
    /// `InUse`, `Version`, `Damaged` with file and place, `Full`, `Io`.
    pub fn open(folder: &Path, config: Config) -> Result<Arc<Self>, StoreError> {
        let name = folder.to_string_lossy();
        let files = RealFiles::new(folder).map_err(|error| io_error("cannot open", &name, &error))?;
        Self::open_on(Arc::new(files), config)
    }

    /// Opens the store on a file layer; like [`EmbeddedStore::open`].
    ///
    /// # Errors
    /// As those of [`EmbeddedStore::open`].
    pub fn open_on(files: Arc<dyn Files>, config: Config) -> Result<Arc<Self>, StoreError> {
        let config = config.bounded();
        let guard: Arc<dyn Guard> = folder::lock(&*files)?.into();
        folder::check_sound(&*files)?;
        let mut found = recovery::find(&*files)?;
        let store = folder::identify(&*files, found.last > 0)?;
        recovery::drop_unprepared(&*files, store, &mut found)?;
        if found.last == 0 {
            Segment::create(&*files, store, 1, config.segment_bytes)?;
            found.last = 1;
        }
        let opened = Self::recover(&files, &config, &guard, store, &mut found);
        let (core, tail) = match opened {
            Err(StoreError::Damaged { file, what, .. }) if &*file == FOLD => {
                tracing::warn!(%store, %what, "the fold is thrown away and folded anew");
                Fold::discard(&files.path())?;
                Self::recover(&files, &config, &guard, store, &mut found)?
            }
            other => other?,
        };
        Self::start(core, tail, &found)
    }

    fn recover(
        files: &Arc<dyn Files>,
        config: &Config,
        guard: &Arc<dyn Guard>,
        store: StoreId,
        found: &mut Found,
    ) -> Result<(Core, Tail), StoreError> {
        let folder = files.path();
        let fold = match Fold::open(&folder, config.fold_cache_bytes) {
            Err(error) if !matches!(error, StoreError::Full { .. }) => {
                tracing::warn!(%store, %error, "the fold is thrown away and folded anew");
                Fold::discard(&folder)?;
                Fold::open(&folder, config.fold_cache_bytes)?
            }
            other => other?,
        };
        let core = Core {
            store,
            config: config.clone(),
            files: files.clone(),
            segments: Segments::new(files.clone(), store, config.open_segments),
            index: Index {
                fold,
                states: StateCache::new(config.state_cache_logs),
                runs: RunCache::new(config.run_cache_locations),
            },
            view: RwLock::default(),
            gate: RwLock::default(),
            queue: Queue::new(config.queue_bytes),
            folding: Mutex::default(),
            progress: Mutex::default(),
            folded: parking_lot::Condvar::new(),
            replicated: RwLock::default(),
            reclaiming: Mutex::default(),
            _guard: guard.clone(),
        };
        recovery::load_view(&core)?;
        let tail = recovery::replay(&core, found)?;
        Ok((core, tail))
    }

    fn start(core: Core, tail: Tail, found: &Found) -> Result<Arc<Self>, StoreError> {
        let replayed = core.view.read().active.records;
        tracing::info!(store = %core.store, segments = found.last, replayed, "the log store is open");
        let core = Arc::new(core);
        let no_thread = |error: std::io::Error| io_error("cannot start a thread for", "the store", &error);
        let next_number = tail.segment.number + 1;
        let next =
            if next_number <= found.last { Ok(core.segments.get(next_number)?) } else { Err(next_number) };
        let preparer = Preparer::start(core.files.clone(), core.store, core.config.segment_bytes, next)
            .map_err(no_thread)?;
        let writer = Writer::new(core.clone(), preparer, tail);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(run).map_err(no_thread)
        };
        let folder = core.clone();
        let store = Arc::new(Self { core, threads: Mutex::default() });
        let writer = spawn("log-writer", Box::new(move || writer.run()))?;
        store.threads.lock().push(writer);
        let folder = spawn("log-fold", Box::new(move || folding::run(&folder)))?;
        store.threads.lock().push(folder);
        Ok(store)
    }

    /// Puts a request into the queue and waits for its answer.
    fn ask<T, E>(&self, request: impl FnOnce(Reply<T, E>) -> Request) -> BoxFuture<'static, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.core.queue.push(request(reply));
        async move { answer.await.unwrap_or_else(|_| Err(closed("the writer has ended").into())) }.boxed()
    }

    /// Ends the threads. What waits is refused.
    fn stop(&self) {
        self.core.queue.close(&"its last handle was dropped".into());
        self.core.progress.lock().stop = true;
        self.core.folded.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.stop();
    }
}

#[async_trait]
impl LogStore for EmbeddedStore {
    fn id(&self) -> StoreId {
        self.core.store
    }

    fn append(&self, append: Append) -> BoxFuture<'static, Result<Durable, AppendError>> {
        let encoded = append.records.iter().map(proto::encode_record).collect();
        self.append_encoded(append, encoded)
    }

    fn append_encoded(
        &self,
        append: Append,
        encoded: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<Durable, AppendError>> {
        let shape = check::shape(&append, encoded.iter().map(Bytes::len).sum());
        if let Err(refusal) = shape.and_then(|()| check::one_each(&append, encoded.len())) {
            return ready(Err(refusal)).boxed();
        }
        let bytes = encoded.iter().map(|payload| frame::stride(payload.len())).sum();
        self.ask(|reply| Request::Append { append, encoded, bytes, reply })
    }

    async fn fence(&self, partition: PartitionId, epoch: Epoch) -> Result<PartitionEnd, StoreError> {
        self.ask(|reply| Request::Fence { partition, epoch, reply }).await
    }

    async fn end(&self, partition: PartitionId) -> Result<PartitionEnd, StoreError> {
        self.core.check_open()?;
        Ok(self.core.partition(partition).end)
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, StoreError> {
        self.core.check_open()?;
        let view = self.core.view.read();
        let held = view.partitions.iter().filter(|(_, state)| state.end != PartitionEnd::default());
        Ok(held.map(|(partition, _)| *partition).collect())
    }

    async fn archive_tail(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<Option<Archive>, TailError> {
        self.ask(|reply| Request::Archive { partition, obeys, from, reply }).await
    }

    async fn truncate(
        &self,
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
    ) -> Result<PartitionEnd, TailError> {
        self.ask(|reply| Request::Truncate { partition, obeys, from, reply }).await
    }

    async fn read_partition(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        blocking(&self.core, move |core| core.read_partition(partition, from, max_records, max_bytes)).await
    }

    async fn read_encoded(
        &self,
        partition: PartitionId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Encoded>, ReadError> {
        blocking(&self.core, move |core| core.read_encoded(partition, from, max_records, max_bytes)).await
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
        self.core.check_open()?;
        let page = LogPage { key: (partition, log), scan, max_entries, max_bytes, now_ms };
        // What is in memory is read right here: to be woken by another thread would cost more.
        if let Some(records) = self.core.read_cached_log(&page)? {
            return Ok(records);
        }
        blocking(&self.core, move |core| core.read_log(&page)).await
    }

    async fn log_state(
        &self,
        partition: PartitionId,
        log: LogId,
    ) -> Result<Option<Arc<LogState>>, ReadError> {
        let key = (partition, log);
        if let Some(state) = self.core.state_in_memory(&key) {
            self.core.check_open()?;
            return Ok(Some(state));
        }
        blocking(&self.core, move |core| {
            let _gate = core.gate.read();
            Ok(core.read_state(&key)?)
        })
        .await
    }

    async fn logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        blocking(&self.core, move |core| core.logs(partition, after.as_ref(), max)).await
    }

    async fn effect_logs(
        &self,
        partition: PartitionId,
        after: Option<LogId>,
        max: usize,
    ) -> Result<Vec<LogId>, ReadError> {
        self.core.effect_logs(partition, after, max)
    }

    async fn find(
        &self,
        partition: PartitionId,
        log: LogId,
        key: &DedupKey,
    ) -> Result<Option<Deduped>, ReadError> {
        let state = self.core.state_in_memory(&(partition, log));
        if state.is_some_and(|state| state.devices.is_new(&key.sender, key.device, key.message_id)) {
            self.core.check_open()?;
            return Ok(None);
        }
        let key = key.clone();
        blocking(&self.core, move |core| core.find(partition, &log, &key)).await
    }

    async fn archives(&self) -> Result<Vec<Archive>, StoreError> {
        self.core.check_open()?;
        Ok(self.core.view.read().archives.values().cloned().collect())
    }

    async fn read_archive(
        &self,
        archive: ArchiveId,
        from: Lsn,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        blocking(&self.core, move |core| core.read_archive(archive, from, max_records, max_bytes)).await
    }

    async fn settle_archive(&self, step: Settle) -> Result<Salvage, StoreError> {
        self.ask(|reply| Request::Settle { step, reply }).await
    }

    async fn refused_entries(
        &self,
        archive: ArchiveId,
        after: Lsn,
        max: usize,
    ) -> Result<Vec<RefusedEntry>, ReadError> {
        blocking(&self.core, move |core| Ok(core.refused_entries(archive, after, max)?)).await
    }

    async fn discard_archive(&self, archive: ArchiveId) -> Result<(), StoreError> {
        self.ask(|reply| Request::Discard { archive, reply }).await
    }

    fn note_replicated(&self, replicated: Replicated) {
        *self.core.replicated.write() = replicated;
    }

    async fn reclaim(&self, now_ms: u64) -> Result<Reclaimed, StoreError> {
        blocking(&self.core, move |core| core.reclaim(now_ms)).await
    }

    async fn canary(&self) -> Result<(), StoreError> {
        self.ask(|reply| Request::Canary { reply }).await
    }

    fn damage(&self) -> Option<StoreError> {
        self.core.segments.damage()
    }

    async fn condemn(&self, why: &StoreError) -> Result<(), StoreError> {
        let (core, why) = (Arc::clone(&self.core), why.clone());
        let noted = tokio::task::spawn_blocking(move || folder::condemn(&*core.files, &why)).await;
        self.close().await;
        noted.unwrap_or_else(|_| Err(closed("the note of its damage was not written")))
    }

    async fn close(&self) {
        // A store that is closed already answers at once.
        let _ = self.ask::<(), StoreError>(|reply| Request::Close { reply }).await;
    }
}
