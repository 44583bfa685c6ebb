//! What changes add up to, one by one and under any sequence.

use super::*;
use proptest::prelude::*;
use types::{
    AckPolicy, Body, DeviceCursor, DeviceId, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Record,
    StateUpdate,
    chat::{InviteHash, NewInvite},
};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// A chat and what is said in it, each entry a ms later.
struct Group {
    state: LogState,
    lsn: u64,
    log: LogId,
}

impl Group {
    fn of(members: &[(&str, MemberRole)]) -> Self {
        let members = members.iter().map(|(name, role)| (user(name), *role)).collect();
        let mut group = Self { state: LogState::default(), lsn: 0, log: LogId::group([1; 16]) };
        let created =
            EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: Vec::new() };
        group.say("ann", created);
        group
    }

    fn record(&mut self, body: Body) {
        self.lsn += 1;
        let record = Record {
            lsn: Lsn::new(self.lsn),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            log: self.log,
            accepted_at_ms: self.lsn,
            body,
        };
        self.state.apply(&record).expect("it follows");
    }

    fn say(&mut self, sender: &str, body: EntryBody) {
        let entry = Entry {
            offset: self.state.head.offset.plus(1),
            sender: user(sender),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([self.lsn as u8; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body,
        };
        self.record(Body::Entry(entry));
    }

    fn change(&mut self, sender: &str, change: ChatChange) {
        self.say(sender, EntryBody::Chat(Box::new(change)));
    }

    fn members(&mut self, changes: &[(&str, Option<MemberRole>)]) {
        let change = |(name, role): &(&str, _)| MemberChange { user: user(name), role: *role };
        self.change("ann", ChatChange::Members(changes.iter().map(change).collect()));
    }

    fn roles(&self) -> Vec<(&str, MemberRole)> {
        self.state.members.iter().map(|(user, member)| (user.as_str(), member.role)).collect()
    }

    fn left(&self, name: &str) -> Option<u64> {
        self.state.left_at(&user(name)).map(Offset::get)
    }
}

use MemberRole::{Admin, Member as Plain, Owner};

#[test]
fn who_goes_reads_up_to_there_and_who_comes_back_reads_on() {
    let mut group = Group::of(&[("ann", Owner), ("ben", Plain)]);
    let cursor =
        |user| StateUpdate::Cursors(vec![DeviceCursor::read(user, DeviceId::new(1), Offset::FIRST, 1)]);
    group.record(Body::Update(cursor(user("ben"))));
    group.record(Body::Update(cursor(user("ann"))));
    group.members(&[("ben", None), ("cem", Some(Plain))]);
    assert_eq!(group.roles(), [("ann", Owner), ("cem", Plain)]);
    assert_eq!((group.left("ben"), group.left("ann"), group.left("stranger")), (Some(2), None, None));
    assert_eq!(group.state.cursors.len(), 1, "what ben has read is of no use any more");
    assert_eq!(group.state.members[&user("cem")], Member::since(Plain, Offset::new(2)));
    group.members(&[("ben", Some(Admin))]);
    assert_eq!(group.left("ben"), None);
    assert_eq!(group.state.members[&user("ben")], Member::since(Admin, Offset::new(3)));
    group.members(&[("ben", Some(Plain))]);
    let demoted = Member { role: Plain, joined_at: Offset::new(3), changed_at: Offset::new(4) };
    assert_eq!(group.state.members[&user("ben")], demoted);
}

#[test]
fn the_last_owner_is_followed_by_who_has_been_there_longest() {
    let mut group = Group::of(&[("ann", Owner), ("zoe", Plain)]);
    group.members(&[("ben", Some(Admin))]);
    group.members(&[("abe", Some(Admin))]);
    group.members(&[("ann", None)]);
    assert_eq!(group.roles(), [("abe", Admin), ("ben", Owner), ("zoe", Plain)], "an admin comes first");
    group.members(&[("abe", None), ("ben", Some(Plain))]);
    assert_eq!(group.roles(), [("ben", Plain), ("zoe", Owner)]);
    group.members(&[("ben", None)]);
    group.members(&[("zoe", None)]);
    assert_eq!((group.roles(), group.left("zoe")), (vec![], Some(7)), "nobody is left, and nobody owns it");
}

#[test]
fn the_last_who_left_are_remembered() {
    let mut group = Group::of(&[("ann", Owner)]);
    for number in 0..LEFT_MAX + 2 {
        let name = format!("u{number}");
        group.members(&[(&name, Some(Plain))]);
        group.members(&[(&name, None)]);
    }
    assert_eq!(group.state.chat.as_ref().map(|chat| chat.left.len()), Some(LEFT_MAX));
    assert_eq!((group.left("u0"), group.left("u1"), group.left("u2")), (None, None, Some(7)));
}

#[test]
fn an_invite_is_used_so_often_and_so_long() {
    let mut group = Group::of(&[("ann", Owner)]);
    let (hash, late) = (InviteHash([1; 32]), InviteHash([2; 32]));
    let new = |hash, lifetime_ms| ChatChange::InviteMade(NewInvite { hash, lifetime_ms, uses_max: 2 });
    group.change("ann", new(hash, 100));
    let invite = &group.state.chat.as_ref().expect("it has changed").invites[&hash];
    assert_eq!((invite.expires_at_ms, invite.uses, &invite.made_by), (102, 0, &user("ann")));
    group.change("ben", ChatChange::Joined(hash));
    group.change("cem", ChatChange::Joined(hash));
    assert_eq!(group.roles(), [("ann", Owner), ("ben", Plain), ("cem", Plain)]);
    assert_eq!(group.state.chat.as_ref().expect("changed").invites.len(), 0, "it is used up");
    group.change("ann", new(hash, 1));
    group.change("ann", new(late, 100));
    let invites = || group.state.chat.as_ref().expect("changed").invites.keys().copied();
    assert_eq!(invites().collect::<Vec<_>>(), [late], "what is over leaves when another comes");
    group.change("ann", ChatChange::InviteRevoked(late));
    assert!(group.state.chat.as_ref().expect("changed").invites.is_empty());
}

#[test]
fn what_a_change_of_the_terms_does_not_name_stays() {
    let mut group = Group::of(&[("ann", Owner)]);
    let named = SettingsChange { name: Some("sealed".into()), expiry_ms: Some(5_000), ..Default::default() };
    group.change("ann", ChatChange::Settings(named));
    group.change("ann", ChatChange::Settings(SettingsChange { inviters: Some(Plain), ..Default::default() }));
    let expected =
        Settings { name: "sealed".into(), expiry_ms: 5_000, inviters: Plain, ..Settings::default() };
    assert_eq!(*group.state.settings(), expected);
    let off = SettingsChange { name: Some("".into()), expiry_ms: Some(0), ..Default::default() };
    group.change("ann", ChatChange::Settings(off));
    assert_eq!(*group.state.settings(), Settings { inviters: Plain, ..Settings::default() });
}

proptest! {
    #[test]
    fn under_any_changes_somebody_owns_the_chat_and_nobody_is_both_in_and_out(
        changes in proptest::collection::vec(proptest::collection::vec((0..6u8, 0..4u8), 1..4), 0..40)
    ) {
        let mut group = Group::of(&[("ann", Owner), ("u1", Plain)]);
        for change in changes {
            let name = |number: u8| format!("u{number}");
            let names: Vec<_> = change.iter().map(|(who, _)| name(*who)).collect();
            let role = |role: u8| [None, Some(Plain), Some(Admin), Some(Owner)][usize::from(role)];
            let changes: Vec<_> = names.iter().zip(&change).map(|(name, (_, to))| (&**name, role(*to))).collect();
            group.members(&changes);
            let members = &group.state.members;
            let owners = members.values().filter(|member| member.role == Owner).count();
            prop_assert!(members.is_empty() || owners > 0);
            let left = &group.state.chat.as_ref().expect("it has changed").left;
            prop_assert!(left.keys().all(|user| !members.contains_key(user)));
            prop_assert!(members.values().all(|member| member.joined_at <= member.changed_at));
        }
    }
}

/// A direct chat that ann has opened with ben.
fn direct() -> Group {
    let (ann, ben) = (user("ann"), user("ben"));
    let mut direct = Group { state: LogState::default(), lsn: 0, log: LogId::direct(&ann, &ben) };
    let members = vec![(ann, MemberRole::Admin), (ben, MemberRole::Admin)];
    let created = EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: Vec::new() };
    direct.say("ann", created);
    direct
}

#[test]
fn a_direct_chat_is_a_request_until_the_other_one_has_written_whatever_was_erased_since() {
    let message = || EntryBody::Message { ciphertext: bytes::Bytes::from_static(b"hi") };
    let erased = || EntryBody::Erased { hash: message().hash() };
    let asks =
        |chat: &Group| (chat.state.is_request_to(&user("ben")), chat.state.is_request_to(&user("ann")));
    let mut chat = direct();
    assert_eq!(asks(&chat), (true, false));
    chat.say("ann", message());
    chat.say("ann", erased());
    assert_eq!(asks(&chat), (true, false), "who asks may say more");
    chat.say("ben", message());
    assert_eq!((asks(&chat), &chat.state.chat), ((false, false), &None), "and nothing is kept of it");
    let mut chat = direct();
    chat.say("ben", erased());
    assert_eq!(asks(&chat), (false, false));
    let group = Group::of(&[("ann", MemberRole::Owner), ("ben", MemberRole::Member)]);
    assert_eq!(asks(&group), (false, false), "a group asks for nothing");
}
