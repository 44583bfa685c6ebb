//! The vectors in `proto/vectors/` are what this code writes, and it reads them back. A client in another
//! language tests itself against the same files. `HEARTH_WRITE_VECTORS=1` writes them anew.

mod frames;
mod readme;

use prost::Message as _;
use proto::client::{ClientFrame, ServerFrame};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Debug, fs, path::PathBuf};
use types::{
    AckPolicy, Body, BodyHash, DeviceCursor, DeviceId, DeviceMark, Effect, EffectAct, EffectTarget, Entry,
    EntryBody, Epoch, EraBegin, Generation, Import, LogId, Lsn, MemberRole, MessageId, MoveId, Offset,
    Position, PositionToken, Record, RegionId, RehomeId, StateUpdate, UserId,
    account::AccountChange,
    chat::{About, ChatChange, Member, MemberChange, MessageKind, Reference},
};

fn compare(name: &str, vectors: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = serde_json::to_string_pretty(vectors).expect("JSON") + "\n";
    if std::env::var_os("HEARTH_WRITE_VECTORS").is_some() {
        fs::write(&path, &text).expect("the vectors can be written");
    }
    let kept = fs::read_to_string(&path).expect("the vectors are there");
    assert_eq!(kept, text, "{name}: the wire has changed; a peer that is deployed no longer understands it");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn vectors<F: prost::Message + Serialize>(frames: Vec<(&str, F)>) -> Vec<Value> {
    let vector = |(name, frame): (&str, F)| {
        let json = serde_json::to_value(&frame).expect("JSON");
        json!({"name": name, "hex": hex(&frame.encode_to_vec()), "json": json})
    };
    frames.into_iter().map(vector).collect()
}

fn read_back<F>(vectors: &[Value])
where
    F: prost::Message + Default + Serialize + DeserializeOwned + PartialEq + Debug,
{
    for vector in vectors {
        let bytes = unhex(vector["hex"].as_str().expect("hex"));
        let frame = F::decode(bytes.as_slice()).expect("the bytes decode");
        let same: F = serde_json::from_value(vector["json"].clone()).expect("the JSON parses");
        assert_eq!(frame, same, "{}", vector["name"]);
        a_newer_field_is_ignored(&frame, &bytes, &vector["json"]);
    }
}

fn a_newer_field_is_ignored<F>(frame: &F, bytes: &[u8], json: &Value)
where
    F: prost::Message + Default + DeserializeOwned + PartialEq + Debug,
{
    let mut newer = bytes.to_vec();
    // Field 1000, a varint; field 1001, three bytes.
    newer.extend([0xc0, 0x3e, 0x2a, 0xca, 0x3e, 0x03, 1, 2, 3]);
    assert_eq!(&F::decode(newer.as_slice()).expect("an unknown field decodes"), frame);
    let mut newer = json.clone();
    add_field(&mut newer);
    let read: F = serde_json::from_value(newer).expect("an unknown field parses");
    assert_eq!(&read, frame);
}

/// Adds a field that nobody knows to every object.
fn add_field(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            fields.values_mut().for_each(add_field);
            fields.insert("aNewerField".to_owned(), json!({"deep": [1, "two"]}));
        }
        Value::Array(items) => items.iter_mut().for_each(add_field),
        _ => {}
    }
}

#[test]
fn client_frames() {
    let frames = frames::client_frames();
    let names: BTreeSet<_> =
        frames.iter().filter_map(|(_, frame)| frame.frame.as_ref().map(frames::client_name)).collect();
    assert_eq!(names, frames::CLIENT_NAMES.iter().copied().collect(), "every frame has a vector");
    let vectors = vectors(frames);
    read_back::<ClientFrame>(&vectors);
    compare("client-frames.json", &vectors.into());
}

#[test]
fn server_frames() {
    let frames = frames::server_frames();
    let names: BTreeSet<_> =
        frames.iter().filter_map(|(_, frame)| frame.frame.as_ref().map(frames::server_name)).collect();
    assert_eq!(names, frames::SERVER_NAMES.iter().copied().collect(), "every frame has a vector");
    let vectors = vectors(frames);
    read_back::<ServerFrame>(&vectors);
    compare("server-frames.json", &vectors.into());
}

#[test]
fn a_frame_of_a_newer_kind_decodes_without_content() {
    let newer = [0x08, 0x05, 0xc2, 0x3e, 0x02, 0x08, 0x01];
    let frame = ServerFrame::decode(&newer[..]).expect("it decodes");
    assert_eq!((frame.request_id, frame.frame), (5, None));
    let frame: ServerFrame =
        serde_json::from_value(json!({"requestId": "5", "shout": {}})).expect("it parses");
    assert_eq!((frame.request_id, frame.frame), (5, None));
}

#[test]
fn position_tokens() {
    let logs = [frames::log(), LogId::group([7; 16])];
    let places = [(1, 1, 1), (1, 3, 70_000), (2, 1 << 40, u64::MAX)];
    let mut vectors = Vec::new();
    for log in logs {
        for (generation, epoch, offset) in places {
            let position = Position::new(Generation::new(generation), Epoch::new(epoch), Offset::new(offset));
            let token = PositionToken::seal(log, position);
            assert_eq!(PositionToken::open(log, token.as_str()), Ok(position));
            vectors.push(json!({
                "log": log, "generation": generation, "epoch": epoch.to_string(),
                "offset": offset.to_string(), "token": token.as_str(),
            }));
        }
    }
    compare("positions.json", &vectors.into());
}

#[test]
fn log_ids() {
    let pairs = [("alice", "bob"), ("bob", "alice"), ("a", "z.9-_")];
    let vectors: Vec<Value> = pairs
        .iter()
        .map(|(a, b)| {
            let log = LogId::direct(&user(a), &user(b));
            json!({"users": [a, b], "log": log, "hex": hex(&log.to_bytes())})
        })
        .collect();
    compare("direct-chats.json", &vectors.into());
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

#[test]
fn records() {
    let region = RegionId::new("us-east").expect("a valid name");
    let created = EntryBody::Created {
        members: vec![(user("alice"), MemberRole::Owner), (user("bob"), MemberRole::Member)],
        ack_policy: AckPolicy::Replicated,
        allowed_regions: vec![region],
    };
    let cursors = StateUpdate::Cursors(vec![cursor(4)]);
    let bodies = [
        entry(1, created),
        entry(2, EntryBody::Message { ciphertext: vec![0, 1, 0xfe, 0xff].into() }),
        entry(3, EntryBody::Deleted { offsets: vec![Offset::new(2)] }),
        entry(4, EntryBody::Erased { hash: BodyHash([0xab; 16]) }),
        Body::Update(cursors),
        Body::Update(StateUpdate::Seal { move_id: MoveId::new(300) }),
        entry(SALVAGED_OFFSET, EntryBody::Message { ciphertext: vec![7].into() }),
        Body::Update(StateUpdate::LogSealed { rehome: RehomeId::new(300) }),
        Body::Update(StateUpdate::LogImported(Box::new(import()))),
        Body::Update(StateUpdate::Effect(Box::new(effect()))),
        Body::Update(StateUpdate::EffectDone { target: effect().target, cause: effect().cause }),
        entry(6, EntryBody::Account(Box::new(AccountChange::Blocked(user("bob"))))),
        entry(7, EntryBody::Chat(Box::new(removed()))),
        entry(EDIT_OFFSET, EntryBody::Message { ciphertext: vec![8].into() }),
    ];
    let vectors: Vec<Value> = bodies
        .into_iter()
        .map(|body| {
            let record = Record {
                lsn: Lsn::new(12),
                epoch: Epoch::new(3),
                generation: Generation::FIRST,
                log: match &body {
                    Body::Update(StateUpdate::Seal { .. }) => LogId::partition(),
                    Body::Entry(Entry { body: EntryBody::Account(_), .. }) => LogId::account(&user("alice")),
                    _ => frames::log(),
                },
                accepted_at_ms: 1_795_000_000_450,
                body,
            };
            let bytes = proto::encode_record(&record);
            assert_eq!(proto::decode_record(bytes.clone()), Ok(record.clone()));
            let mut newer = bytes.to_vec();
            newer.extend([0xc0, 0x3e, 0x2a]);
            assert_eq!(proto::decode_record(newer.into()), Ok(record.clone()), "an unknown field is ignored");
            json!({"hex": hex(&bytes), "record": describe(&record)})
        })
        .collect();
    compare("records.json", &vectors.into());
}

/// What a log hands over of which one device has written one message.
fn import() -> Import {
    let (generation, epoch) = (Generation::FIRST, Epoch::new(2));
    let message_id = MessageId::from_bytes([1; 16]);
    let (sender, device) = (user("alice"), DeviceId::new(7_301));
    Import {
        rehome: RehomeId::new(300),
        head: Position::new(generation, epoch, Offset::FIRST),
        eras: vec![EraBegin { generation, epoch, first_offset: Offset::FIRST }],
        created_at_ms: 1_795_000_000_400,
        head_at_ms: 1_795_000_000_450,
        accepted_at_ms: 1_795_000_000_450,
        members: vec![(sender.clone(), Member::since(MemberRole::Owner, Offset::FIRST))],
        ack_policy: AckPolicy::Home,
        allowed_regions: vec![RegionId::new("us-east").expect("a valid name")],
        cursors: vec![cursor(1)],
        devices: vec![DeviceMark {
            sender,
            device,
            latest: message_id,
            highest: message_id,
            offset: Offset::FIRST,
        }],
        devices_floor: MessageId::from_bytes([0; 16]),
        effects: Vec::new(),
        causes: Vec::new(),
        account: None,
        chat: None,
    }
}

/// How far bob's device has come.
fn cursor(offset: u64) -> DeviceCursor {
    DeviceCursor::read(user("bob"), DeviceId::new(9), Offset::new(offset), 1_795_000_000_460)
}

/// A change of a chat.
fn removed() -> ChatChange {
    ChatChange::Members(vec![MemberChange { user: user("bob"), role: None }])
}

/// A deletion of what an earlier partition of the chat holds.
fn effect() -> Effect {
    Effect {
        cause_log: frames::log(),
        cause: Position::new(Generation::new(2), Epoch::new(3), Offset::new(9)),
        target: EffectTarget { log: frames::log(), stretch: Generation::FIRST },
        act: EffectAct::Erase { offsets: vec![Offset::new(1), Offset::new(4)] },
    }
}

/// The entry at this offset was put back by salvage.
const SALVAGED_OFFSET: u64 = 5;
/// The entry at this offset says what that at offset 2 says from now on.
const EDIT_OFFSET: u64 = 8;

fn entry(offset: u64, body: EntryBody) -> Body {
    Body::Entry(Entry {
        offset: Offset::new(offset),
        sender: user("alice"),
        device: DeviceId::new(7_301),
        message_id: MessageId::from_bytes([offset as u8; 16]),
        expires_at_ms: (offset == 2).then_some(1_795_086_400_450),
        salvaged: offset == SALVAGED_OFFSET,
        about: (offset == EDIT_OFFSET).then(edit),
        body,
    })
}

fn edit() -> Box<About> {
    let id = MessageId::from_bytes([2; 16]);
    let refers_to = Reference::new(user("alice"), DeviceId::new(7_301), id, Offset::new(2));
    Box::new(About { kind: MessageKind::Edit, refers_to: Some(refers_to) })
}

/// A record in the words of log.proto.
fn describe(record: &Record) -> Value {
    let mut described = json!({
        "lsn": record.lsn.get().to_string(),
        "epoch": record.epoch.get().to_string(),
        "generation": record.generation.get(),
        "log": record.log,
        "acceptedAtMs": record.accepted_at_ms.to_string(),
    });
    match &record.body {
        Body::Entry(entry) => {
            let (kind, body) = match &entry.body {
                EntryBody::Created { members, ack_policy, allowed_regions } => {
                    let members: Vec<Value> = members
                        .iter()
                        .map(|(user, role)| json!({"user": user, "role": *role as u8}))
                        .collect();
                    let created = json!({
                        "members": members, "ackPolicy": *ack_policy as u8, "allowedRegions": allowed_regions,
                    });
                    ("created", created)
                }
                EntryBody::Message { ciphertext } => ("message", json!({"ciphertextHex": hex(ciphertext)})),
                EntryBody::Deleted { offsets } => ("deleted", json!({"offsets": offsets})),
                EntryBody::Account(change) => {
                    let AccountChange::Blocked(user) = &**change else { panic!("{change:?} has no vector") };
                    ("account", json!({"blocked": {"user": user}}))
                }
                EntryBody::Chat(change) => {
                    let ChatChange::Members(changes) = &**change else { panic!("{change:?} has no vector") };
                    let change = |change: &MemberChange| json!({"user": change.user, "role": 0});
                    ("chat", json!({"members": changes.iter().map(change).collect::<Vec<_>>()}))
                }
                EntryBody::Erased { hash } => ("erased", json!({"hashHex": hex(&hash.0)})),
            };
            described["entry"] = json!({
                "offset": entry.offset.get().to_string(),
                "sender": entry.sender,
                "device": entry.device.get().to_string(),
                "messageId": entry.message_id,
                "expiresAtMs": entry.expires_at_ms.map(|at_ms| at_ms.to_string()),
                kind: body,
            });
            if let Some(About { kind, refers_to: Some(refers_to) }) = entry.about.as_deref() {
                described["entry"]["about"] = json!({
                    "kind": *kind as u8, "refersTo": {
                        "sender": refers_to.key.sender, "device": refers_to.key.device.get().to_string(),
                        "messageId": refers_to.key.message_id, "offset": refers_to.offset.get().to_string(),
                    },
                });
            }
            if entry.salvaged {
                described["entry"]["salvaged"] = true.into();
            }
        }
        Body::Update(StateUpdate::Cursors(cursors)) => {
            let cursor = |cursor: &DeviceCursor| {
                json!({
                    "user": cursor.user, "device": cursor.device.get().to_string(),
                    "delivered": cursor.marks.delivered.offset.get().to_string(),
                    "read": cursor.marks.read.offset.get().to_string(),
                    "readAtMs": cursor.marks.read.at_ms.to_string(),
                })
            };
            described["update"] = json!({"cursors": cursors.iter().map(cursor).collect::<Vec<_>>()});
        }
        Body::Update(StateUpdate::Seal { move_id }) => {
            described["update"] = json!({"seal": {"moveId": move_id.get().to_string()}});
        }
        Body::Update(StateUpdate::LogSealed { rehome }) => {
            described["update"] = json!({"logSealed": {"rehome": rehome.get().to_string()}});
        }
        Body::Update(StateUpdate::Effect(effect)) => {
            described["update"] = json!({"effect": {
                "cause": effect.cause.to_string(), "stretch": effect.target.stretch.get(),
            }});
            let (act, says) = match &effect.act {
                EffectAct::Erase { offsets } => ("erase", json!(offsets)),
                EffectAct::Joined => ("joined", json!({})),
                EffectAct::Left => ("left", json!({})),
                EffectAct::Gone => ("gone", json!({})),
                EffectAct::Blocked => ("blocked", json!({})),
                EffectAct::Unblocked => ("unblocked", json!({})),
            };
            described["update"]["effect"][act] = says;
        }
        Body::Update(StateUpdate::EffectDone { target, cause }) => {
            described["update"] = json!({"effectDone": {
                "stretch": target.stretch.get(), "cause": cause.to_string(),
            }});
        }
        Body::Update(StateUpdate::LogImported(import)) => {
            described["update"] = json!({"logImported": {
                "rehome": import.rehome.get().to_string(),
                "head": import.head.to_string(), "members": import.members.len(),
                "eras": import.eras.len(), "cursors": import.cursors.len(), "devices": import.devices.len(),
            }});
        }
    }
    described
}
