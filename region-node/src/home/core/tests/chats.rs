//! Chats change: who may, what races, and what becomes of messages that refer to others.

use super::*;
use proptest::prelude::*;
use types::{
    Entry, Refusal,
    chat::{About, ChatChange, InviteHash, MemberChange, MessageKind, NewInvite, Reference, SettingsChange},
};

use MemberRole::{Admin, Member, Owner};

const SECRET: InviteHash = InviteHash([7; 32]);

fn members(changes: &[(&str, Option<MemberRole>)]) -> ChatChange {
    let change = |(name, role): &(&str, _)| MemberChange { user: user(name), role: *role };
    ChatChange::Members(changes.iter().map(change).collect())
}

fn invite(uses_max: u32, lifetime_ms: u64) -> ChatChange {
    ChatChange::InviteMade(NewInvite { hash: SECRET, lifetime_ms, uses_max })
}

fn settings(change: SettingsChange) -> ChatChange {
    ChatChange::Settings(change)
}

/// A group of ann, who owns it, ben, an admin, and cem and dan, and what is asked of it.
struct Group {
    world: World,
    next: u8,
}

impl Group {
    fn new() -> Self {
        let mut group = Self { world: World::with_chat(), next: 0 };
        let members = [("ann", Owner), ("ben", Admin), ("cem", Member), ("dan", Member)];
        let members = members.into_iter().map(|(name, role)| (user(name), role)).collect();
        let created = EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: vec![] };
        group.ok(("ann", created));
        group
    }

    fn write(&mut self, (name, body): (&str, EntryBody)) -> Write {
        self.next += 1;
        Write { sender: user(name), ..write(log(2), self.next, body, AckPolicy::Home, None) }
    }

    fn ask(&mut self, write: Write) -> Ticket {
        let ticket = self.world.append(write);
        self.world.load_all();
        ticket
    }

    fn settle(&mut self) {
        self.world.sync(usize::MAX);
        self.world.report(0, 1_000);
    }

    /// What becomes of a write that is brought to its end.
    fn outcome(&mut self, write: Write) -> Result<Acked, Code> {
        let ticket = self.ask(write);
        self.settle();
        match self.world.answered.get(&ticket) {
            Some(Ok(acked)) => Ok(*acked),
            Some(Err(WriteError::Refused(Refusal { code, .. }))) => Err(*code),
            other => panic!("not answered: {other:?}"),
        }
    }

    fn try_body(&mut self, said: (&str, EntryBody)) -> Result<Acked, Code> {
        let write = self.write(said);
        self.outcome(write)
    }

    fn ok(&mut self, said: (&str, EntryBody)) -> Acked {
        self.try_body(said).expect("it is acked")
    }

    fn change(&mut self, name: &str, change: ChatChange) -> Result<Acked, Code> {
        self.try_body((name, EntryBody::Chat(Box::new(change))))
    }

    fn refused(&mut self, name: &str, of: ChatChange) -> Code {
        self.change(name, of).expect_err("it is refused")
    }

    fn state(&self) -> LogState {
        let mut state = LogState::default();
        for record in self.world.store.iter().filter(|record| record.log == log(2)) {
            state.apply(record).expect("it follows");
        }
        state
    }

    fn roles(&self) -> Vec<(String, MemberRole)> {
        self.state().members.iter().map(|(user, member)| (user.to_string(), member.role)).collect()
    }

    fn last(&self) -> Entry {
        self.world.store.last().and_then(Record::entry).expect("an entry").clone()
    }
}

fn key(name: &str, number: u8) -> DedupKey {
    DedupKey { sender: user(name), device: DeviceId::new(1), message_id: MessageId::from_bytes([number; 16]) }
}

fn about(kind: MessageKind, to: Option<DedupKey>) -> Option<Box<About>> {
    let refers_to = to.map(|key| Reference { key, offset: Offset::ZERO });
    Some(Box::new(About { kind, refers_to }))
}

#[test]
fn a_change_is_acked_only_when_it_is_replicated() {
    let mut group = Group::new();
    let added = group.write(("ann", EntryBody::Chat(Box::new(members(&[("eva", Some(Member))])))));
    let ticket = group.ask(added.clone());
    group.world.sync(usize::MAX);
    assert!(!group.world.answered.contains_key(&ticket), "it is durable at home, and that is not enough");
    group.world.report(0, 1_000);
    assert_eq!(group.world.ok(ticket).ack, AckPolicy::Replicated);
    let again = group.outcome(added.clone()).expect("a retry finds it");
    assert_eq!(again.position, group.world.ok(ticket).position);
    let other = Write { body: EntryBody::Chat(Box::new(members(&[("fay", Some(Member))]))), ..added };
    assert_eq!(group.outcome(other), Err(Code::MessageIdReused));
}

#[test]
fn strangers_and_members_and_admins_may_what_their_role_lets_them() {
    let named = || SettingsChange { name: Some("sealed".into()), ..SettingsChange::default() };
    let governed = || SettingsChange { inviters: Some(Member), ..SettingsChange::default() };
    let asked: [(ChatChange, [bool; 4]); 9] = [
        // What is asked, and whether a stranger, a member, an admin and an owner get it.
        (members(&[("eva", Some(Member))]), [false, false, true, true]),
        (members(&[("eva", Some(Admin))]), [false, false, false, true]),
        (members(&[("dan", None)]), [false, false, true, true]),
        (members(&[("ann2", None)]), [false, false, false, true]),
        (members(&[("dan", Some(Admin))]), [false, false, false, true]),
        (members(&[("dan", None), ("eva", Some(Member))]), [false, false, true, true]),
        (settings(named()), [false, false, true, true]),
        (settings(governed()), [false, false, false, true]),
        (invite(1, 1_000), [false, false, true, true]),
    ];
    for (change, expected) in asked {
        for (name, expected) in ["zoe", "cem", "ben", "ann"].into_iter().zip(expected) {
            let mut group = Group::new();
            group.change("ann", members(&[("ann2", Some(Owner))])).expect("an owner may");
            let got = group.change(name, change.clone());
            assert_eq!(got.is_ok(), expected, "{name}: {change:?}");
            assert!(got.is_ok() || got == Err(Code::Forbidden), "{name}: {change:?}: {got:?}");
        }
    }
}

#[test]
fn of_two_admins_who_remove_each_other_the_first_counts() {
    let mut group = Group::new();
    group.change("ann", members(&[("cem", Some(Admin))])).expect("an owner may");
    // Admins do not remove each other: ann makes both owners first.
    group.change("ann", members(&[("cem", Some(Owner)), ("ben", Some(Owner))])).expect("an owner may");
    let first = group.write(("ben", EntryBody::Chat(Box::new(members(&[("cem", None)])))));
    let second = group.write(("cem", EntryBody::Chat(Box::new(members(&[("ben", None)])))));
    let (won, lost) = (group.ask(first), group.ask(second));
    assert!(!group.world.answered.contains_key(&won), "both are judged before either is durable");
    group.settle();
    assert_eq!(group.world.ok(won).ack, AckPolicy::Replicated);
    assert_eq!(group.world.refused(lost), Code::Forbidden);
    assert_eq!(group.roles(), [("ann", Owner), ("ben", Owner), ("dan", Member)].map(|(a, b)| (a.into(), b)));
}

#[test]
fn two_who_add_the_same_user_and_two_who_remove_one_leave_one_entry() {
    let mut group = Group::new();
    for change in [members(&[("eva", Some(Member))]), members(&[("eva", None)])] {
        let first = group.write(("ann", EntryBody::Chat(Box::new(change.clone()))));
        let second = group.write(("ben", EntryBody::Chat(Box::new(change))));
        let (won, lost) = (group.ask(first), group.ask(second));
        group.settle();
        group.world.ok(won);
        assert_eq!(group.world.refused(lost), Code::Conflict);
    }
}

#[test]
fn who_is_removed_writes_nothing_that_is_sequenced_behind_it() {
    let mut group = Group::new();
    let removal = group.write(("ann", EntryBody::Chat(Box::new(members(&[("cem", None)])))));
    let said = group.write(("cem", message(1)));
    let (removed, refused) = (group.ask(removal), group.ask(said));
    group.settle();
    group.world.ok(removed);
    assert_eq!(group.world.refused(refused), Code::Forbidden);
    assert_eq!(group.state().left_at(&user("cem")), Some(Offset::new(2)));
    assert_eq!(group.refused("cem", members(&[("cem", None)])), Code::Forbidden, "and does not leave again");
}

#[test]
fn anyone_leaves_and_steps_down_and_the_last_owner_is_followed() {
    let mut group = Group::new();
    group.change("cem", members(&[("cem", None)])).expect("a member leaves");
    group.change("ben", members(&[("ben", Some(Member))])).expect("an admin steps down");
    assert_eq!(group.refused("ben", members(&[("ben", Some(Admin))])), Code::Forbidden);
    group.change("ann", members(&[("ann", None)])).expect("the owner leaves");
    assert_eq!(group.roles(), [("ben", Owner), ("dan", Member)].map(|(a, b)| (a.into(), b)));
}

#[test]
fn a_group_has_so_many_members_and_no_more() {
    let mut group = Group::new();
    let too_many = members(&[("eva", Some(Member)), ("fay", Some(Member)), ("gus", Some(Member))]);
    assert_eq!(group.refused("ann", too_many), Code::TooLarge);
    group.change("ann", members(&[("eva", Some(Member)), ("fay", Some(Member))])).expect("there is room");
    assert_eq!(group.refused("ann", members(&[("gus", Some(Member))])), Code::TooLarge);
    let swap = members(&[("fay", None), ("gus", Some(Member))]);
    group.change("ann", swap).expect("one comes for one who goes");
    group.change("ann", invite(1, 1_000)).expect("an owner may");
    assert_eq!(group.refused("hal", ChatChange::Joined(SECRET)), Code::TooLarge);
    group.change("ann", members(&[("gus", None)])).expect("an owner may");
    group.change("hal", ChatChange::Joined(SECRET)).expect("there is room again");
}

#[test]
fn what_is_badly_formed_is_named() {
    let mut group = Group::new();
    for bad in [
        members(&[]),
        members(&[("dan", None), ("dan", Some(Admin))]),
        settings(SettingsChange::default()),
        settings(SettingsChange { expiry_ms: Some(999), ..SettingsChange::default() }),
        invite(0, 1_000),
        invite(1, 0),
    ] {
        assert_eq!(group.refused("ann", bad.clone()), Code::BadRequest, "{bad:?}");
    }
    assert_eq!(group.refused("ann", members(&[("dan", Some(Member))])), Code::Conflict, "it is so already");
    assert_eq!(group.refused("ann", members(&[("eva", None)])), Code::Conflict, "she is not there");
}

#[test]
fn an_invite_lets_in_until_it_is_over() {
    let mut group = Group::new();
    assert_eq!(group.refused("eva", ChatChange::Joined(SECRET)), Code::UnknownInvite);
    group.change("ben", invite(1, 1_000)).expect("an admin may");
    assert_eq!(group.refused("ann", invite(1, 1_000)), Code::Conflict, "the secret is taken");
    assert_eq!(group.refused("dan", ChatChange::Joined(SECRET)), Code::Conflict, "he is a member");
    // Two who come by the last use at once.
    let first = group.write(("eva", EntryBody::Chat(Box::new(ChatChange::Joined(SECRET)))));
    let second = group.write(("fay", EntryBody::Chat(Box::new(ChatChange::Joined(SECRET)))));
    let (won, lost) = (group.ask(first), group.ask(second));
    group.settle();
    group.world.ok(won);
    assert_eq!(group.world.refused(lost), Code::UnknownInvite);
    group.ok(("eva", message(1)));
    group.change("ben", invite(5, 1_000)).expect("an admin may");
    group.world.time(1_000);
    group.world.lease_until_ms += 1_000;
    assert_eq!(group.refused("fay", ChatChange::Joined(SECRET)), Code::UnknownInvite, "its time is over");
}

#[test]
fn an_invite_is_revoked_by_its_maker_and_by_admins() {
    let mut group = Group::new();
    let let_members = SettingsChange { inviters: Some(Member), ..SettingsChange::default() };
    group.change("ann", settings(let_members)).expect("an owner may");
    for (by, expected) in
        [("cem", Ok(())), ("dan", Err(Code::Forbidden)), ("ben", Ok(())), ("zoe", Err(Code::Forbidden))]
    {
        if group.state().chat.is_none_or(|chat| chat.invites.is_empty()) {
            group.change("cem", invite(1, 1_000)).expect("members may now");
        }
        let revoked = group.change(by, ChatChange::InviteRevoked(SECRET)).map(drop);
        assert_eq!(revoked, expected, "{by}");
    }
}

#[test]
fn where_only_admins_write_a_member_does_not() {
    let mut group = Group::new();
    let quiet = SettingsChange { writers: Some(Admin), ..SettingsChange::default() };
    group.change("ann", settings(quiet)).expect("an owner may");
    assert_eq!(group.try_body(("cem", message(1))), Err(Code::Forbidden));
    group.ok(("ben", message(1)));
}

#[test]
fn only_the_author_edits_and_only_what_is_there() {
    let mut group = Group::new();
    let said = group.write(("cem", message(1)));
    let number = said.message_id.as_bytes()[0];
    group.outcome(said).expect("it is acked");
    let edit = |group: &mut Group, by: &str, of: DedupKey| {
        let beside = Beside { about: about(MessageKind::Edit, Some(of)), deletes: vec![] };
        let edit = Write { beside, ..group.write((by, message(2))) };
        group.outcome(edit)
    };
    edit(&mut group, "cem", key("cem", number)).expect("the author may");
    assert_eq!(group.last().about, about(MessageKind::Edit, Some(key("cem", number))));
    assert_eq!(edit(&mut group, "ann", key("cem", number)), Err(Code::Forbidden));
    assert_eq!(edit(&mut group, "ann", key("ann", number)), Err(Code::UnknownMessage));
    assert_eq!(edit(&mut group, "cem", key("cem", 250)), Err(Code::UnknownMessage));
    let nothing = Beside { about: about(MessageKind::Edit, None), deletes: vec![] };
    let nothing = Write { beside: nothing, ..group.write(("cem", message(2))) };
    assert_eq!(group.outcome(nothing), Err(Code::BadRequest));
    let reaction = Beside { about: about(MessageKind::Reaction, Some(key("cem", number))), deletes: vec![] };
    for (by, expected) in [("dan", true), ("zoe", false)] {
        let reaction = Write { beside: reaction.clone(), ..group.write((by, message(3))) };
        assert_eq!(group.outcome(reaction).is_ok(), expected, "{by}");
    }
}

#[test]
fn authors_delete_their_own_and_admins_everything() {
    let mut group = Group::new();
    let mut number = || {
        let said = group.write(("cem", message(1)));
        let number = said.message_id.as_bytes()[0];
        (number, group.outcome(said).expect("it is acked").position.offset)
    };
    let (first, second) = (number(), number());
    let delete = |group: &mut Group, by: &str, of: &[DedupKey]| {
        let beside = Beside { about: None, deletes: of.to_vec() };
        let body = EntryBody::Deleted { offsets: vec![] };
        let deletion = Write { beside, ..group.write((by, body)) };
        (deletion.clone(), group.outcome(deletion))
    };
    for (by, expected) in [("dan", Code::Forbidden), ("zoe", Code::Forbidden)] {
        assert_eq!(delete(&mut group, by, &[key("cem", first.0)]).1, Err(expected), "{by}");
    }
    assert_eq!(delete(&mut group, "cem", &[key("cem", 250)]).1, Err(Code::UnknownMessage));
    let (asked, own) = delete(&mut group, "cem", &[key("cem", second.0), key("cem", first.0)]);
    let own = own.expect("the author may");
    assert_eq!(group.last().body, EntryBody::Deleted { offsets: vec![first.1, second.1] });
    assert_eq!(group.outcome(asked).expect("a retry finds it").position, own.position);
    delete(&mut group, "ben", &[key("cem", first.0)]).1.expect("an admin may");
    group.change("ann", members(&[("cem", None)])).expect("an owner may");
    assert_eq!(delete(&mut group, "cem", &[key("cem", first.0)]).1, Err(Code::Forbidden), "he has left");
}

#[test]
fn messages_expire_as_the_chat_says_when_they_are_written() {
    let mut group = Group::new();
    let timer = |ms| settings(SettingsChange { expiry_ms: Some(ms), ..SettingsChange::default() });
    group.ok(("cem", message(1)));
    assert_eq!(group.last().expires_at_ms, None);
    group.change("ben", timer(5_000)).expect("an admin may");
    assert_eq!(group.last().expires_at_ms, None, "what is folded does not expire");
    let said = group.ok(("cem", message(2)));
    assert_eq!(group.last().expires_at_ms, Some(said.accepted_at_ms + 5_000));
    let at_ms = Some(group.world.now.wall_ms + 700);
    let write = group.write(("cem", message(3)));
    group.outcome(Write { expires_at_ms: at_ms, ..write }).expect("it is acked");
    assert_eq!(group.last().expires_at_ms, at_ms, "what has a time of its own keeps it");
    group.change("ben", timer(0)).expect("an admin may");
    group.ok(("cem", message(4)));
    assert_eq!(group.last().expires_at_ms, None);
}

#[test]
fn a_direct_chat_takes_an_expiry_and_nothing_else() {
    let mut world = World::with_chat();
    let direct = LogId::direct(&user("alice"), &user("bob"));
    let members_of = [user("alice"), user("bob")].map(|user| (user, Member)).to_vec();
    let created =
        EntryBody::Created { members: members_of, ack_policy: AckPolicy::Home, allowed_regions: vec![] };
    let mut ask = |number, body| {
        let ticket = world.append(write(direct, number, body, AckPolicy::Home, None));
        world.load_all();
        world.sync(usize::MAX);
        world.report(0, 1_000);
        world.answered[&ticket].clone().map_err(|error| match error {
            WriteError::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        })
    };
    ask(1, created).expect("it is opened");
    let timer = SettingsChange { expiry_ms: Some(5_000), ..SettingsChange::default() };
    let named = SettingsChange { name: Some("x".into()), ..timer.clone() };
    let chat = |change| EntryBody::Chat(Box::new(change));
    ask(2, chat(settings(timer))).expect("both may");
    let refused = [settings(named), members(&[("eva", Some(Member))]), invite(1, 1_000)];
    for (number, change) in (3..).zip(refused) {
        assert_eq!(ask(number, chat(change)).map(drop), Err(Code::BadRequest));
    }
}

#[test]
fn of_what_was_never_acked_only_removals_come_back_and_only_of_who_is_untouched() {
    let mut group = Group::new();
    let put_back = |group: &mut Group, by: &str, change: ChatChange, epoch: u64| {
        let era = (Generation::FIRST, Epoch::new(epoch));
        let salvage = Some(Salvaged { era, ..Salvaged::default() });
        let write = Write { salvage, ..group.write((by, EntryBody::Chat(Box::new(change)))) };
        group.outcome(write)
    };
    let (before, now) = (EPOCH.get() - 1, EPOCH.get());
    assert_eq!(put_back(&mut group, "ann", members(&[("eva", Some(Member))]), now), Err(Code::BadRequest));
    assert_eq!(put_back(&mut group, "ann", settings(SettingsChange::default()), now), Err(Code::BadRequest));
    assert_eq!(put_back(&mut group, "ann", members(&[("cem", None)]), before), Err(Code::Conflict));
    assert_eq!(put_back(&mut group, "dan", members(&[("cem", None)]), now), Err(Code::Forbidden));
    put_back(&mut group, "ann", members(&[("cem", None)]), now).expect("nobody has touched him since");
    assert_eq!(put_back(&mut group, "ann", members(&[("cem", None)]), now), Err(Code::Conflict));
}

/// What somebody does, by numbers.
type Step = (u8, u8, u8, u8);

fn any_change((_, what, whom, role): Step) -> ChatChange {
    let whom = ["ann", "ben", "cem", "dan", "eva"][usize::from(whom % 5)];
    let role = [None, Some(Member), Some(Admin), Some(Owner)][usize::from(role % 4)];
    match what {
        0..6 => members(&[(whom, role)]),
        6 => invite(2, 1_000),
        7 => ChatChange::Joined(SECRET),
        8 => ChatChange::InviteRevoked(SECRET),
        _ => settings(SettingsChange { inviters: role, expiry_ms: Some(0), ..SettingsChange::default() }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever asks for whatever, any number at a time: nobody gains by racing, since each is judged as if all before
    /// it stood alone.
    #[test]
    fn what_races_ends_as_if_each_had_waited_for_the_one_before(
        steps in proptest::collection::vec((0..5u8, 0..10u8, 0..5u8, 0..4u8), 1..24),
        together in 1..6usize,
    ) {
        let (mut racing, mut waiting) = (Group::new(), Group::new());
        let mut asked = Vec::new();
        for chunk in steps.chunks(together) {
            for step in chunk {
                let by = ["ann", "ben", "cem", "dan", "eva"][usize::from(step.0)];
                let change = any_change(*step);
                let write = racing.write((by, EntryBody::Chat(Box::new(change.clone()))));
                let ticket = racing.ask(write);
                asked.push((ticket, waiting.change(by, change)));
            }
            racing.settle();
        }
        for (ticket, alone) in asked {
            let raced = match &racing.world.answered[&ticket] {
                Ok(acked) => Ok(acked.position),
                Err(WriteError::Refused(refusal)) => Err(refusal.code),
                Err(other) => panic!("{other:?}"),
            };
            prop_assert_eq!(raced, alone.map(|acked| acked.position));
        }
        prop_assert_eq!(racing.roles(), waiting.roles());
        let owners = racing.roles().into_iter().filter(|(_, role)| *role == Owner).count();
        prop_assert!(owners > 0 || racing.roles().is_empty());
    }
}
