//! Logs that leave a partition and come to one.

use crate::{
    Bed,
    writer::{PARTITION, Writer, all, log},
};
use log_store::{AppendError, LogStore, Scan, fold::LogState};
use std::sync::Arc;
use types::{
    Effect, EffectAct, EffectTarget, Epoch, EraBegin, Generation, Import, Lsn, Offset, Position, Record,
    RehomeId, StateUpdate,
};

const REHOME: RehomeId = RehomeId::new(5);

async fn state(store: &dyn LogStore) -> LogState {
    let state = store.log_state(PARTITION, log(1)).await.expect("readable");
    LogState::clone(&*state.expect("it has records"))
}

/// What another partition hands over that wrote up to an offset, in a generation.
fn grown(state: &LogState, generation: u32, head: u64) -> Import {
    let mut import = state.export(REHOME);
    let (generation, epoch) = (Generation::new(generation), Epoch::new(7));
    import.eras.push(EraBegin { generation, epoch, first_offset: state.head.offset.plus(1) });
    import.head = Position::new(generation, epoch, Offset::new(head));
    import
}

async fn page(store: &dyn LogStore, scan: Scan) -> Vec<Record> {
    store.read_log(PARTITION, log(1), scan, 99, usize::MAX, 0).await.expect("readable")
}

fn after(offset: u64) -> Scan {
    Scan::After(Offset::new(offset))
}

fn before(offset: u64) -> Scan {
    Scan::Before(Offset::new(offset))
}

pub(crate) async fn a_sealed_log_takes_nothing_more_in_its_generation(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    writer.fill(&*store, log(1), 2).await;
    let (mut refused, mut resumed) = (writer.clone(), writer.clone());
    let seal = writer.sealed(log(1), REHOME);
    writer.write(&*store, vec![seal]).await.expect("it follows");
    for late in [refused.clone().message(log(1)), refused.cursor(log(1), 1)] {
        let late = Record { lsn: Lsn::new(4), ..late };
        let answer = writer.write(&*store, vec![late]).await;
        assert!(matches!(answer, Err(AppendError::Invalid { .. })), "{answer:?}");
    }
    let state = state(&*store).await;
    assert_eq!((state.standing().closed(), state.standing().is_settled()), (Generation::FIRST, false));
    assert!(state.standing().may_begin(Generation::new(2)) && !state.standing().may_begin(Generation::FIRST));
    // The re-homing was given up: the log goes on as it was, in the next generation.
    resumed.generation = Generation::new(2);
    let next = Record { lsn: Lsn::new(4), ..resumed.message(log(1)) };
    writer.write(&*store, vec![next.clone()]).await.expect("a higher generation");
    assert_eq!(page(&*store, after(2)).await, [next]);
}

pub(crate) async fn an_imported_log_goes_on_behind_its_import(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let import = grown(&LogState::default(), 1, 40);
    let imported = writer.imported(log(1), 2, import.clone());
    let first = writer.message(log(1));
    assert_eq!(first.entry().map(|entry| entry.offset), Some(Offset::new(41)));
    let too_early = Record { generation: Generation::FIRST, ..first.clone() };
    let refused = writer.write(&*bed.store(), vec![imported.clone(), too_early]).await;
    assert!(matches!(refused, Err(AppendError::Invalid { .. })), "{refused:?}");
    writer.write(&*bed.store(), vec![imported.clone()]).await.expect("a log may begin with an import");
    let alone = state(&*bed.store()).await;
    assert_eq!((alone.head, alone.standing().is_settled()), (import.head, false));
    let again = writer.clone().imported(log(1), 2, import);
    let again = Record { lsn: Lsn::new(2), ..again };
    let refused = writer.write(&*bed.store(), vec![again]).await;
    assert!(matches!(refused, Err(AppendError::Invalid { .. })), "{refused:?}");
    writer.write(&*bed.store(), vec![first.clone()]).await.expect("it follows the import");
    bed.reopen().await;
    let store = bed.store();
    let state = state(&*store).await;
    assert!(state.standing().is_settled() && state.is_elsewhere(Offset::new(40)));
    assert_eq!(state.eras.len(), 2, "what was written elsewhere is known");
    assert_eq!(all(&*store, PARTITION).await, [imported, first.clone()]);
    for scan in [after(40), before(u64::MAX)] {
        assert_eq!(page(&*store, scan).await, std::slice::from_ref(&first));
    }
    for scan in [after(0), after(39), after(41), before(41), before(2)] {
        assert_eq!(page(&*store, scan).await, [], "{scan:?}");
    }
}

pub(crate) async fn a_log_that_comes_back_leaves_a_hole(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    let old = writer.fill(&*bed.store(), log(1), 3).await;
    let seal = writer.sealed(log(1), REHOME);
    writer.write(&*bed.store(), vec![seal]).await.expect("it follows");
    let import = grown(&state(&*bed.store()).await, 2, 10);
    let imported = writer.imported(log(1), 3, import);
    writer.write(&*bed.store(), vec![imported]).await.expect("it comes back");
    let new = writer.fill(&*bed.store(), log(1), 40).await;
    let (was, end) = (state(&*bed.store()).await, all(&*bed.store(), PARTITION).await);
    for _ in 0..2 {
        let store = bed.store();
        assert_eq!(page(&*store, after(0)).await, old);
        assert_eq!(page(&*store, after(1)).await, old[1..]);
        assert_eq!(page(&*store, after(3)).await, []);
        assert_eq!(page(&*store, before(11)).await, []);
        assert_eq!(page(&*store, after(10)).await, new);
        assert_eq!(page(&*store, before(4)).await.len(), 3);
        assert_eq!(page(&*store, before(u64::MAX)).await.len(), 40);
        let keys = [&old[0], &new[39]].map(|record| record.entry().expect("an entry").dedup_key());
        for key in keys {
            assert!(store.find(PARTITION, log(1), &key).await.expect("readable").is_some());
        }
        drop(store);
        bed.reopen().await;
    }
    assert_eq!((state(&*bed.store()).await, all(&*bed.store(), PARTITION).await), (was, end));
}

pub(crate) async fn cutting_an_import_gives_the_log_back(bed: impl Bed) {
    let (store, mut writer) = (bed.store(), Writer::new(PARTITION));
    let old = writer.fill(&*store, log(1), 3).await;
    let seal = writer.sealed(log(1), REHOME);
    writer.write(&*store, vec![seal]).await.expect("it follows");
    let sealed = state(&*store).await;
    let mut later = writer.at_epoch(2);
    let imported = later.imported(log(1), 3, grown(&sealed, 2, 10));
    later.write(&*store, vec![imported]).await.expect("it comes back");
    later.fill(&*store, log(1), 30).await;
    let tail = store.archive_tail(PARTITION, Epoch::new(2), Lsn::new(5)).await.expect("obeyed");
    assert_eq!(tail.expect("a tail").records, 31);
    store.truncate(PARTITION, Epoch::new(2), Lsn::new(5)).await.expect("archived");
    assert_eq!(state(&*store).await, sealed);
    assert_eq!(page(&*store, before(u64::MAX)).await.len(), old.len());
    assert_eq!(page(&*store, after(10)).await, []);
    let again = writer.at_epoch(3).imported(log(1), 3, grown(&sealed, 2, 12));
    let at = writer.at_epoch(3);
    at.write(&*store, vec![again]).await.expect("another home imports it");
    assert!(state(&*store).await.is_elsewhere(Offset::new(12)));
}

/// What was deleted at an offset of another stretch, as an effect on this one.
fn erasure(cause: u64, offsets: &[u64]) -> StateUpdate {
    let effect = Effect {
        cause_log: log(1),
        cause: Position::new(Generation::new(2), Epoch::new(7), Offset::new(cause)),
        target: EffectTarget { log: log(1), stretch: Generation::FIRST },
        act: EffectAct::Erase { offsets: offsets.iter().copied().map(Offset::new).collect() },
    };
    StateUpdate::Effect(Box::new(effect))
}

fn has_body(record: &Record) -> bool {
    log_store::erase::has_body(record)
}

pub(crate) async fn an_effect_erases_behind_a_seal(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    writer.fill(&*bed.store(), log(1), 3).await;
    let seal = writer.sealed(log(1), REHOME);
    let effect = writer.update(log(1), erasure(9, &[2]));
    writer.write(&*bed.store(), vec![seal, effect.clone()]).await.expect("a sealed log takes it");
    let held = |page: &[Record]| page.iter().map(has_body).collect::<Vec<_>>();
    assert_eq!(held(&page(&*bed.store(), after(0)).await), [true, false, true]);
    bed.reopen().await;
    let folded = state(&*bed.store()).await;
    let StateUpdate::Effect(taken) = erasure(9, &[2]) else { panic!("an effect") };
    assert!(folded.has_taken(&taken), "{:?}", folded.causes);
    let StateUpdate::Effect(later) = erasure(10, &[3]) else { panic!("an effect") };
    assert!(!folded.has_taken(&later));
    let reclaimed = bed.store().reclaim(0).await.expect("it is open");
    assert_eq!(reclaimed.bodies, 1);
    assert_eq!(held(&page(&*bed.store(), after(0)).await), [true, false, true]);
    // Cut off again, as by a home that did not get it replicated, it was never taken.
    let store = bed.store();
    store.archive_tail(PARTITION, writer.epoch, effect.lsn).await.expect("archived");
    store.truncate(PARTITION, writer.epoch, effect.lsn).await.expect("cut");
    assert!(!state(&*store).await.has_taken(&taken));
}

pub(crate) async fn pending_effects_are_told_until_they_are_done(mut bed: impl Bed) {
    let mut writer = Writer::new(PARTITION);
    writer.fill(&*bed.store(), log(1), 1).await;
    let seal = writer.sealed(log(1), REHOME);
    writer.write(&*bed.store(), vec![seal]).await.expect("it follows");
    let import = grown(&state(&*bed.store()).await, 2, 6);
    let imported = writer.imported(log(1), 3, import);
    let deletion = writer.deleted(log(1), &[1, 3, 4]);
    writer.write(&*bed.store(), vec![imported, deletion.clone()]).await.expect("it follows");
    let told = |store: Arc<dyn LogStore>| async move { store.effect_logs(PARTITION, None, 9).await };
    assert_eq!(told(bed.store()).await, Ok(vec![log(1)]));
    bed.reopen().await;
    assert_eq!(told(bed.store()).await, Ok(vec![log(1)]));
    assert_eq!(bed.store().effect_logs(PARTITION, Some(log(1)), 9).await, Ok(vec![]));
    let folded = state(&*bed.store()).await;
    let [(lsn, effect)] = &folded.effects[..] else { panic!("one effect, not {:?}", folded.effects) };
    assert_eq!((*lsn, effect.cause), (deletion.lsn, deletion.position().expect("an entry")));
    assert_eq!(effect.target, EffectTarget { log: log(1), stretch: Generation::new(2) });
    assert_eq!(effect.act, EffectAct::Erase { offsets: vec![Offset::new(3), Offset::new(4)] });
    assert_eq!(folded.export(REHOME).effects, std::slice::from_ref(effect), "it goes with the log");
    let done = StateUpdate::EffectDone { target: effect.target, cause: effect.cause };
    let done = writer.update(log(1), done);
    writer.write(&*bed.store(), vec![done.clone()]).await.expect("it follows");
    assert_eq!(told(bed.store()).await, Ok(vec![]));
    let store = bed.store();
    store.archive_tail(PARTITION, writer.epoch, done.lsn).await.expect("archived");
    store.truncate(PARTITION, writer.epoch, done.lsn).await.expect("cut");
    assert_eq!(told(store).await, Ok(vec![log(1)]), "it was not done after all");
    bed.reopen().await;
    assert_eq!(told(bed.store()).await, Ok(vec![log(1)]));
}
