//! How far the members of a chat have received and read it, device by device.
//!
//! # Invariants
//!
//! - It is folded from the log's records alone, so home, follower and a truncated copy have the same one.
//! - A mark only moves forward, and never past the head of the log: what a failover undid is read by nobody.
//! - Only members have marks. Of each at most [`DEVICES_PER_USER_MAX`] devices are told apart, and of none where there
//!   would be more than [`CURSORS_MAX`] in all; what is no longer told apart is kept together, as device 0.

use crate::fold::LogState;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use types::{DeviceCursor, DeviceId, Marks, UserId, chat::Member};

/// Devices of one user that are told apart.
pub const DEVICES_PER_USER_MAX: usize = 8;
/// Cursors of a log, of all users together.
pub const CURSORS_MAX: usize = 2_048;
/// Cursors that go along when a log is re-homed; if there are more, the devices of a user go as one.
const EXPORTED_MAX: usize = 512;
/// The devices of a user that are not told apart.
const OTHERS: DeviceId = DeviceId::new(0);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursors(BTreeMap<(UserId, DeviceId), Marks>);

impl Cursors {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody has received or read anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by user and device.
    pub fn iter(&self) -> impl Iterator<Item = (&UserId, DeviceId, &Marks)> {
        self.0.iter().map(|((user, device), marks)| (user, *device, marks))
    }

    /// How far a user has come, on whichever device.
    pub fn of(&self, user: &UserId) -> Marks {
        let mut all = Marks::default();
        for (_, marks) in self.devices_of(user) {
            all.raise(*marks);
        }
        all
    }

    /// How far a device has come at least: it may be one of those that are not told apart.
    pub fn of_device(&self, user: &UserId, device: DeviceId) -> Marks {
        let of = |device| self.0.get(&(user.clone(), device)).copied().unwrap_or_default();
        let mut marks = of(device);
        marks.raise(of(OTHERS));
        marks
    }

    fn devices_of(&self, user: &UserId) -> impl Iterator<Item = (DeviceId, &Marks)> {
        let from = Bound::Included((user.clone(), DeviceId::new(0)));
        let to = Bound::Included((user.clone(), DeviceId::new(u64::MAX)));
        self.0.range((from, to)).map(|((_, device), marks)| (*device, marks))
    }

    /// Moves a device forward.
    pub fn raise(&mut self, user: &UserId, device: DeviceId, marks: Marks) {
        if marks == Marks::default() {
            return;
        }
        self.0.entry((user.clone(), device)).or_default().raise(marks);
        while self.devices_of(user).count() > DEVICES_PER_USER_MAX {
            let told_apart = self.devices_of(user).filter(|(device, _)| *device != OTHERS);
            let Some((oldest, _)) = told_apart.min_by_key(|(device, marks)| (marks.delivered.at_ms, *device))
            else {
                return;
            };
            let Some(marks) = self.0.remove(&(user.clone(), oldest)) else { return };
            self.0.entry((user.clone(), OTHERS)).or_default().raise(marks);
        }
    }

    /// Forgets who is no member any more.
    pub(crate) fn forget(this: &mut Arc<Self>, gone: &[&UserId]) {
        if gone.iter().any(|user| this.devices_of(user).next().is_some()) {
            Arc::make_mut(this).0.retain(|(user, _), _| !gone.contains(&user));
        }
    }

    /// Tells the devices of no user apart any more, and forgets who is no member.
    fn collapse(&mut self, members: &BTreeMap<UserId, Member>) {
        let mut users = BTreeMap::<(UserId, DeviceId), Marks>::new();
        for ((user, _), marks) in std::mem::take(&mut self.0) {
            if members.contains_key(&user) {
                users.entry((user, OTHERS)).or_default().raise(marks);
            }
        }
        self.0 = users;
    }
}

impl FromIterator<DeviceCursor> for Cursors {
    fn from_iter<I: IntoIterator<Item = DeviceCursor>>(cursors: I) -> Self {
        let mut all = Self::default();
        for cursor in cursors {
            all.raise(&cursor.user, cursor.device, cursor.marks);
        }
        all
    }
}

impl LogState {
    /// Whether a cursor would move anything here.
    pub fn moves(&self, cursor: &DeviceCursor) -> bool {
        let marks = cursor.marks.clamped(self.head.offset);
        self.members.contains_key(&cursor.user)
            && self.cursors.of_device(&cursor.user, cursor.device).raise(marks)
    }

    pub(crate) fn take_cursors(&mut self, cursors: &[DeviceCursor]) {
        if !cursors.iter().any(|cursor| self.moves(cursor)) {
            return;
        }
        let table = Arc::make_mut(&mut self.cursors);
        for cursor in cursors.iter().filter(|cursor| self.members.contains_key(&cursor.user)) {
            table.raise(&cursor.user, cursor.device, cursor.marks.clamped(self.head.offset));
        }
        if table.len() > CURSORS_MAX {
            table.collapse(&self.members);
        }
    }

    /// The cursors that go along when the log is re-homed.
    pub(crate) fn export_cursors(&self) -> Vec<DeviceCursor> {
        let mut exported = self.cursors.clone();
        if exported.len() > EXPORTED_MAX {
            Arc::make_mut(&mut exported).collapse(&self.members);
        }
        let cursor = |(user, device, marks): (&UserId, _, &Marks)| DeviceCursor {
            user: user.clone(),
            device,
            marks: *marks,
        };
        exported.iter().map(cursor).collect()
    }

    /// How far a member has come, on whichever device.
    pub fn marks_of(&self, user: &UserId) -> Marks {
        self.cursors.of(user).clamped(self.head.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
    use types::{Epoch, Generation, Mark, MemberRole, Offset, Position};

    fn user(number: u16) -> UserId {
        UserId::new(&format!("user{number}")).expect("a valid name")
    }

    fn mark(offset: u64, at_ms: u64) -> Mark {
        Mark { offset: Offset::new(offset), at_ms }
    }

    fn cursor(number: u16, device: u64, offset: u64) -> DeviceCursor {
        DeviceCursor::read(user(number), DeviceId::new(device), Offset::new(offset), offset)
    }

    fn chat(members: u16, head: u64) -> LogState {
        let member = |number| (user(number), Member::since(MemberRole::Member, Offset::FIRST));
        LogState {
            head: Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(head)),
            members: Arc::new((0..members).map(member).collect()),
            ..LogState::default()
        }
    }

    #[test]
    fn nothing_is_read_past_the_head_and_nothing_by_strangers() {
        let mut state = chat(1, 5);
        state.take_cursors(&[cursor(0, 1, 9), cursor(1, 1, 3)]);
        assert_eq!(state.marks_of(&user(0)).read, mark(5, 9));
        assert_eq!((state.cursors.len(), state.marks_of(&user(1))), (1, Marks::default()));
    }

    #[test]
    fn a_device_too_many_is_kept_together_with_others() {
        let mut state = chat(1, 100);
        for device in 1..=DEVICES_PER_USER_MAX as u64 + 3 {
            state.take_cursors(&[cursor(0, device, 50 - device)]);
        }
        assert_eq!(state.cursors.len(), DEVICES_PER_USER_MAX);
        assert_eq!(state.marks_of(&user(0)).read.offset, Offset::new(49));
        assert!(!state.moves(&cursor(0, 1_000, 2)), "it may be one of those that are not told apart");
    }

    #[test]
    fn a_crowd_is_told_apart_by_user_only() {
        let (members, devices) = (300, 7);
        let mut state = chat(members, 100);
        for device in 1..=devices {
            let cursors: Vec<_> = (0..members).map(|number| cursor(number, device, device)).collect();
            state.take_cursors(&cursors);
            assert!(state.cursors.len() <= CURSORS_MAX);
        }
        assert_eq!(state.cursors.len(), usize::from(members));
        assert_eq!(state.marks_of(&user(members - 1)).read.offset, Offset::new(devices));
        assert!(state.export_cursors().len() <= EXPORTED_MAX);
    }

    fn marks() -> impl Strategy<Value = Marks> {
        let mark = || (0_u64..40, 0_u64..9).prop_map(|(offset, at_ms)| mark(offset, at_ms));
        (mark(), mark(), any::<bool>()).prop_map(|(delivered, read, hides_read)| Marks {
            delivered,
            read,
            hides_read,
        })
    }

    proptest! {
        #[test]
        fn the_order_of_cursors_and_their_repetition_do_not_matter(
            cursors in prop::collection::vec((0_u16..3, 0_u64..4, marks()), 0..40),
            turn in any::<prop::sample::Index>(),
        ) {
            let cursors: Vec<_> = cursors.into_iter().map(|(number, device, marks)| DeviceCursor {
                user: user(number), device: DeviceId::new(device), marks,
            }).collect();
            let mut turned = cursors.clone();
            if !turned.is_empty() {
                turned.rotate_left(turn.index(cursors.len()));
            }
            turned.extend(cursors.iter().cloned());
            let (mut one, mut other) = (chat(2, 30), chat(2, 30));
            cursors.iter().for_each(|cursor| one.take_cursors(std::slice::from_ref(cursor)));
            other.take_cursors(&turned);
            for number in 0..3 {
                let (a, b) = (one.marks_of(&user(number)), other.marks_of(&user(number)));
                prop_assert_eq!(a.read.offset, b.read.offset);
                prop_assert_eq!(a.delivered.offset, b.delivered.offset);
                prop_assert!(a.delivered.offset >= a.read.offset && a.delivered.offset <= Offset::new(30));
            }
            prop_assert!(!cursors.iter().any(|cursor| one.moves(cursor)), "all of it is there");
        }
    }
}
