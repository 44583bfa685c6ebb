//! One suite for every engine: each does what an ordered map does.

use super::{Embedded, Error, Kv, Memory, Overlay, Transaction};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    /// Writes that are rolled back, by an error of the body or by a dropped overlay.
    Lose(u8, bool),
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        (0..12u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        (0..12u8).prop_map(Step::Delete),
        (0..12u8, any::<bool>()).prop_map(|(key, overlay)| Step::Lose(key, overlay)),
    ];
    prop::collection::vec(prop::collection::vec(step, 1..6), 1..12)
}

fn all(kv: &dyn Kv, start: u8, end: u8, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    kv.read(&mut |tx| {
        pairs = tx.range(&[start], &[end], limit)?;
        Ok(())
    })
    .expect("readable");
    pairs
}

fn behaves_like_a_map(kv: &dyn Kv, groups: &[Vec<Step>]) {
    let mut model = BTreeMap::new();
    for group in groups {
        let before = model.clone();
        let mut lost = false;
        let done = kv.write(&mut |tx| {
            for step in group {
                match step {
                    Step::Put(key, value) => {
                        let mut overlay = Overlay::new(tx);
                        overlay.put(&[*key], &[*value])?;
                        assert_eq!(overlay.get(&[*key])?, Some(vec![*value]));
                        overlay.keep()?;
                        model.insert(vec![*key], vec![*value]);
                    }
                    Step::Delete(key) => {
                        let mut overlay = Overlay::new(tx);
                        overlay.delete(&[*key])?;
                        model.remove([*key].as_slice());
                        let expected: Vec<_> = model.clone().into_iter().take(3).collect();
                        assert_eq!(overlay.range(&[0], &[99], 3)?, expected);
                        overlay.keep()?;
                    }
                    Step::Lose(key, true) => Overlay::new(tx).put(&[*key], b"lost")?,
                    Step::Lose(key, false) => {
                        tx.put(&[*key], b"lost")?;
                        lost = true;
                        return Err(Error::Engine { what: "test", why: "rolled back".into() });
                    }
                }
            }
            Ok(())
        });
        assert_eq!(done.is_err(), lost);
        if lost {
            model = before;
        }
        assert_eq!(all(kv, 0, 99, 100), model.clone().into_iter().collect::<Vec<_>>());
        let some: Vec<_> =
            model.clone().into_iter().filter(|(key, _)| (3..9).contains(&key[0])).take(2).collect();
        assert_eq!(all(kv, 3, 9, 2), some);
        assert_eq!(all(kv, 9, 3, 2), vec![]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn memory_behaves_like_a_map(groups in steps()) {
        behaves_like_a_map(&Memory::default(), &groups);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn embedded_behaves_like_a_map(groups in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        behaves_like_a_map(&Embedded::open(&folder.path().join("rows.redb")).expect("opened"), &groups);
    }
}

#[test]
fn embedded_keeps_its_rows_and_has_one_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.redb");
    let kv = Embedded::open(&path).expect("opened");
    kv.write(&mut |tx| tx.put(b"a", b"1")).expect("committed");
    let error = Embedded::open(&path).expect_err("it is open already");
    assert!(error.to_string().contains("rows.redb"), "{error}");
    drop(kv);
    let kv = Embedded::open(&path).expect("opened again");
    assert_eq!(all(&kv, b'a', b'b', 9), vec![(b"a".to_vec(), b"1".to_vec())]);
}
