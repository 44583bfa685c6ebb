//! Frames of what is live and no entry.

use super::{AT_MS, answer, log, token};
use proto::client::{
    LogMark, MarkCursors, ReadReceipts, Receipt, ReceiptMark, Receipts, ReceiptsPage, ServerFrame, Typing,
    TypingSeen, client_frame::Frame as Ask, server_frame::Frame as Say,
};

pub(super) fn asks() -> Vec<(&'static str, Ask)> {
    let mark = LogMark { log: log().to_string(), delivered: token(8), read: token(7) };
    let read = ReadReceipts { log: log().to_string(), offset: 7, after_user: "alice".to_owned(), limit: 20 };
    vec![
        ("mark cursors", Ask::MarkCursors(MarkCursors { logs: vec![mark] })),
        ("read receipts", Ask::ReadReceipts(read)),
        ("typing", Ask::Typing(Typing { log: log().to_string() })),
    ]
}

pub(super) fn frames() -> Vec<(&'static str, ServerFrame)> {
    let name = || log().to_string();
    let mark = |offset| Some(ReceiptMark { position: token(offset), offset, at_ms: AT_MS });
    let receipt = |read| Receipt { user: "bob".to_owned(), delivered: mark(8), read };
    let page = ReceiptsPage { log: name(), receipts: vec![receipt(mark(7))], at_end: true };
    let seen = TypingSeen { log: name(), user: "bob".to_owned(), ttl_ms: 5_000 };
    vec![
        answer("receipts", 0, Say::Receipts(Receipts { log: name(), receipts: vec![receipt(mark(7))] })),
        answer(
            "receipts of who shows nobody what is read",
            0,
            Say::Receipts(Receipts { log: name(), receipts: vec![receipt(None)] }),
        ),
        answer("receipts page", 51, Say::ReceiptsPage(page)),
        answer("typing seen", 0, Say::TypingSeen(seen)),
    ]
}
