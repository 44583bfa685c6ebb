//! Frames of what is live and no entry.

use super::{AT_MS, answer, log, token};
use proto::client::{
    LogMark, MarkCursors, Presence, ReadReceipts, Receipt, ReceiptMark, Receipts, ReceiptsPage, ServerFrame,
    Typing, TypingSeen, UserPresence, WatchPresence, client_frame::Frame as Ask, server_frame::Frame as Say,
    user_presence::State,
};

pub(super) fn asks() -> Vec<(&'static str, Ask)> {
    let mark = LogMark { log: log().to_string(), delivered: token(8), read: token(7) };
    let read = ReadReceipts { log: log().to_string(), offset: 7, after_user: "alice".to_owned(), limit: 20 };
    let watch = WatchPresence { users: vec!["bob".to_owned()], log: log().to_string(), stop: true };
    vec![
        ("mark cursors", Ask::MarkCursors(MarkCursors { logs: vec![mark] })),
        ("read receipts", Ask::ReadReceipts(read)),
        ("typing", Ask::Typing(Typing { log: log().to_string() })),
        ("watch presence", Ask::WatchPresence(watch)),
    ]
}

pub(super) fn frames() -> Vec<(&'static str, ServerFrame)> {
    let name = || log().to_string();
    let mark = |offset| Some(ReceiptMark { position: token(offset), offset, at_ms: AT_MS });
    let receipt = |read| Receipt { user: "bob".to_owned(), delivered: mark(8), read };
    let page = ReceiptsPage { log: name(), receipts: vec![receipt(mark(7))], at_end: true };
    let seen = TypingSeen { log: name(), user: "bob".to_owned(), ttl_ms: 5_000 };
    let presence = |user: &str, state: State, last_seen_ms| UserPresence {
        user: user.to_owned(),
        state: state.into(),
        last_seen_ms,
    };
    let users = vec![
        presence("bob", State::Online, Some(AT_MS)),
        presence("carol", State::Offline, None),
        presence("dave", State::Unspecified, None),
    ];
    vec![
        answer("receipts", 0, Say::Receipts(Receipts { log: name(), receipts: vec![receipt(mark(7))] })),
        answer(
            "receipts of who shows nobody what is read",
            0,
            Say::Receipts(Receipts { log: name(), receipts: vec![receipt(None)] }),
        ),
        answer("receipts page", 51, Say::ReceiptsPage(page)),
        answer("typing seen", 0, Say::TypingSeen(seen)),
        answer("presence", 53, Say::Presence(Presence { users })),
    ]
}
