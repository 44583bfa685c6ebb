use super::*;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use std::sync::Arc;
use types::{
    Body, Entry, EntryBody, Generation, Lsn, MemberRole, MessageId, PartitionPosition, Record, StateUpdate,
};

const EPOCH: Epoch = Epoch::new(3);
const KEY: Key = (PartitionId::new(1), LogId::group([1; 16]));

fn user(number: usize) -> UserId {
    UserId::new(&format!("user{number}")).expect("a valid name")
}

fn at(epoch: u64, offset: u64) -> Position {
    Position::new(Generation::FIRST, Epoch::new(epoch), Offset::new(offset))
}

/// A chat of so many members whose entries are of epoch 1 up to offset 5, and of epoch 3 behind that.
fn chat(members: usize, head: u64) -> LogState {
    let since = types::chat::Member::since(MemberRole::Member, Offset::FIRST);
    let member = |number| (user(number), since);
    let mut state = LogState { members: Arc::new((0..members).map(member).collect()), ..LogState::default() };
    for offset in 1..=head {
        state.apply(&entry(offset)).expect("it follows");
    }
    state
}

fn entry(offset: u64) -> Record {
    Record {
        lsn: Lsn::new(offset),
        epoch: if offset <= 5 { Epoch::FIRST } else { EPOCH },
        generation: Generation::FIRST,
        log: KEY.1,
        accepted_at_ms: offset,
        body: Body::Entry(Entry {
            offset: Offset::new(offset),
            sender: user(0),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(u128::from(offset).to_be_bytes()),
            expires_at_ms: None,
            about: None,
            salvaged: false,
            body: EntryBody::Message { ciphertext: bytes::Bytes::new() },
        }),
    }
}

fn write(state: &mut LogState, cursors: Vec<DeviceCursor>) {
    let lsn = state.last.lsn.plus(1);
    let body = Body::Update(StateUpdate::Cursors(cursors));
    let record = Record { lsn, epoch: EPOCH, body, ..entry(1) };
    assert_ne!(state.last, PartitionPosition::ZERO);
    state.apply(&record).expect("it follows");
}

fn cursor(number: usize, device: u64, delivered: Position, read: Position) -> Cursor {
    let reached = Reached { delivered, read, hides_read: false };
    Cursor { user: user(number), device: DeviceId::new(device), reached }
}

fn take(board: &mut Board, now_ms: u64, state: &LogState, cursor: &Cursor) -> Result<(), NotTaken> {
    board.take((now_ms, 1_000_000 + now_ms), (KEY, EPOCH), state, cursor)
}

fn receipts(events: Vec<(PartitionId, LiveEvent)>) -> Vec<Receipt> {
    let told = events.into_iter().flat_map(|(_, event)| match event.said {
        Said::Receipts { receipts, .. } => receipts,
        Said::Typing { .. } | Said::Chats => panic!("nobody is typing or joins"),
    });
    told.collect()
}

#[test]
fn a_cursor_is_told_at_once_and_written_two_seconds_later() {
    let (mut board, mut state) = (Board::default(), chat(2, 9));
    take(&mut board, 10, &state, &cursor(1, 1, at(3, 8), at(3, 7))).expect("taken");
    let told = receipts(board.told(10));
    assert_eq!((told[0].delivered, told[0].read, told[0].user.clone()), (at(3, 8), at(3, 7), user(1)));
    assert_eq!(told[0].marks.read.at_ms, 1_000_010);
    assert_eq!(board.due(10 + WRITE_EVERY_MS - 1), []);
    assert_eq!(board.due(10 + WRITE_EVERY_MS), [KEY]);
    let cursors = board.settle(10 + WRITE_EVERY_MS, KEY, Some(&state));
    write(&mut state, cursors);
    assert_eq!(state.marks_of(&user(1)).read.offset, Offset::new(7));
    assert_eq!(board.settle(9_000, KEY, Some(&state)), [], "the fold has it");
    board.told(9_000 + WRITE_EVERY_MS + REST_MS);
    assert!(board.is_empty());
}

#[test]
fn what_was_not_written_is_written_again() {
    let (mut board, state) = (Board::default(), chat(2, 9));
    take(&mut board, 0, &state, &cursor(1, 1, at(3, 8), Position::START)).expect("taken");
    assert_eq!(board.settle(2_000, KEY, Some(&state)).len(), 1);
    assert_eq!(board.due(3_999), []);
    assert_eq!(board.due(4_000), [KEY]);
    assert_eq!(board.settle(4_000, KEY, Some(&state)).len(), 1);
}

#[test]
fn many_cursors_are_told_together() {
    let (mut board, state) = (Board::default(), chat(30, 9));
    take(&mut board, 0, &state, &cursor(0, 1, at(3, 8), Position::START)).expect("taken");
    assert_eq!(receipts(board.told(0)).len(), 1);
    for number in 1..30 {
        take(&mut board, 1, &state, &cursor(number, 1, at(3, 8), Position::START)).expect("taken");
    }
    assert_eq!(board.told(TELL_EVERY_MS - 1), []);
    let told = board.told(TELL_EVERY_MS);
    assert_eq!((told.len(), receipts(told).len()), (1, 29));
}

#[test]
fn what_a_failover_undid_counts_up_to_where_the_histories_part() {
    let (mut board, state) = (Board::default(), chat(2, 9));
    take(&mut board, 0, &state, &cursor(1, 1, at(1, 8), at(2, 9))).expect("taken");
    let told = receipts(board.told(0));
    assert_eq!((told[0].delivered, told[0].read), (at(1, 5), at(1, 5)));
}

#[test]
fn strangers_and_what_is_not_known_yet_are_not_taken() {
    let (mut board, state) = (Board::default(), chat(2, 9));
    let start = Position::START;
    assert_eq!(take(&mut board, 0, &state, &cursor(2, 1, at(3, 8), start)), Err(NotTaken::Forbidden));
    assert_eq!(take(&mut board, 0, &state, &cursor(1, 1, at(3, 10), start)), Err(NotTaken::Later));
    assert_eq!(take(&mut board, 0, &state, &cursor(1, 1, at(4, 2), start)), Err(NotTaken::Later));
    assert!(board.is_empty());
}

#[test]
fn in_a_large_chat_only_the_own_devices_are_told() {
    for (members, expected) in [(TOLD_MEMBERS_MAX, false), (TOLD_MEMBERS_MAX + 1, true)] {
        let (mut board, state) = (Board::default(), chat(members, 9));
        take(&mut board, 0, &state, &cursor(1, 1, at(3, 8), Position::START)).expect("taken");
        let (_, event) = board.told(0).remove(0);
        assert!(matches!(event.said, Said::Receipts { own_only, .. } if own_only == expected));
    }
}

#[test]
fn a_hidden_read_is_kept_for_the_own_devices() {
    let (mut board, mut state) = (Board::default(), chat(2, 9));
    let mut hidden = cursor(1, 1, at(3, 8), at(3, 8));
    hidden.reached.hides_read = true;
    take(&mut board, 0, &state, &hidden).expect("taken");
    let cursors = board.settle(2_000, KEY, Some(&state));
    write(&mut state, cursors);
    board.forget(KEY.0);
    let receipt = board.receipt(KEY, &state, &user(1));
    assert_eq!((receipt.shown(true).read, receipt.shown(false).read), (at(3, 8), Position::START));
    assert_eq!(receipt.shown(false).delivered, at(3, 8));
}

#[derive(Debug, Clone)]
enum Step {
    Says { number: usize, device: u64, delivered: u64, read: u64 },
    Passes { ms: u64, is_written: bool },
    Grows,
    Ends,
}

fn step() -> impl Strategy<Value = Step> {
    let says = (0_usize..3, 0_u64..2, 0_u64..14, 0_u64..14);
    proptest::prop_oneof![
        6 => says.prop_map(|(number, device, delivered, read)| Step::Says { number, device, delivered, read }),
        4 => (1_u64..1_500, proptest::bool::weighted(0.8))
            .prop_map(|(ms, is_written)| Step::Passes { ms, is_written }),
        1 => proptest::prelude::Just(Step::Grows),
        1 => proptest::prelude::Just(Step::Ends),
    ]
}

proptest! {
    #[test]
    fn whatever_is_said_reaches_the_fold_in_few_records(steps in prop::collection::vec(step(), 0..60)) {
        let (mut board, mut state) = (Board::default(), chat(3, 6));
        let (mut now_ms, mut last_write_ms) = (0, None::<u64>);
        let mut said: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut told: BTreeMap<UserId, Receipt> = BTreeMap::new();
        let position = |offset| match offset {
            0 => Position::START,
            offset => at(if offset <= 5 { 1 } else { EPOCH.get() }, offset),
        };
        let quiet = std::iter::repeat_n(Step::Passes { ms: 500, is_written: true }, 12);
        for step in steps.into_iter().chain(quiet) {
            match step {
                Step::Says { number, device, delivered, read } => {
                    let cursor = cursor(number, device, position(delivered), position(read));
                    let taken = take(&mut board, now_ms, &state, &cursor);
                    let head = state.head.offset.get();
                    prop_assert_eq!(taken.is_ok(), delivered <= head && read <= head);
                    if taken.is_ok() {
                        let said = said.entry(number).or_default();
                        *said = (said.0.max(delivered).max(read), said.1.max(read));
                    }
                }
                Step::Grows => {
                    let next = state.head.offset.get() + 1;
                    let lsn = state.last.lsn.plus(1);
                    state.apply(&Record { lsn, ..entry(next) }).expect("it follows");
                }
                Step::Ends => {
                    // What is dirty is lost, and said again by those who said it.
                    board.forget(KEY.0);
                    for (number, (delivered, read)) in &said {
                        let cursor = cursor(*number, 0, position(*delivered), position(*read));
                        take(&mut board, now_ms, &state, &cursor).expect("it was taken before");
                    }
                }
                Step::Passes { ms, is_written } => {
                    now_ms += ms;
                    for key in board.due(now_ms) {
                        let cursors = board.settle(now_ms, key, Some(&state));
                        if is_written && !cursors.is_empty() {
                            prop_assert!(last_write_ms.is_none_or(|last| now_ms >= last + WRITE_EVERY_MS));
                            last_write_ms = Some(now_ms);
                            write(&mut state, cursors);
                        }
                    }
                }
            }
            for receipt in receipts(board.told(now_ms)) {
                let earlier = told.insert(receipt.user.clone(), receipt.clone());
                prop_assert!(earlier.is_none_or(|earlier| earlier.marks.read.offset <= receipt.marks.read.offset));
            }
        }
        for (number, (delivered, read)) in said {
            let marks = state.marks_of(&user(number));
            prop_assert_eq!((marks.delivered.offset.get(), marks.read.offset.get()), (delivered, read));
            if let Some(told) = told.get(&user(number)) {
                prop_assert_eq!(told.marks.delivered.offset, marks.delivered.offset);
                prop_assert_eq!(told.marks.read.offset, marks.read.offset);
            }
        }
    }
}
