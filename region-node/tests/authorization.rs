//! Every operation of the OpenAPI document and every frame of the client protocol, tried by those who may not.
//!
//! The tables here must name all there are: what is added without a row fails.

#[path = "support/accounts.rs"]
mod accounts;
mod support;

use accounts::{Device, refusal, refusal_of, start};
use pasetors::{
    keys::{AsymmetricKeyPair, Generate as _},
    version4::{PublicToken, V4},
};
use proto::client::{ClientFrame, client_frame::Frame as Ask, server_frame::Frame as Answer};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{World, ws::Client};
use types::VerifyingKey;
use uuid::Uuid;

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZg";
const OTHER_SECRET: &str = "ZmVkY2JhOTg3NjU0MzIxMA";

/// Whom an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Anybody.
    All,
    /// Whoever has logged in: it is about what is the caller's own, or what everybody may see.
    Users,
    /// Members of a chat. What a stranger, and a removed member, are told.
    Members(&'static str, &'static str),
}

use For::{All, Members, Users};

/// What the removed member reads is up to the removal.
const UP_TO_THERE: &str = "";
/// The removed member is not refused, and nobody hears of it: only the chat's home knows who is a member.
const UNHEARD: &str = "";
const NO_MEMBER: For = Members("forbidden", "forbidden");

const OPERATIONS: &[(&str, &str, For)] = &[
    ("get", "/v1/openapi.json", All),
    ("post", "/v1/register", All),
    ("post", "/v1/login", All),
    ("post", "/v1/refresh", All),
    ("post", "/v1/logout", Users),
    ("post", "/v1/password", Users),
    ("get", "/v1/devices", Users),
    ("delete", "/v1/devices", Users),
    ("patch", "/v1/devices/{device}", Users),
    ("delete", "/v1/devices/{device}", Users),
    ("get", "/v1/account", Users),
    ("patch", "/v1/account/profile", Users),
    ("put", "/v1/account/privacy", Users),
    ("patch", "/v1/account/names", Users),
    ("get", "/v1/account/export", Users),
    ("post", "/v1/account/close", Users),
    ("get", "/v1/users", Users),
    ("get", "/v1/users/{user}", Users),
    ("get", "/v1/contacts", Users),
    ("put", "/v1/contacts/{user}", Users),
    ("delete", "/v1/contacts/{user}", Users),
    ("get", "/v1/blocked", Users),
    ("put", "/v1/blocked/{user}", Users),
    ("delete", "/v1/blocked/{user}", Users),
    ("get", "/v1/sync", Users),
    ("post", "/v1/sync", Users),
    ("get", "/v1/events", Users),
    ("get", "/v1/chats", Users),
    ("post", "/v1/chats", Users),
    ("put", "/v1/chats/{id}/marks", Users),
    ("get", "/v1/chats/{id}", NO_MEMBER),
    ("patch", "/v1/chats/{id}", NO_MEMBER),
    ("get", "/v1/chats/{id}/messages", Members("forbidden", UP_TO_THERE)),
    ("post", "/v1/chats/{id}/messages", NO_MEMBER),
    ("get", "/v1/chats/{id}/receipts", NO_MEMBER),
    ("post", "/v1/chats/{id}/receipts", Members("forbidden", UNHEARD)),
    ("get", "/v1/chats/{id}/members", NO_MEMBER),
    ("post", "/v1/chats/{id}/members", NO_MEMBER),
    ("get", "/v1/chats/{id}/invites", NO_MEMBER),
    ("post", "/v1/chats/{id}/invites", NO_MEMBER),
    ("delete", "/v1/chats/{id}/invites/{invite}", NO_MEMBER),
    ("post", "/v1/chats/{id}/join", NO_MEMBER),
    ("post", "/v1/chats/{id}/leave", NO_MEMBER),
    ("post", "/v1/chats/{id}/deletions", NO_MEMBER),
];

const FRAMES: &[(&str, For)] = &[
    ("hello", All),
    ("ping", Users),
    ("openChat", Users),
    ("watchPresence", Users),
    ("unsubscribe", Users),
    ("subscribe", Members("forbidden", UP_TO_THERE)),
    ("send", NO_MEMBER),
    ("readHistory", Members("forbidden", UP_TO_THERE)),
    ("markCursors", Members("bad_request", UNHEARD)),
    ("readReceipts", NO_MEMBER),
    ("typing", Members("bad_request", UNHEARD)),
    ("changeMembers", NO_MEMBER),
    ("changeSettings", NO_MEMBER),
    ("makeInvite", NO_MEMBER),
    ("revokeInvite", NO_MEMBER),
    ("joinChat", NO_MEMBER),
    ("deleteMessages", NO_MEMBER),
    ("readChat", NO_MEMBER),
    ("readMembers", NO_MEMBER),
    ("readInvites", NO_MEMBER),
];

/// Frames that are answered only where they are refused.
const ANSWERED_BY_REFUSALS: &[&str] = &["markCursors", "typing"];

/// Ann has a group with Ben; Rem was taken out of it, Sam was never in it, and Ann has blocked Bob.
struct Cast {
    world: World,
    ann: Device,
    ben: Device,
    rem: Device,
    sam: Device,
    bob: Device,
    group: String,
    invite: String,
    message: String,
    /// The offset by which Rem was taken out.
    removed_at: u64,
}

impl World {
    /// A token that a key of this deployment has signed, from and until so many ms from now.
    async fn signed(&self, device: &Device, from_ms: i64, until_ms: i64) -> String {
        let pair = AsymmetricKeyPair::<V4>::generate().expect("a key");
        let id = host::random::number();
        let key = VerifyingKey { id, public: pair.public.as_bytes().try_into().expect("32 bytes") };
        self.state.lock().keys.entry(self.nodes[0].name.clone()).or_default().push(key);
        self.place(Vec::new());
        let at = |ms: i64| host::clock::wall_ms().saturating_add_signed(ms);
        let number: u64 = device.device.parse().expect("a number");
        let said =
            json!({"sub": device.user, "dev": number, "from_ms": at(from_ms), "until_ms": at(until_ms)});
        let footer = data_encoding::BASE64URL_NOPAD.encode(&id.to_be_bytes());
        let said = said.to_string();
        PublicToken::sign(&pair.secret, said.as_bytes(), Some(footer.as_bytes()), Some(b"hearth access"))
            .expect("it is signed")
    }
}

impl Cast {
    async fn gather() -> Self {
        let world = start(|_| {}).await;
        let (ann, ben) = (world.register("ann").await, world.register("ben").await);
        let (rem, sam) = (world.register("rem").await, world.register("sam").await);
        let bob = world.register("bob").await;
        let group = json!({"group": {"key": Uuid::now_v7(), "members": [ben.user, rem.user]}});
        let group = world.done("post", "/v1/chats", &ann.token, group).await;
        let group = group["log"].as_str().expect("a log").to_owned();
        let of_group = format!("/v1/chats/{group}");
        let message = Uuid::now_v7().to_string();
        let send = json!({"messageId": message, "ciphertext": "aGk=", "ack": "ACK_POLICY_REPLICATED"});
        world.done("post", &format!("{of_group}/messages"), &ann.token, send.clone()).await;
        let removal = json!({"changes": [{"user": rem.user}]});
        let removal = world.done("post", &format!("{of_group}/members"), &ann.token, removal).await;
        let mut later = send;
        later["messageId"] = json!(Uuid::now_v7());
        world.done("post", &format!("{of_group}/messages"), &ann.token, later).await;
        let invites = format!("{of_group}/invites");
        world.done("post", &invites, &ann.token, json!({"secret": SECRET})).await;
        let invites = world.done("get", &invites, &ann.token, Value::Null).await;
        let invite = invites["invites"][0]["invite"].as_str().expect("an invite").to_owned();
        world.done("put", &format!("/v1/blocked/{}", bob.user), &ann.token, Value::Null).await;
        let removed_at = removal["offset"].as_u64().expect("an offset");
        Self { world, ann, ben, rem, sam, bob, group, invite, message, removed_at }
    }

    /// The path of an operation, about Ann's device, Ann and the group.
    fn path(&self, template: &str) -> String {
        let path = template.replace("{device}", &self.ann.device).replace("{user}", &self.ann.user);
        let path = path.replace("{id}", &self.group).replace("{invite}", &self.invite);
        if template == "/v1/users" { format!("{path}?username=ann") } else { path }
    }

    /// What makes an operation on the group succeed for those who may.
    fn body(&self, method: &str, template: &str) -> Value {
        match (method, template) {
            ("patch", "/v1/chats/{id}") => json!({"name": "aGVsbG8="}),
            ("post", "/v1/chats/{id}/messages") => {
                json!({"messageId": Uuid::now_v7(), "ciphertext": "aGk="})
            }
            ("post", "/v1/chats/{id}/receipts") => json!({}),
            ("post", "/v1/chats/{id}/members") => {
                json!({"changes": [{"user": self.sam.user, "role": "member"}]})
            }
            ("post", "/v1/chats/{id}/invites") => json!({"secret": OTHER_SECRET}),
            ("post", "/v1/chats/{id}/join") => json!({"secret": OTHER_SECRET}),
            ("post", "/v1/chats/{id}/deletions") => json!({"messages": [{
                "sender": self.ann.user, "device": self.ann.device, "message_id": self.message,
            }]}),
            _ => Value::Null,
        }
    }

    /// A frame about the group that succeeds for those who may say it.
    fn frame(&self, name: &str) -> Ask {
        let (log, id) = (&self.group, Uuid::now_v7());
        let about = match name {
            "ping" => json!({}),
            "openChat" => json!({"directWith": self.ann.user}),
            "watchPresence" => json!({"users": [self.ann.user]}),
            "send" => json!({"log": log, "messageId": id, "ciphertext": "aGk="}),
            "markCursors" => json!({"logs": [{"log": log}]}),
            "changeMembers" => {
                let change = json!({"user": self.sam.user, "role": "member"});
                json!({"log": log, "messageId": id, "changes": [change]})
            }
            "changeSettings" => json!({"log": log, "messageId": id, "change": {"name": "aGk="}}),
            "makeInvite" | "joinChat" => {
                json!({"log": log, "messageId": id, "secret": "ZmVkY2JhOTg3NjU0MzIxMA=="})
            }
            "revokeInvite" => json!({"log": log, "messageId": id, "invite": self.invite}),
            "deleteMessages" => {
                let device = &self.ann.device;
                let message = json!({"sender": self.ann.user, "device": device, "messageId": self.message});
                json!({"log": log, "messageId": id, "messages": [message]})
            }
            _ => json!({"log": log}),
        };
        let frame: ClientFrame = serde_json::from_value(json!({ name: about })).expect("a frame");
        frame.frame.expect("it says something")
    }

    /// The entries of the group.
    async fn history(&self, device: &Device) -> Vec<u64> {
        let path = format!("/v1/chats/{}/messages", self.group);
        let page = self.world.done("get", &path, &device.token, Value::Null).await;
        let entries = page["entries"].as_array().expect("entries").iter();
        let offset = |entry: &Value| entry["offset"].as_str().and_then(|text| text.parse().ok());
        entries.map(|entry| offset(entry).expect("an offset")).collect()
    }

    /// Tokens that are not good, each with what whoever shows it is told.
    async fn bad_tokens(&self) -> Vec<(&'static str, String, &'static str)> {
        let world = &self.world;
        let elsewhere = start(|_| {}).await;
        let forged = elsewhere.register("ann").await.token;
        let mut changed = self.ann.token.clone();
        let end = self.sam.token.split_at(self.sam.token.len() - 60).1;
        changed.replace_range(changed.len() - 60.., end);
        let lost = world.log_in("ann").await;
        world.done("delete", &format!("/v1/devices/{}", lost.device), &self.ann.token, Value::Null).await;
        vec![
            ("none", String::new(), "unauthenticated"),
            ("one of another deployment", forged, "unauthenticated"),
            ("one with another's signature", changed, "unauthenticated"),
            ("one that has ended", world.signed(&self.ann, -3_600_000, -3_000_000).await, "token_expired"),
            ("one to come", world.signed(&self.ann, 60_000, 600_000).await, "unauthenticated"),
            ("that of a revoked device", lost.token, "device_revoked"),
        ]
    }
}

/// What a frame is refused with; empty: it is not.
async fn told(client: &mut Client, name: &str, frame: Ask) -> String {
    if !ANSWERED_BY_REFUSALS.contains(&name) {
        return refusal_of(&client.ask(frame).await);
    }
    let id = client.say(frame).await;
    client.ask(Ask::Ping(proto::client::Ping { nonce: 1 })).await;
    let refused = client.kept.iter().find(|frame| frame.request_id == id);
    refused.and_then(|frame| frame.frame.as_ref()).map(refusal_of).unwrap_or_default()
}

#[tokio::test]
async fn the_tables_name_every_operation_and_every_frame() {
    let world = start(|_| {}).await;
    let document = world.done("get", "/v1/openapi.json", "", Value::Null).await;
    let mut operations = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("a path").keys();
        let methods = methods.filter(|method| *method != "parameters");
        operations.extend(methods.map(|method| (method.clone(), path.clone())));
    }
    let tried = OPERATIONS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(operations, tried.collect());
    let schemas: Value = serde_json::from_str(proto::CLIENT_SCHEMAS).expect("JSON");
    let frames = schemas["client.ClientFrame"]["properties"].as_object().expect("properties").keys();
    let frames: BTreeSet<&str> = frames.map(String::as_str).filter(|name| *name != "requestId").collect();
    assert_eq!(frames, FRAMES.iter().map(|(name, _)| *name).collect());
}

#[tokio::test]
async fn no_operation_takes_a_token_that_is_not_good() {
    let cast = Cast::gather().await;
    let world = &cast.world;
    let good = world.signed(&cast.ann, -1_000, 600_000).await;
    world.done("get", "/v1/account", &good, Value::Null).await;
    let mut wrong = Vec::new();
    for (shown, token, expected) in cast.bad_tokens().await {
        for (method, template, who) in OPERATIONS {
            let body = cast.body(method, template);
            let told = refusal(&world.ask(method, &cast.path(template), &token, body).await);
            let is_right = if *who == All { told != expected } else { told == expected };
            if !is_right {
                wrong.push(format!("{method} {template} with {shown}: {told:?}"));
            }
        }
        let (mut client, answer) = world.session(&token).await;
        if refusal_of(&answer) != expected || client.next().await.is_some() {
            wrong.push(format!("hello with {shown}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn no_operation_on_a_chat_lets_others_in_than_members() {
    let cast = Cast::gather().await;
    let world = &cast.world;
    let before = cast.history(&cast.ann).await;
    let (mut ann, _) = world.session(&cast.ann.token).await;
    ann.follow(&cast.group, "").await;
    let mut wrong = Vec::new();
    let mut check = |what: String, told: String, expected: &str| {
        if told != expected {
            wrong.push(format!("{what}: told {told:?}, not {expected:?}"));
        }
    };
    for (method, template, who) in OPERATIONS {
        let Members(stranger, removed) = *who else { continue };
        for (who, device, expected) in [("stranger", &cast.sam, stranger), ("removed", &cast.rem, removed)] {
            let body = cast.body(method, template);
            let told = refusal(&world.ask(method, &cast.path(template), &device.token, body).await);
            check(format!("{who}: {method} {template}"), told, expected);
        }
    }
    for (who, device) in [("stranger", &cast.sam), ("removed", &cast.rem)] {
        let (mut client, welcome) = world.session(&device.token).await;
        assert!(matches!(welcome, Answer::Welcome(_)), "{welcome:?}");
        for (name, members) in FRAMES {
            let Members(stranger, removed) = *members else { continue };
            let told = told(&mut client, name, cast.frame(name)).await;
            check(format!("{who}: {name}"), told, if who == "stranger" { stranger } else { removed });
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cast.history(&cast.ann).await, before, "something was written");
    assert_eq!(heard_until_ben_types(&cast, &mut ann).await, Vec::<String>::new());
    let seen = cast.history(&cast.rem).await;
    assert!(seen.iter().all(|offset| *offset <= cast.removed_at), "{seen:?} behind {}", cast.removed_at);

    // All of it is there for a member.
    for (method, template, who) in OPERATIONS {
        if matches!(who, Members("forbidden", _)) && !template.ends_with("/leave") {
            let body = cast.body(method, template);
            world.done(method, &cast.path(template), &cast.ann.token, body).await;
        }
    }
}

/// Of whom else Ann hears something live before she hears that Ben types.
async fn heard_until_ben_types(cast: &Cast, ann: &mut Client) -> Vec<String> {
    let (mut ben, _) = cast.world.session(&cast.ben.token).await;
    ben.follow(&cast.group, "").await;
    ben.say(cast.frame("typing")).await;
    let mut heard = Vec::new();
    loop {
        match ann.told().await {
            Answer::TypingSeen(seen) if seen.user == cast.ben.user => return heard,
            Answer::TypingSeen(seen) => heard.push(format!("{} types", seen.user)),
            Answer::Receipts(told) => {
                heard.extend(told.receipts.iter().map(|receipt| format!("{} has read", receipt.user)));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn strangers_and_blocked_users_do_nothing_to_another_account() {
    let cast = Cast::gather().await;
    let world = &cast.world;
    world.done("patch", "/v1/account/profile", &cast.ann.token, json!({"about": "At sea."})).await;
    let of_ann = format!("/v1/users/{}", cast.ann.user);
    let about = |shown: Value| shown["about"].as_str().map(str::to_owned);
    let seen = world.done("get", &of_ann, &cast.sam.token, Value::Null).await;
    assert_eq!(about(seen).as_deref(), Some("At sea."));
    let seen = world.done("get", &of_ann, &cast.bob.token, Value::Null).await;
    assert_eq!(about(seen).as_deref(), Some(""), "who is blocked sees the name only");
    let direct = json!({"directWith": cast.ann.user});
    let refused = world.ask("post", "/v1/chats", &cast.bob.token, direct).await;
    assert_eq!(refusal(&refused), "forbidden");
    let (mut bob, _) = world.session(&cast.bob.token).await;
    assert_eq!(refusal_of(&bob.ask(cast.frame("openChat")).await), "forbidden");

    // Whose device a path names says nothing: it is always one of the caller's own.
    let of_device = format!("/v1/devices/{}", cast.ann.device);
    for device in [&cast.sam, &cast.bob] {
        let renamed = world.ask("patch", &of_device, &device.token, json!({"name": "mine"})).await;
        assert_eq!(refusal(&renamed), "unknown_device");
        world.ask("delete", &of_device, &device.token, Value::Null).await;
        world.ask("delete", "/v1/devices", &device.token, Value::Null).await;
    }
    let devices = world.done("get", "/v1/devices", &cast.ann.token, Value::Null).await;
    assert_eq!(devices["devices"][0]["name"], "phone", "{devices}");
}

#[tokio::test]
async fn nothing_is_said_before_hello() {
    let cast = Cast::gather().await;
    let mut wrong = Vec::new();
    for (name, _) in FRAMES.iter().filter(|(name, _)| !matches!(*name, "hello" | "ping")) {
        let mut client = Client::connect(cast.world.nodes[1].address, false).await;
        let told = refusal_of(&client.ask(cast.frame(name)).await);
        if told != "unauthenticated" {
            wrong.push(format!("{name}: {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
