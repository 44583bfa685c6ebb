//! Bytes flipped, files gone, a newer format, a full disk, a failing sync: each is named, and nothing
//! that was acked is served wrongly or passed over in silence.

use crate::support::{
    batch, deleted, fill, log, message, open, partition, picture, read_all, scratch, small,
};
use log_store::{
    AppendError, LogStore, ReadError, StoreError,
    embedded::{Config, EmbeddedStore},
    files::cut::{CutFiles, Fault, Survive},
};
use std::{path::Path, sync::Arc};
use types::{Epoch, Lsn};

const SEGMENT: &str = "0000000001.segment";
const FRAME_HEADER_BYTES: usize = 32;
/// One byte in each field of a frame, and two in the payload.
const FRAME_BYTES: [usize; 12] = [0, 4, 8, 12, 16, 23, 24, 25, 26, 28, 32, 60];

fn try_open(files: &CutFiles) -> Result<Arc<EmbeddedStore>, StoreError> {
    EmbeddedStore::open_on(Arc::new(files.clone()), small())
}

/// A store of 60 records over several segments, closed in order or not.
async fn filled(folder: &Path, close: bool) -> CutFiles {
    let files = CutFiles::new(folder);
    let store = open(&files, small());
    fill(&*store, partition(0), log(1), 1..=60).await;
    if close {
        store.close().await;
    }
    files
}

fn wipe_fold(folder: &Path) {
    std::fs::remove_dir_all(folder.join("fold")).expect("there is a fold");
}

/// Where the frames of a segment begin.
fn frames(files: &CutFiles, segment: &str) -> Vec<usize> {
    let bytes = files.contents(segment).expect("it is there");
    let mut begins = Vec::new();
    let mut at = 64;
    while at + FRAME_HEADER_BYTES < bytes.len() && bytes[at + 26..at + 28] == *b"HL" {
        begins.push(at);
        let payload = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4 bytes")) as usize;
        at += (FRAME_HEADER_BYTES + payload).next_multiple_of(8);
    }
    begins
}

fn segments(files: &CutFiles) -> Vec<String> {
    (1..)
        .map(|number| format!("{number:010}.segment"))
        .take_while(|name| files.contents(name).is_some())
        .collect()
}

fn assert_damaged(error: &StoreError, file: &str, at: usize) {
    match error {
        StoreError::Damaged { file: found, at: found_at, .. } => {
            assert_eq!((&**found, *found_at), (file, at as u64), "{error}");
        }
        other => panic!("not damage: {other}"),
    }
}

#[tokio::test]
async fn a_flipped_byte_is_named_and_never_served() {
    for byte in FRAME_BYTES {
        let folder = scratch();
        let files = filled(folder.path(), true).await;
        let frame = frames(&files, SEGMENT)[3];
        files.damage(SEGMENT, |bytes| bytes[frame + byte] ^= 4);

        let store = try_open(&files).expect("the fold knows the rest");
        let read = store.read_partition(partition(0), Lsn::new(4), 1, usize::MAX).await;
        let Err(ReadError::Store(error)) = read else { panic!("byte {byte} was served") };
        assert_damaged(&error, SEGMENT, frame);
        let others = store.read_partition(partition(0), Lsn::new(5), usize::MAX, usize::MAX).await;
        assert_eq!(others.expect("they are whole").len(), 56);
        drop(store);

        wipe_fold(folder.path());
        let error = try_open(&files).expect_err("the fold cannot be made anew");
        assert_damaged(&error, SEGMENT, frame);
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_sealed_segment_stops_the_opening_at_its_place() {
    let folder = scratch();
    let files = filled(folder.path(), false).await;
    wipe_fold(folder.path());
    for segment in segments(&files) {
        let begins = frames(&files, &segment);
        // The last group of all cannot be told from a torn one; every other was proved whole by a later one.
        let last_of_all = frames(&files, &segments_with_frames(&files).last().expect("some").clone());
        for begin in begins {
            if segments_with_frames(&files).last() == Some(&segment) && last_of_all.last() == Some(&begin) {
                continue;
            }
            let copy = files.fork(&folder.path().join(format!("{segment} {begin}")));
            copy.damage(&segment, |bytes| bytes[begin + 40] ^= 1);
            assert_damaged(&try_open(&copy).expect_err("acked records are damaged"), &segment, begin);
        }
    }
}

fn segments_with_frames(files: &CutFiles) -> Vec<String> {
    segments(files).into_iter().filter(|segment| !frames(files, segment).is_empty()).collect()
}

#[tokio::test]
async fn after_closing_in_order_even_the_last_record_is_proved() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    wipe_fold(folder.path());
    let last = segments_with_frames(&files).pop().expect("there are frames");
    let begins = frames(&files, &last);
    let begin = begins[begins.len() - 2];
    files.damage(&last, |bytes| bytes[begin + 40] ^= 1);
    assert_damaged(&try_open(&files).expect_err("an acked record is damaged"), &last, begin);
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_overwritten() {
    let folder = scratch();
    let files = filled(folder.path(), false).await;
    let last = segments_with_frames(&files).pop().expect("there are frames");
    let begin = *frames(&files, &last).last().expect("there are frames");
    files.damage(&last, |bytes| bytes[begin + 40..].fill(0xEE));
    wipe_fold(folder.path());
    let store = try_open(&files).expect("a torn tail is no damage");
    assert_eq!(read_all(&*store, partition(0)).await.len(), 59);
    fill(&*store, partition(0), log(1), 60..=70).await;
    drop(store);
    let store = open(&files.crash(Survive::Nothing), small());
    assert_eq!(picture(&*store, partition(0)).await.records.len(), 70);
}

#[tokio::test]
async fn a_missing_segment_is_named() {
    for lost in 0..3 {
        for keep_fold in [true, false] {
            let folder = scratch();
            let files = filled(folder.path(), true).await;
            let with_frames = segments_with_frames(&files);
            let name = match lost {
                0 => with_frames[0].clone(),
                1 => with_frames[1].clone(),
                _ => with_frames.last().expect("some").clone(),
            };
            files.lose(&name);
            if !keep_fold {
                wipe_fold(folder.path());
            }
            assert_damaged(&try_open(&files).expect_err("a segment is gone"), &name, 0);
        }
    }
}

#[tokio::test]
async fn a_segment_cut_below_what_was_folded_is_damage() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    let last = segments_with_frames(&files).pop().expect("there are frames");
    files.damage(&last, |bytes| bytes.truncate(200));
    let error = try_open(&files).expect_err("folded records are gone");
    assert!(matches!(&error, StoreError::Damaged { file, at: 200, .. } if **file == *last), "{error}");
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_refused_by_number() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    let newer = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(bytes).replace("version 1", "version 7");
        *bytes = text.into_bytes();
    };
    let newer_files = files.fork(folder.path());
    newer_files.damage("FORMAT", newer);
    let error = try_open(&newer_files).expect_err("it is newer");
    assert_eq!(error, StoreError::Version { file: "FORMAT".into(), found: 7, known: 1 });

    let newer_segment = files.fork(folder.path());
    wipe_fold(folder.path());
    newer_segment.damage(SEGMENT, |bytes| {
        bytes[8] = 7;
        let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&crc);
    });
    let error = try_open(&newer_segment).expect_err("it is newer");
    assert_eq!(error, StoreError::Version { file: SEGMENT.into(), found: 7, known: 1 });
}

#[tokio::test]
async fn a_damaged_or_missing_format_file_is_named() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    let damaged = files.fork(folder.path());
    damaged.damage("FORMAT", |bytes| bytes[30] ^= 1);
    assert!(matches!(try_open(&damaged), Err(StoreError::Damaged { file, .. }) if &*file == "FORMAT"));
    files.lose("FORMAT");
    assert_damaged(&try_open(&files).expect_err("it is missing"), "FORMAT", 0);
}

#[tokio::test]
async fn a_damaged_fold_is_thrown_away_and_made_anew() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    let before = picture(&*open(&files, small()), partition(0)).await;
    spoil(&folder.path().join("fold"));
    let store = open(&files.crash(Survive::Nothing), small());
    assert_eq!(picture(&*store, partition(0)).await, before);
}

/// Overwrites every file below a folder.
fn spoil(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            spoil(&path);
        } else {
            let bytes = std::fs::metadata(&path).expect("it is there").len().min(10_000);
            std::fs::write(&path, vec![0xAB; bytes as usize]).expect("it can be written");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_passes() {
    let folder = scratch();
    let files = CutFiles::new(folder.path());
    let store = open(&files, small());
    fill(&*store, partition(0), log(1), 1..=5).await;
    files.set_full(true);
    let refused = store.append(batch(partition(0), 1, vec![message(6, 1, log(1), 6, "no room")])).await;
    let Err(AppendError::Store(error)) = refused else { panic!("there is no room: {refused:?}") };
    assert_eq!(error, StoreError::Full { file: SEGMENT.into() });
    assert!(error.is_retryable() && !error.is_indeterminate());
    assert!(matches!(store.fence(partition(0), Epoch::new(3)).await, Err(StoreError::Full { .. })));
    assert!(matches!(store.canary().await, Err(StoreError::Full { .. })));
    let end = *frames(&files, SEGMENT).last().expect("there are frames");
    let bytes = files.contents(SEGMENT).expect("it is there");
    assert!(!bytes[end..].windows(7).any(|window| window == b"no room"), "half a write was left");
    assert_eq!(read_all(&*store, partition(0)).await.len(), 5, "what is there can be read");

    files.set_full(false);
    fill(&*store, partition(0), log(1), 6..=80).await;
    drop(store);
    let store = open(&files.crash(Survive::Nothing), small());
    assert_eq!(picture(&*store, partition(0)).await.records.len(), 80);
}

#[tokio::test]
async fn a_write_that_finds_no_room_in_its_middle_is_taken_back() {
    let folder = scratch();
    let files = CutFiles::new(folder.path());
    let store = open(&files, small());
    fill(&*store, partition(0), log(1), 1..=5).await;
    let before = frames(&files, SEGMENT).len();
    files.fail_next(Fault::Full);
    let refused = store.append(batch(partition(0), 1, vec![message(6, 1, log(1), 6, "half")])).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Full { .. }))), "{refused:?}");
    assert_eq!(frames(&files, SEGMENT).len(), before);
    fill(&*store, partition(0), log(1), 6..=6).await;
    assert_eq!(picture(&*store, partition(0)).await.records.len(), 6);
}

#[tokio::test]
async fn a_failed_sync_closes_the_store_for_good() {
    let folder = scratch();
    let files = CutFiles::new(folder.path());
    let store = open(&files, small());
    fill(&*store, partition(0), log(1), 1..=5).await;
    files.fail_next(Fault::SyncFails);
    let append = store.append(batch(partition(0), 1, vec![message(6, 1, log(1), 6, "who knows")])).await;
    let error = append.expect_err("it may be lost");
    assert!(error.is_indeterminate(), "{error}");
    assert!(error.to_string().contains(SEGMENT), "{error}");
    let again = store.append(batch(partition(0), 1, vec![message(6, 1, log(1), 6, "who knows")])).await;
    assert!(matches!(again, Err(AppendError::Store(StoreError::Closed { .. }))), "{again:?}");
    assert!(matches!(store.end(partition(0)).await, Err(StoreError::Closed { .. })));
    assert!(matches!(store.canary().await, Err(StoreError::Closed { .. })));
    let read = store.read_partition(partition(0), Lsn::FIRST, 1, usize::MAX).await;
    assert!(matches!(read, Err(ReadError::Store(StoreError::Closed { .. }))), "{read:?}");
    drop(store);
    let store = open(&files.crash(Survive::Nothing), small());
    assert_eq!(picture(&*store, partition(0)).await.records.len(), 5);
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let store = EmbeddedStore::open(folder.path(), Config::default()).expect("it opens");
    let second = EmbeddedStore::open(folder.path(), Config::default());
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    let id = store.id();
    drop(store);
    let store = EmbeddedStore::open(folder.path(), Config::default()).expect("it is free again");
    assert_eq!(store.id(), id);
}

#[tokio::test]
async fn a_lost_page_inside_a_segment_is_not_taken_for_its_end_when_it_is_rewritten() {
    for rewritten_before in [false, true] {
        let folder = scratch();
        let files = CutFiles::new(folder.path());
        let store = open(&files, small());
        fill(&*store, partition(0), log(1), 1..=60).await;
        if rewritten_before {
            store
                .append(batch(partition(0), 1, vec![deleted(61, 1, log(1), 61, &[2])]))
                .await
                .expect("it fits");
            assert_eq!(store.reclaim(0).await.expect("it is whole").bodies, 1);
        }
        let begins = frames(&files, SEGMENT);
        files.damage(SEGMENT, |bytes| bytes[begins[5]..begins[7]].fill(0));
        let before = files.contents(SEGMENT);
        let lsn = if rewritten_before { 62 } else { 61 };
        store
            .append(batch(partition(0), 1, vec![deleted(lsn, 1, log(1), lsn, &[3])]))
            .await
            .expect("it fits");
        assert_damaged(&store.reclaim(0).await.expect_err("frames are lost"), SEGMENT, begins[5]);
        assert_eq!(files.contents(SEGMENT), before, "what is left stays");
    }
}

#[tokio::test]
async fn damage_that_a_read_comes_upon_is_kept_in_mind_and_a_condemned_store_is_never_opened_again() {
    let folder = scratch();
    let files = filled(folder.path(), true).await;
    let (healthy, at) = (open(&files, small()), frames(&files, SEGMENT)[2]);
    assert_eq!(healthy.damage(), None);
    files.damage(SEGMENT, |bytes| bytes[at + FRAME_HEADER_BYTES + 1] ^= 1);
    let read = healthy.read_partition(partition(0), Lsn::new(3), 1, usize::MAX).await;
    assert!(matches!(read, Err(ReadError::Store(StoreError::Damaged { .. }))), "{read:?}");
    let damage = healthy.damage().expect("it was come upon");
    assert_damaged(&damage, SEGMENT, at);
    healthy.read_partition(partition(0), Lsn::new(40), 1, usize::MAX).await.expect("what is whole is served");
    healthy.close().await;
    drop(healthy);
    let opened = open(&files, small());
    assert_eq!(opened.damage(), None, "an opening does not read what is folded");
    opened.condemn(&damage).await.expect("it is noted");
    assert!(matches!(opened.canary().await, Err(StoreError::Closed { .. })));
    drop(opened);
    assert_damaged(&try_open(&files).expect_err("it is damaged"), "DAMAGED", 0);
}
