//! Stores on disk.

use super::*;
use std::fs;

fn open(path: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(path, &user(), Some(DEVICE))
}

fn loaded(store: &mut impl Store) -> Snapshot {
    let mut snapshot = store.load(&user(), DEVICE).expect("loaded");
    snapshot.logs.sort_by_key(|log| log.log);
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn a_file_holds_what_memory_holds(
        commits in prop::collection::vec((prop::collection::vec(change(), 0..12), any::<bool>()), 1..8)
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        let mut memory = MemoryStore::new();
        let mut disk = open(&path).expect("created");
        prop_assert_eq!(loaded(&mut disk), Snapshot::default());
        for (changes, reopen) in commits {
            memory.commit(&changes).expect("kept");
            disk.commit(&changes).expect("kept");
            if reopen {
                drop(disk);
                disk = open(&path).expect("opened again");
            }
            prop_assert_eq!(loaded(&mut disk), loaded(&mut memory));
        }
    }
}

#[test]
fn one_client_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let first = open(&path).expect("created");
    assert_eq!(open(&path).expect_err("in use"), StoreError::Locked { path: path.clone() });
    drop(first);
    open(&path).expect("free again");
}

#[test]
fn a_new_file_draws_its_device_and_keeps_it_and_is_nobody_elses() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let device = DiskStore::open(&path, &user(), None).expect("created").device();
    assert_eq!(DiskStore::open(&path, &user(), None).expect("opened").device(), device);
    let other = DeviceId::new(device.get().wrapping_add(1));
    let error = DiskStore::open(&path, &user(), Some(other)).expect_err("of another device");
    assert_eq!(error, StoreError::OtherDevice { user: user(), device });
    let bob = UserId::new("bob").expect("a valid name");
    let error = DiskStore::open(&path, &bob, None).expect_err("of another user");
    assert_eq!(error, StoreError::OtherDevice { user: user(), device });
    let mut store = DiskStore::open(&path, &user(), None).expect("opened");
    store.load(&bob, device).expect_err("of another user");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_that_holds_something_else_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    open(&path).expect("created").commit(&[queue(1, 1, b"marker".repeat(500))]).expect("kept");
    let whole = fs::read(&path).expect("read");
    let at = whole.windows(6).position(|bytes| bytes == b"marker").expect("bodies stand in it");
    let mut flipped = whole.clone();
    flipped[at + 1_000] ^= 1;
    let damages = [
        ("empty", Vec::new()),
        ("text", b"not a store at all".to_vec()),
        ("cut short", whole[..whole.len() / 2].to_vec()),
        ("a flipped bit", flipped),
    ];
    for (what, bytes) in damages {
        fs::write(&path, bytes).expect("written");
        let error = open(&path).expect_err(what);
        assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("state"), "{error}");
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(loaded(&mut open(&path).expect("whole again")).outbox.len(), 1);
}

#[test]
fn a_file_of_a_later_format_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    drop(open(&path).expect("created"));
    disk::write_format(&path, 2);
    let error = open(&path).expect_err("a later format");
    assert_eq!(error, StoreError::Format { path, found: 2, known: 1 });
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let error = open(Path::new("/nowhere/at/all/state")).expect_err("no folder");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}
