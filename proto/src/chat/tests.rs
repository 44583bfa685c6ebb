//! Everything survives its bytes, and what is outside its bounds is named.

use super::*;
use proptest::prelude::*;
use types::{DeviceId, LogId, MessageId};

fn user_at(number: u8) -> UserId {
    UserId::new(&format!("user-{number}")).expect("a valid name")
}

fn any_role() -> impl Strategy<Value = MemberRole> {
    prop_oneof![Just(MemberRole::Member), Just(MemberRole::Admin), Just(MemberRole::Owner)]
}

fn any_hash() -> impl Strategy<Value = InviteHash> {
    any::<[u8; 32]>().prop_map(InviteHash)
}

fn any_avatar() -> impl Strategy<Value = Option<MediaId>> {
    proptest::option::of("[a-z0-9]{1,20}").prop_map(|id| id.map(|id| MediaId::new(&id).expect("a valid id")))
}

prop_compose! {
    fn any_settings_change()(
        name in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        avatar in proptest::option::of(any_avatar()),
        expiry_ms in proptest::option::of(any::<u64>()),
        inviters in proptest::option::of(any_role()),
        writers in proptest::option::of(any_role()),
    ) -> SettingsChange {
        SettingsChange { name: name.map(Into::into), avatar, expiry_ms, inviters, writers }
    }
}

fn any_change() -> impl Strategy<Value = ChatChange> {
    let member = (any::<u8>(), proptest::option::of(any_role()))
        .prop_map(|(user, role)| MemberChange { user: user_at(user), role });
    prop_oneof![
        proptest::collection::vec(member, 1..5).prop_map(ChatChange::Members),
        any_settings_change().prop_map(ChatChange::Settings),
        (any_hash(), any::<u64>(), any::<u32>()).prop_map(|(hash, lifetime_ms, uses_max)| {
            ChatChange::InviteMade(NewInvite { hash, lifetime_ms, uses_max })
        }),
        any_hash().prop_map(ChatChange::InviteRevoked),
        any_hash().prop_map(ChatChange::Joined),
    ]
}

prop_compose! {
    fn any_chat()(
        name in proptest::collection::vec(any::<u8>(), 0..20),
        (avatar, inviters, writers) in (any_avatar(), any_role(), any_role()),
        expiry_ms in any::<u64>(),
        left in proptest::collection::btree_map(any::<u8>(), any::<u64>(), 0..5),
        invites in proptest::collection::btree_map(any_hash(), (any::<u8>(), any::<[u64; 3]>()), 0..4),
        blocked_by in proptest::collection::btree_set(any::<u8>(), 0..=2),
        request_of in proptest::option::of(any::<u8>()),
    ) -> Chat {
        let invite = |(made_by, [expires_at_ms, uses_max, uses]): (u8, [u64; 3])| Invite {
            made_by: user_at(made_by), expires_at_ms, uses_max: uses_max as u32, uses: uses as u32,
        };
        Chat {
            settings: Settings { name: name.into(), avatar, expiry_ms, inviters, writers },
            left: left.into_iter().map(|(user, at)| (user_at(user), Offset::new(at))).collect(),
            invites: invites.into_iter().map(|(hash, parts)| (hash, invite(parts))).collect(),
            blocked_by: blocked_by.into_iter().map(user_at).collect(),
            request_of: request_of.map(user_at),
        }
    }
}

proptest! {
    #[test]
    fn a_change_survives_its_bytes(change in any_change()) {
        let wire = log::ChatChange::decode(encode_chat_change(&change)).expect("it is one");
        prop_assert_eq!(ChatChange::try_from(wire), Ok(change));
    }

    #[test]
    fn a_chat_survives_its_bytes_which_are_never_none(chat in any_chat()) {
        let bytes = encode_chat(&chat);
        prop_assert!(!bytes.is_empty());
        prop_assert_eq!(decode_chat(&bytes), Ok(chat));
    }

    #[test]
    fn what_a_message_is_survives_its_bytes(kind in 0..5usize, refers in proptest::option::of(any::<(u8, u64)>())) {
        let refers_to = refers.map(|(number, offset)| {
            let id = MessageId::from_bytes([number; 16]);
            Reference::new(user_at(number), DeviceId::new(offset), id, Offset::new(offset))
        });
        let about = About { kind: MessageKind::ALL[kind], refers_to };
        prop_assert_eq!(About::try_from(log::About::from(&about)), Ok(about));
    }
}

#[test]
fn a_member_from_the_beginning_says_no_more_than_a_role() {
    let first = (user_at(1), Member::since(MemberRole::Owner, Offset::FIRST));
    let wire = |known: &(UserId, Member)| wire_member(&known.0, known.1);
    assert_eq!((wire(&first).joined_at, wire(&first).changed_at), (0, 0));
    let later = Member { role: MemberRole::Admin, joined_at: Offset::new(4), changed_at: Offset::new(9) };
    for known in [first, (user_at(2), later)] {
        assert_eq!(member(&wire(&known)), Ok(known));
    }
}

#[test]
fn what_is_outside_its_bounds_is_named() {
    let error = |change| {
        let wire = log::ChatChange { change: Some(change) };
        ChatChange::try_from(wire).expect_err("outside").to_string()
    };
    let changes = vec![log::ChatMemberChange { user: "ann".into(), role: 1 }; MEMBER_CHANGES_MAX + 1];
    let many = error(Change::Members(log::ChatMembers { changes }));
    assert_eq!(many, "field chat.members is 257 long: it is over its limit");
    let changes = vec![log::ChatMemberChange { user: "ann".into(), role: 7 }];
    let role = error(Change::Members(log::ChatMembers { changes }));
    assert_eq!(role, "field chat.member.role is 7: it is not known");
    let long = log::ChatSettingsChange { name: Some(vec![0; 257].into()), ..Default::default() };
    assert_eq!(error(Change::Settings(long)), "field chat.name is 257 long: it is over its limit");
    let hash = Bytes::from_static(b"short");
    let short = error(Change::Joined(log::ChatInviteName { hash }));
    assert_eq!(short, "field chat.invite is 5 bytes: it needs 32 bytes");
}

#[test]
fn roles_and_kinds_are_found_by_their_names() {
    for role in [MemberRole::Member, MemberRole::Admin, MemberRole::Owner] {
        assert_eq!(parse_role("role", role_name(role)), Ok(role));
    }
    for kind in MessageKind::ALL {
        assert_eq!(parse_kind("kind", kind_name(kind)), Ok(kind));
    }
    assert_eq!(parse_kind("kind", ""), Ok(MessageKind::Text));
    let error = parse_role("role", "king").expect_err("no role").to_string();
    assert_eq!(error, "field role is \"king\": it is none of member, admin and owner");
}

#[test]
fn a_client_is_told_how_an_invite_is_named() {
    let hash = InviteHash::of(LogId::group([1; 16]), b"a secret of 16 b");
    let told = client_chat_change(&ChatChange::Joined(hash));
    let named = crate::client::InviteName { invite: hash.to_string() };
    assert_eq!(told.change, Some(crate::client::chat_change::Change::Joined(named)));
}
