//! What is deleted or expired leaves the disk: a random marker is searched for in every file.

use crate::support::{
    batch, created, deleted, entry, expiring, log, message, open, partition, read_all, scratch, small,
};
use bytes::Bytes;
use log_store::{
    LogStore, Scan,
    embedded::{Config, EmbeddedStore},
    files::{File, Files, Guard, cut::CutFiles},
};
use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};
use types::{Body, EntryBody, Epoch, Lsn, Offset, Record};

fn store_in(folder: &Path) -> Arc<EmbeddedStore> {
    let config = Config { segment_bytes: 16 * 1024, fold_records: 16, ..Config::default() };
    EmbeddedStore::open(folder, config).expect("it opens")
}

/// 32 random bytes.
fn marker() -> Vec<u8> {
    let [a, b] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    [*a.as_bytes(), *b.as_bytes()].concat()
}

/// A body with the marker in its middle.
fn marked(lsn: u64, epoch: u64, offset: u64, marker: &[u8]) -> Record {
    let body = [&b"before "[..], marker, b" behind"].concat();
    let body = EntryBody::Message { ciphertext: Bytes::from(body) };
    entry(lsn, epoch, log(1), offset, body)
}

/// The files below a folder that hold the marker.
fn files_with(folder: &Path, marker: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let meta = std::fs::metadata(&path);
        if path.is_dir() {
            found.extend(files_with(&path, marker));
        } else if meta.is_ok_and(|meta| meta.len() >= 1 << 20 && meta.blocks() == 0) {
            // Room that was set aside and never written.
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(marker.len()).any(|window| window == marker)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn is_erased(record: &Record) -> bool {
    matches!(&record.body, Body::Entry(entry) if matches!(entry.body, EntryBody::Erased { .. }))
}

async fn append(store: &dyn LogStore, record: Record) {
    let epoch = record.epoch.get();
    store.append(batch(partition(0), epoch, vec![record])).await.expect("it follows");
}

/// One log with a marked message at offset 2 of so many.
async fn with_marker(store: &dyn LogStore, marked: Record, messages: u64) {
    append(store, created(1, 1, log(1))).await;
    append(store, marked).await;
    for lsn in 3..=messages {
        append(store, message(lsn, 1, log(1), lsn, &"other ".repeat(20))).await;
    }
}

#[tokio::test]
async fn a_deleted_body_leaves_every_file() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let marker = marker();
    for messages in [3, 300] {
        let folder = folder.path().join(messages.to_string());
        let store = store_in(&folder);
        with_marker(&*store, marked(2, 1, 2, &marker), messages).await;
        assert_eq!(files_with(&folder, &marker).len(), 1, "it is there before");
        let hash = marked(2, 1, 2, &marker).entry().expect("an entry").body.hash();

        append(&*store, deleted(messages + 1, 1, log(1), messages + 1, &[2])).await;
        let page = store.read_log(partition(0), log(1), Scan::After(Offset::FIRST), 1, usize::MAX, 0).await;
        assert!(is_erased(&page.expect("it can be read")[0]), "it is gone for readers at once");
        let reclaimed = store.reclaim(0).await.expect("there is room");
        assert_eq!(reclaimed.bodies, 1);
        assert!(reclaimed.bytes > 0);
        assert_eq!(files_with(&folder, &marker), Vec::<String>::new());

        let before = read_all(&*store, partition(0)).await;
        let key = before[1].entry().expect("an entry").dedup_key();
        let found = store.find(partition(0), log(1), &key).await.expect("it can be read");
        assert_eq!(found.map(|found| found.hash), Some(hash), "a retry is still recognised");
        append(&*store, message(messages + 2, 1, log(1), messages + 2, "on it goes")).await;
        drop(store);
        std::fs::remove_dir_all(folder.join("fold")).expect("there is a fold");
        let store = store_in(&folder);
        let after = read_all(&*store, partition(0)).await;
        assert_eq!(after[..before.len()], before[..], "a fold from the beginning finds the same");
        assert_eq!(files_with(&folder, &marker), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_expired_body_leaves_every_file_and_a_later_one_stays() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (marker, later) = (marker(), marker());
    let store = store_in(folder.path());
    with_marker(&*store, expiring(marked(2, 1, 2, &marker), 1_000), 50).await;
    append(&*store, expiring(marked(51, 1, 51, &later), 2_000)).await;

    let read =
        |now_ms| store.read_log(partition(0), log(1), Scan::After(Offset::FIRST), 1, usize::MAX, now_ms);
    assert!(!is_erased(&read(999).await.expect("it can be read")[0]));
    assert!(is_erased(&read(1_000).await.expect("it can be read")[0]));
    assert_eq!(store.reclaim(999).await.expect("there is room").bodies, 0);
    assert_eq!(files_with(folder.path(), &marker).len(), 1);
    assert_eq!(store.reclaim(1_000).await.expect("there is room").bodies, 1);
    assert_eq!(files_with(folder.path(), &marker), Vec::<String>::new());
    assert_eq!(files_with(folder.path(), &later).len(), 1);
    store.close().await;
    drop(store);
    let store = store_in(folder.path());
    assert_eq!(store.reclaim(2_000).await.expect("there is room").bodies, 1, "the expiry is remembered");
    assert_eq!(files_with(folder.path(), &later), Vec::<String>::new());
}

#[tokio::test]
async fn an_archived_body_leaves_with_its_expiry_or_its_archive() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (expires, discarded) = (marker(), marker());
    let store = store_in(folder.path());
    with_marker(&*store, expiring(marked(2, 1, 2, &expires), 1_000), 20).await;
    append(&*store, marked(21, 1, 21, &discarded)).await;
    let obeys = Epoch::new(2);
    let archive = store.archive_tail(partition(0), obeys, Lsn::new(2)).await.expect("it is obeyed");
    let archive = archive.expect("there is a tail");
    store.truncate(partition(0), obeys, Lsn::new(2)).await.expect("it is archived");

    assert_eq!(store.reclaim(1_000).await.expect("there is room").bodies, 1);
    assert_eq!(files_with(folder.path(), &expires), Vec::<String>::new());
    assert_eq!(files_with(folder.path(), &discarded).len(), 1, "the archive keeps it");
    let read = store.read_archive(archive.id, Lsn::new(2), usize::MAX, usize::MAX).await;
    let read = read.expect("it can be read");
    assert_eq!(read.len(), 20);
    assert!(is_erased(&read[0]) && !is_erased(&read[19]));

    store.discard_archive(archive.id).await.expect("it is known");
    store.reclaim(1_000).await.expect("there is room");
    assert_eq!(files_with(folder.path(), &discarded), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_was_salvaged_and_then_deleted_leaves_its_archive_too() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let marker = marker();
    let store = store_in(folder.path());
    with_marker(&*store, marked(2, 1, 2, &marker), 10).await;
    let obeys = Epoch::new(2);
    store.archive_tail(partition(0), obeys, Lsn::new(2)).await.expect("it is obeyed");
    store.truncate(partition(0), obeys, Lsn::new(2)).await.expect("it is archived");
    let mut again = marked(2, 1, 2, &marker);
    again.epoch = Epoch::new(2);
    append(&*store, again).await;
    append(&*store, deleted(3, 2, log(1), 3, &[2])).await;
    assert_eq!(store.reclaim(0).await.expect("there is room").bodies, 2);
    assert_eq!(files_with(folder.path(), &marker), Vec::<String>::new());
}

#[tokio::test]
async fn a_cut_deletion_gives_the_body_back_while_it_is_there() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let store = store_in(folder.path());
    with_marker(&*store, marked(2, 1, 2, b"still wanted"), 5).await;
    append(&*store, deleted(6, 1, log(1), 6, &[2])).await;
    let obeys = Epoch::new(2);
    store.archive_tail(partition(0), obeys, Lsn::new(6)).await.expect("it is obeyed");
    store.truncate(partition(0), obeys, Lsn::new(6)).await.expect("it is archived");
    assert!(!is_erased(&read_all(&*store, partition(0)).await[1]));
    assert_eq!(store.reclaim(0).await.expect("there is room").bodies, 0);
    assert!(!is_erased(&read_all(&*store, partition(0)).await[1]));
}

#[tokio::test]
async fn a_record_copied_back_stays_archived_and_its_copy_leaves_when_it_is_cut_again() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let marker = marker();
    let store = store_in(folder.path());
    with_marker(&*store, marked(2, 1, 2, &marker), 2).await;
    let obeys = Epoch::new(2);
    let archive = store.archive_tail(partition(0), obeys, Lsn::new(2)).await.expect("it is obeyed");
    store.truncate(partition(0), obeys, Lsn::new(2)).await.expect("it is archived");
    append(&*store, marked(2, 1, 2, &marker)).await;
    store.truncate(partition(0), obeys, Lsn::new(2)).await.expect("it is archived under the same name");
    assert_eq!(store.reclaim(0).await.expect("there is room").bodies, 1, "the copy has no use");
    assert_eq!(files_with(folder.path(), &marker).len(), 1, "the archive keeps its own");
    let archive = archive.expect("there was a tail").id;
    store.discard_archive(archive).await.expect("it is known");
    store.reclaim(0).await.expect("there is room");
    assert_eq!(files_with(folder.path(), &marker), Vec::<String>::new());
}

const SEGMENT: &str = "0000000001.segment";

/// Holds the next one that opens the first segment up, with the file in its hand.
#[derive(Debug)]
struct SlowOpen {
    files: CutFiles,
    hold: Mutex<Option<SyncSender<()>>>,
}

impl Files for SlowOpen {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.files.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(name)?;
        let hold = if name == SEGMENT { self.hold.lock().expect("no panic").take() } else { None };
        if let Some(opened) = hold {
            opened.send(()).expect("the test waits");
            // Time for a reclaim to rename; one that has to wait for this reader never would.
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.files.sync_folder()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Guard>>> {
        self.files.lock(name)
    }

    fn path(&self) -> PathBuf {
        self.files.path()
    }
}

fn holds(files: &CutFiles, marker: &[u8]) -> bool {
    let bytes = files.contents(SEGMENT).expect("it is there");
    bytes.windows(marker.len()).any(|window| window == marker)
}

#[tokio::test]
async fn a_reader_that_opens_a_segment_while_it_is_rewritten_brings_nothing_back() {
    let (folder, marker) = (scratch(), marker());
    let files = CutFiles::new(folder.path());
    let store = open(&files, small());
    with_marker(&*store, marked(2, 1, 2, &marker), 60).await;
    append(&*store, deleted(61, 1, log(1), 61, &[2])).await;
    assert!(holds(&files, &marker));
    store.close().await;
    drop(store);

    // Opened again, the store has no need of the first segment until somebody reads from it.
    let slow = Arc::new(SlowOpen { files: files.clone(), hold: Mutex::default() });
    let store = EmbeddedStore::open_on(slow.clone(), small()).expect("it opens");
    let (opened, has_opened) = sync_channel(1);
    *slow.hold.lock().expect("no panic") = Some(opened);
    let reader = store.clone();
    let read = tokio::spawn(async move {
        reader.read_log(partition(0), log(1), Scan::After(Offset::FIRST), 1, usize::MAX, 0).await
    });
    let waits = tokio::task::spawn_blocking(move || has_opened.recv_timeout(Duration::from_secs(10)));
    waits.await.expect("no panic").expect("the reader opens the segment");
    assert_eq!(store.reclaim(0).await.expect("there is room").bodies, 1);
    assert!(is_erased(&read.await.expect("no panic").expect("it can be read")[0]));

    assert!(is_erased(&read_all(&*store, partition(0)).await[1]), "it stays erased");
    append(&*store, deleted(62, 1, log(1), 62, &[3])).await;
    assert_eq!(store.reclaim(0).await.expect("there is room").bodies, 1);
    assert!(!holds(&files, &marker), "the next rewriting does not write it back");
}
