//! Every change and every account survives the wire; what is out of bounds does not come in.

use super::*;
use proptest::prelude::*;
use types::{Body, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MessageId, Offset, Record};

fn text(max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![proptest::char::range('a', 'z'), proptest::char::range('à', 'ž')],
        1..max / 2,
    )
    .prop_map(String::from_iter)
}

fn a_user() -> impl Strategy<Value = UserId> {
    "[a-z][a-z0-9]{0,20}".prop_map(|name| UserId::new(&name).expect("valid"))
}

fn a_device() -> impl Strategy<Value = DeviceId> {
    any::<u64>().prop_map(DeviceId::new)
}

fn a_hash() -> impl Strategy<Value = TokenHash> {
    any::<[u8; 32]>().prop_map(TokenHash)
}

fn names() -> impl Strategy<Value = Names> {
    ("[a-z][a-z0-9._]{2,31}", proptest::option::of("\\+[1-9][0-9]{6,14}")).prop_map(|(username, phone)| {
        Names {
            username: Username::new(&username).expect("valid"),
            phone: phone.map(|phone| Phone::new(&phone).expect("valid")),
        }
    })
}

fn new_device() -> impl Strategy<Value = NewDevice> {
    (a_device(), text(64), a_hash()).prop_map(|(device, name, token)| NewDevice {
        device,
        name: DeviceName::new(&name).expect("valid"),
        token,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    (text(128), proptest::option::of("[A-Za-z0-9_-]{1,64}")).prop_map(|(name, avatar)| Profile {
        display_name: DisplayName::new(&name).expect("valid"),
        about: About::empty(),
        avatar: avatar.map(|avatar| MediaId::new(&avatar).expect("valid")),
    })
}

fn password() -> impl Strategy<Value = PasswordHash> {
    "\\$[a-z0-9$]{1,80}".prop_map(|text| PasswordHash::new(&text).expect("a PHC string"))
}

fn marks() -> impl Strategy<Value = ChatMarks> {
    (any::<u64>(), any::<[bool; 3]>()).prop_map(|(muted_until_ms, [archived, pinned, declined])| ChatMarks {
        muted_until_ms,
        archived,
        pinned,
        declined,
    })
}

fn a_log() -> impl Strategy<Value = LogId> {
    any::<[u8; 16]>().prop_map(LogId::group)
}

fn a_contact() -> impl Strategy<Value = (UserId, Option<DisplayName>)> {
    let name = text(128).prop_map(|name| DisplayName::new(&name).expect("valid"));
    (a_user(), proptest::option::of(name))
}

fn audience() -> impl Strategy<Value = Audience> {
    prop_oneof![Just(Audience::Everyone), Just(Audience::Contacts), Just(Audience::Nobody)]
}

fn privacy() -> impl Strategy<Value = Privacy> {
    (audience(), audience(), any::<bool>()).prop_map(|(last_seen, online, receipts)| Privacy {
        last_seen,
        online,
        receipts,
    })
}

fn change() -> impl Strategy<Value = AccountChange> {
    prop_oneof![
        (names(), password(), profile(), new_device()).prop_map(|(names, password, profile, device)| {
            AccountChange::Registered(Box::new(Registration { names, password, profile, device }))
        }),
        Just(AccountChange::Voided),
        Just(AccountChange::Closed),
        password().prop_map(AccountChange::PasswordChanged),
        (names(), names()).prop_map(|(names, before)| AccountChange::NamesChanged { names, before }),
        new_device().prop_map(AccountChange::DeviceAdded),
        (a_device(), a_hash(), a_hash()).prop_map(|(device, token, before)| AccountChange::TokenRenewed {
            device,
            token,
            before
        }),
        new_device().prop_map(|new| AccountChange::DeviceRenamed { device: new.device, name: new.name }),
        proptest::collection::vec(a_device(), 0..DEVICES_MAX).prop_map(AccountChange::DevicesRevoked),
        profile().prop_map(AccountChange::ProfileChanged),
        privacy().prop_map(AccountChange::PrivacyChanged),
        a_contact().prop_map(|(user, name)| AccountChange::ContactSet { user, name }),
        a_user().prop_map(AccountChange::ContactRemoved),
        a_user().prop_map(AccountChange::Blocked),
        a_user().prop_map(AccountChange::Unblocked),
        (a_log(), marks()).prop_map(|(chat, marks)| AccountChange::ChatMarked { chat, marks }),
    ]
}

fn device_row() -> impl Strategy<Value = (DeviceId, Device)> {
    (new_device(), any::<u64>(), any::<u64>(), proptest::option::of(a_hash())).prop_map(
        |(new, added_at_ms, token_at_ms, token_before)| {
            let NewDevice { device, name, token } = new;
            (device, Device { name, added_at_ms, token, token_at_ms, token_before })
        },
    )
}

fn open() -> impl Strategy<Value = OpenAccount> {
    let lists = (
        proptest::collection::btree_map(a_log(), marks(), 0..4),
        proptest::collection::btree_set(a_user(), 0..4),
        proptest::collection::vec(a_contact(), 0..4),
        proptest::collection::vec(device_row(), 0..DEVICES_MAX),
        proptest::collection::btree_set(a_log(), 0..4),
    );
    (names(), password(), profile(), privacy(), lists).prop_map(
        |(names, password, profile, privacy, (chats, blocked, contacts, devices, joined))| OpenAccount {
            names,
            password,
            profile,
            privacy,
            devices: devices.into_iter().collect(),
            contacts: contacts.into_iter().collect(),
            blocked,
            chats,
            joined,
        },
    )
}

proptest! {
    #[test]
    fn a_change_survives_its_record(change in change()) {
        let record = Record {
            lsn: Lsn::new(7),
            epoch: Epoch::new(2),
            generation: Generation::FIRST,
            log: LogId::account(&UserId::new("alice").expect("valid")),
            accepted_at_ms: 99,
            body: Body::Entry(Entry {
                offset: Offset::new(3),
                sender: UserId::new("alice").expect("valid"),
                device: DeviceId::new(1),
                message_id: MessageId::from_bytes([5; 16]),
                expires_at_ms: None,
                about: None,
                salvaged: false,
                body: EntryBody::Account(Box::new(change.clone())),
            }),
        };
        let decoded = crate::decode_record(crate::encode_record(&record)).expect("what was encoded");
        prop_assert_eq!(&decoded, &record);
        let hash = |record: &Record| record.entry().map(|entry| entry.body.hash());
        prop_assert_eq!(hash(&decoded), hash(&record));
    }

    #[test]
    fn an_account_survives_its_bytes(
        open in proptest::option::of(open()),
        leaving in proptest::collection::btree_set(a_log(), 0..4),
    ) {
        let standing = if open.is_some() { AccountStanding::Open } else { AccountStanding::Closed };
        let account = Account { standing, open, leaving };
        prop_assert_eq!(decode_account(&encode_account(&account)).expect("what was encoded"), account);
    }

    #[test]
    fn two_changes_have_two_hashes(one in change(), other in change()) {
        let hash = |change: &AccountChange| EntryBody::Account(Box::new(change.clone())).hash();
        prop_assert_eq!(one == other, hash(&one) == hash(&other));
    }

    /// Whatever a user's devices are told, no secret is in it.
    #[test]
    fn no_secret_is_shown_to_a_client(change in change()) {
        let shown = serde_json::to_string(&client_account_change(&change)).expect("JSON");
        let secrets: Vec<String> = match &change {
            AccountChange::Registered(it) => vec![it.password.reveal().to_owned(), hex(&it.device.token)],
            AccountChange::PasswordChanged(password) => vec![password.reveal().to_owned()],
            AccountChange::DeviceAdded(new) => vec![hex(&new.token)],
            AccountChange::TokenRenewed { token, before, .. } => vec![hex(token), hex(before)],
            _ => vec![],
        };
        for secret in secrets {
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
    }
}

/// As protobuf's JSON has bytes.
fn hex(hash: &TokenHash) -> String {
    data_encoding::BASE64.encode(&hash.0)
}

#[test]
fn what_is_out_of_bounds_is_named() {
    let wire = log::Account { standing: log::AccountStanding::Open as i32, ..log::Account::default() };
    let error = Account::try_from(wire).expect_err("an open account has more");
    assert_eq!(error.to_string(), "field account.open is false: only an open account has it");
    let devices = vec![1; DEVICES_MAX + 1];
    let revoked = Change::DevicesRevoked(log::AccountDevicesRevoked { devices });
    let error = AccountChange::try_from(log::AccountChange { change: Some(revoked) }).expect_err("too many");
    assert_eq!(error.to_string(), "field account.devices is 17 long: it is over its limit");
}
