//! At least one example of every frame, each with all of its fields set to something that is not a default.

mod chats;
mod live;

use proto::client::{
    AckPolicy, Behind, ChatOpened, ClientFrame, Continue, Created, Deleted, Diverged, Entries, Entry, Erased,
    Error, GoAway, Hello, HistoryPage, Limits, LogCursor, Member, NewGroup, OpenChat, Ping, Pong,
    ReadHistory, Replicated, Resumed, Send, Sent, ServerFrame, Subscribe, Unsubscribe, Welcome,
    client_frame::Frame as Ask, entry, open_chat, read_history, resumed, server_frame::Frame as Say,
};
use types::{Epoch, Generation, LogId, Offset, Position, PositionToken, UserId};

/// The direct chat of alice and bob.
pub(crate) fn log() -> LogId {
    let user = |name| UserId::new(name).expect("a valid name");
    LogId::direct(&user("alice"), &user("bob"))
}

/// The token of an offset of that chat, in its first epoch.
pub(crate) fn token(offset: u64) -> String {
    let position = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset));
    PositionToken::seal(log(), position).into()
}

const FIRST: &str = "0192c1de-1111-7000-8000-000000000001";
const SECOND: &str = "0192c1de-2222-7000-8000-000000000002";
const GROUP_KEY: &str = "0192c1de-3333-4000-8000-000000000003";
const AT_MS: u64 = 1_795_000_000_450;

/// The name of a client frame, as in JSON. A frame that is added has to be named here, and so in every test.
pub(crate) const fn client_name(frame: &Ask) -> &'static str {
    match frame {
        Ask::Hello(_) => "hello",
        Ask::OpenChat(_) => "openChat",
        Ask::Subscribe(_) => "subscribe",
        Ask::Unsubscribe(_) => "unsubscribe",
        Ask::Send(_) => "send",
        Ask::ReadHistory(_) => "readHistory",
        Ask::Ping(_) => "ping",
        Ask::MarkCursors(_) => "markCursors",
        Ask::ReadReceipts(_) => "readReceipts",
        Ask::Typing(_) => "typing",
        Ask::WatchPresence(_) => "watchPresence",
        Ask::ChangeMembers(_) => "changeMembers",
        Ask::ChangeSettings(_) => "changeSettings",
        Ask::MakeInvite(_) => "makeInvite",
        Ask::RevokeInvite(_) => "revokeInvite",
        Ask::JoinChat(_) => "joinChat",
        Ask::DeleteMessages(_) => "deleteMessages",
        Ask::ReadChat(_) => "readChat",
        Ask::ReadMembers(_) => "readMembers",
        Ask::ReadInvites(_) => "readInvites",
    }
}

/// The name of a server frame, as in JSON.
pub(crate) const fn server_name(frame: &Say) -> &'static str {
    match frame {
        Say::Welcome(_) => "welcome",
        Say::ChatOpened(_) => "chatOpened",
        Say::Resumed(_) => "resumed",
        Say::Sent(_) => "sent",
        Say::HistoryPage(_) => "historyPage",
        Say::Entries(_) => "entries",
        Say::Replicated(_) => "replicated",
        Say::Diverged(_) => "diverged",
        Say::Behind(_) => "behind",
        Say::Pong(_) => "pong",
        Say::GoAway(_) => "goAway",
        Say::Error(_) => "error",
        Say::Receipts(_) => "receipts",
        Say::ReceiptsPage(_) => "receiptsPage",
        Say::TypingSeen(_) => "typingSeen",
        Say::Presence(_) => "presence",
        Say::Removed(_) => "removed",
        Say::ChatInfo(_) => "chatInfo",
        Say::MembersPage(_) => "membersPage",
        Say::InvitesPage(_) => "invitesPage",
    }
}

pub(crate) const CLIENT_NAMES: &[&str] = &[
    "hello",
    "openChat",
    "subscribe",
    "unsubscribe",
    "send",
    "readHistory",
    "ping",
    "markCursors",
    "readReceipts",
    "typing",
    "watchPresence",
    "changeMembers",
    "changeSettings",
    "makeInvite",
    "revokeInvite",
    "joinChat",
    "deleteMessages",
    "readChat",
    "readMembers",
    "readInvites",
];
pub(crate) const SERVER_NAMES: &[&str] = &[
    "welcome",
    "chatOpened",
    "resumed",
    "sent",
    "historyPage",
    "entries",
    "replicated",
    "diverged",
    "behind",
    "pong",
    "goAway",
    "error",
    "receipts",
    "receiptsPage",
    "typingSeen",
    "presence",
    "removed",
    "chatInfo",
    "membersPage",
    "invitesPage",
];

pub(crate) fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    let group = NewGroup { key: GROUP_KEY.to_owned(), members: vec!["bob".to_owned(), "carol".to_owned()] };
    let mut frames = vec![
        (
            "hello with a cursor",
            Ask::Hello(Hello {
                protocol_version: 1,
                user: "alice".to_owned(),
                device: u64::MAX - 1,
                cursors: vec![LogCursor { log: log().to_string(), position: token(7) }],
                agent: "example/1".to_owned(),
                ..Hello::default()
            }),
        ),
        (
            "hello with a token",
            Ask::Hello(Hello {
                protocol_version: 1,
                agent: "example/1".to_owned(),
                token: "v4.public.eyJzdWIiOiJhbGljZSJ9".to_owned(),
                ..Hello::default()
            }),
        ),
        ("open a direct chat", Ask::OpenChat(open(open_chat::Chat::DirectWith("bob".to_owned())))),
        ("open a group", Ask::OpenChat(open(open_chat::Chat::Group(group)))),
        ("subscribe", Ask::Subscribe(Subscribe { log: log().to_string(), position: token(7) })),
        ("unsubscribe", Ask::Unsubscribe(Unsubscribe { log: log().to_string() })),
        (
            "send behind another message",
            Ask::Send(Send {
                log: log().to_string(),
                message_id: SECOND.to_owned(),
                ciphertext: vec![0, 1, 0xfe, 0xff].into(),
                ack: AckPolicy::Replicated.into(),
                deadline_ms: 20_000,
                after_message_id: FIRST.to_owned(),
                kind: "edit".to_owned(),
                refers_to: Some(chats::reference()),
            }),
        ),
        ("read history forwards", Ask::ReadHistory(read(read_history::From::After(token(7))))),
        ("read the newest history", Ask::ReadHistory(read(read_history::From::Before(String::new())))),
        ("ping", Ask::Ping(Ping { nonce: 17 })),
    ];
    frames.extend(live::asks());
    let frame = |(at, (name, frame)): (usize, (_, _))| {
        (name, ClientFrame { request_id: at as u64 + 1, frame: Some(frame) })
    };
    frames.into_iter().chain(chats::asked()).enumerate().map(frame).collect()
}

fn open(chat: open_chat::Chat) -> OpenChat {
    OpenChat {
        chat: Some(chat),
        ack_policy: AckPolicy::Home.into(),
        allowed_regions: vec!["us-east".to_owned(), "eu-west".to_owned()],
    }
}

fn read(from: read_history::From) -> ReadHistory {
    ReadHistory { log: log().to_string(), from: Some(from), limit: 20 }
}

pub(crate) fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    let mut frames = session_frames();
    frames.extend(log_frames());
    frames.extend(chats::answers());
    frames.extend(refusals());
    frames.extend(live::frames());
    frames
}

fn session_frames() -> Vec<(&'static str, ServerFrame)> {
    let limits = Limits {
        body_max_bytes: 65_536,
        frame_max_bytes: 131_072,
        page_max_entries: 500,
        session_logs_max: 4_096,
        session_writes_max: 1_024,
        ping_interval_ms: 10_000,
        receipts_members_max: 64,
        marks_max: 256,
        watched_users_max: 256,
    };
    let welcome = Welcome {
        protocol_version: 1,
        region: "us-east".to_owned(),
        node: "us-east-1".to_owned(),
        limits: Some(limits),
        server_time_ms: AT_MS,
        one_region: true,
    };
    let sent = Sent {
        log: log().to_string(),
        message_id: FIRST.to_owned(),
        position: token(8),
        offset: 8,
        accepted_at_ms: AT_MS,
        ack: AckPolicy::Home.into(),
    };
    let page = HistoryPage { log: log().to_string(), entries: entries(), at_end: true };
    vec![
        answer("welcome", 1, Say::Welcome(welcome)),
        answer("chat opened", 2, Say::ChatOpened(ChatOpened { log: log().to_string(), position: token(1) })),
        answer("sent", 6, Say::Sent(sent)),
        answer("history page", 7, Say::HistoryPage(page)),
        answer("pong", 9, Say::Pong(Pong { nonce: 17 })),
        answer("go away", 0, Say::GoAway(away())),
        answer(
            "go away, to these addresses",
            0,
            Say::GoAway(GoAway {
                addresses: vec!["ws://127.0.0.1:7420/v1/ws".to_owned()],
                reconnect_after_ms: 150,
                ..away()
            }),
        ),
    ]
}

fn away() -> GoAway {
    GoAway { within_ms: 2_000, reason: "the node is going down".to_owned(), ..GoAway::default() }
}

fn log_frames() -> Vec<(&'static str, ServerFrame)> {
    let name = || log().to_string();
    let here = Continue { head: token(9), replicated: token(8), head_offset: 9, replicated_offset: 8 };
    let diverged = || Diverged { log: name(), common: token(5), common_offset: 5 };
    let resumed = |answer| Say::Resumed(Resumed { log: name(), answer: Some(answer) });
    vec![
        answer("resumed: continue", 4, resumed(resumed::Answer::Continue(here))),
        answer("resumed: diverged", 4, resumed(resumed::Answer::Diverged(diverged()))),
        answer("resumed: error", 4, resumed(resumed::Answer::Error(error("behind", true, false)))),
        answer("entries of every kind", 0, Say::Entries(Entries { log: name(), entries: entries() })),
        answer("replicated", 0, Say::Replicated(Replicated { log: name(), position: token(8), offset: 8 })),
        answer("diverged", 0, Say::Diverged(diverged())),
        answer("behind", 0, Say::Behind(Behind { log: name(), position: token(9) })),
    ]
}

fn refusals() -> Vec<(&'static str, ServerFrame)> {
    let out_of_order = Error {
        retry_after_ms: Some(500),
        log: log().to_string(),
        message_id: SECOND.to_owned(),
        ..error("out_of_order", true, false)
    };
    let diverged = Error { common: Some(token(5)), ..error("diverged", false, false) };
    vec![
        answer("error: a write", 6, Say::Error(out_of_order)),
        answer("error: a write of unknown outcome", 6, Say::Error(error("indeterminate", true, true))),
        answer("error: a read from a position that was undone", 7, Say::Error(diverged)),
    ]
}

fn answer(name: &'static str, request_id: u64, frame: Say) -> (&'static str, ServerFrame) {
    (name, ServerFrame { request_id, frame: Some(frame) })
}

fn error(code: &str, retryable: bool, indeterminate: bool) -> Error {
    Error {
        code: code.to_owned(),
        message: "a sentence for people".to_owned(),
        retryable,
        indeterminate,
        ..Error::default()
    }
}

fn entries() -> Vec<Entry> {
    let member = |user: &str, role: &str| Member { user: user.to_owned(), role: role.to_owned() };
    let created = Created {
        members: vec![member("alice", "owner"), member("bob", "member")],
        ack_policy: AckPolicy::Home.into(),
        allowed_regions: vec!["us-east".to_owned()],
    };
    let bodies = [
        entry::Body::Created(created),
        entry::Body::Ciphertext(b"hello".to_vec().into()),
        entry::Body::Deleted(Deleted { offsets: vec![2] }),
        entry::Body::Erased(Erased {}),
    ];
    let entry = |(body, offset)| Entry {
        position: token(offset),
        offset,
        sender: "alice".to_owned(),
        device: 7_301,
        message_id: FIRST.to_owned(),
        accepted_at_ms: AT_MS,
        expires_at_ms: Some(AT_MS + 86_400_000),
        salvaged: false,
        kind: if offset == 4 { "reaction".to_owned() } else { String::new() },
        refers_to: (offset == 4).then(chats::reference),
        body: Some(body),
    };
    bodies.into_iter().chain(chats::changes()).zip(1..).map(entry).collect()
}
