//! Bare sessions: a test says which frame goes out and sees each that comes in.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use client::bare::{BareError, Connection};
use proto::client::{
    self as wire, client_frame::Frame, entry, open_chat, read_history, resumed, server_frame::Frame as Answer,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use types::{DeviceId, Position, PositionToken, UserId};
use uuid::Uuid;

/// A user's name.
///
/// # Panics
/// When it is no valid one.
pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// Connects as a user's first device.
///
/// # Errors
/// The edge does not answer as it should.
pub async fn connect(edge: &str, name: &str) -> Result<Connection, BareError> {
    Connection::open(edge, &user(name), DeviceId::new(1), vec![]).await
}

/// Opens a group whose home is where `session` is connected; answers its log.
///
/// # Errors
/// It is refused.
pub async fn open_group(session: &mut Connection, members: &[&str]) -> anyhow::Result<String> {
    let group = wire::NewGroup {
        key: Uuid::new_v4().to_string(),
        members: members.iter().map(|name| (*name).to_owned()).collect(),
    };
    open(session, open_chat::Chat::Group(group)).await
}

/// Opens the direct chat with another user.
///
/// # Errors
/// It is refused.
pub async fn open_direct(session: &mut Connection, with: &str) -> anyhow::Result<String> {
    open(session, open_chat::Chat::DirectWith(with.to_owned())).await
}

async fn open(session: &mut Connection, chat: open_chat::Chat) -> anyhow::Result<String> {
    let frame = wire::OpenChat { chat: Some(chat), ..wire::OpenChat::default() };
    match session.ask(Frame::OpenChat(frame)).await? {
        Answer::ChatOpened(opened) => Ok(opened.log),
        other => bail!("opening was answered by {other:?}"),
    }
}

/// A message with a fresh id.
pub fn message(log: &str, body: &str) -> wire::Send {
    wire::Send {
        log: log.to_owned(),
        message_id: Uuid::now_v7().to_string(),
        ciphertext: Bytes::copy_from_slice(body.as_bytes()),
        ..wire::Send::default()
    }
}

/// Sends one message and waits for its ack.
///
/// # Errors
/// It is refused.
pub async fn send(session: &mut Connection, message: wire::Send) -> Result<wire::Sent, BareError> {
    match session.ask(Frame::Send(message)).await? {
        Answer::Sent(sent) => Ok(sent),
        other => Err(BareError::Unexpected(format!("{other:?}"))),
    }
}

/// Sends messages under ascending request ids, without waiting for anything; [`answers`] gives what becomes
/// of them.
///
/// # Errors
/// The connection is over.
pub async fn send_ahead(
    session: &mut Connection,
    first_request: u64,
    messages: &[wire::Send],
) -> Result<(), BareError> {
    for (request_id, message) in (first_request..).zip(messages) {
        session.feed(request_id, Frame::Send(message.clone())).await?;
    }
    session.flush().await
}

/// How one message ended.
pub type Outcome = Result<wire::Sent, wire::Error>;

/// The answers to `count` messages of [`send_ahead`], in the order of their request ids.
///
/// # Errors
/// The session ends, or the time is over.
pub async fn answers(
    session: &mut Connection,
    count: usize,
    patience: Duration,
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes: BTreeMap<u64, Outcome> = BTreeMap::new();
    let reading = async {
        while outcomes.len() < count {
            let answer = session.next().await?;
            match answer.frame {
                Some(Answer::Sent(sent)) => drop(outcomes.insert(answer.request_id, Ok(sent))),
                Some(Answer::Error(error)) => drop(outcomes.insert(answer.request_id, Err(error))),
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    match timeout(patience, reading).await {
        Ok(outcome) => outcome.map(|()| outcomes.into_values().collect()),
        Err(_) => bail!("{} of {count} answers within {patience:?}", outcomes.len()),
    }
}

/// What a position token stands for.
///
/// # Panics
/// When it is none of this log.
pub fn position(log: &str, token: &str) -> Position {
    PositionToken::open(crate::placing::log_id(log), token).expect("a position of this log")
}

/// Follows a chat from a position; answers what became of the position.
///
/// # Errors
/// The chat cannot be followed.
pub async fn follow(session: &mut Connection, log: &str, position: &str) -> anyhow::Result<resumed::Answer> {
    let frame = wire::Subscribe { log: log.to_owned(), position: position.to_owned() };
    match session.ask(Frame::Subscribe(frame)).await? {
        Answer::Resumed(wire::Resumed { answer: Some(resumed::Answer::Error(error)), .. }) => {
            bail!("{}: {}", error.code, error.message)
        }
        Answer::Resumed(resumed) => resumed.answer.context("an empty answer"),
        other => bail!("following was answered by {other:?}"),
    }
}

/// A whole chat, page by page, oldest first, from its beginning.
///
/// # Errors
/// A page is refused.
pub async fn history(session: &mut Connection, log: &str) -> Result<Vec<wire::Entry>, BareError> {
    let mut entries: Vec<wire::Entry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.position.clone()).unwrap_or_default();
        let frame = wire::ReadHistory {
            log: log.to_owned(),
            limit: 200,
            from: Some(read_history::From::After(after)),
        };
        let page = match session.ask(Frame::ReadHistory(frame)).await? {
            Answer::HistoryPage(page) => page,
            other => return Err(BareError::Unexpected(format!("{other:?}"))),
        };
        let at_end = page.at_end || page.entries.is_empty();
        entries.extend(page.entries);
        if at_end {
            return Ok(entries);
        }
    }
}

/// The text of a message entry; `None` for other entries.
pub fn text(entry: &wire::Entry) -> Option<String> {
    match &entry.body {
        Some(entry::Body::Ciphertext(body)) => Some(String::from_utf8_lossy(body).into_owned()),
        _ => None,
    }
}

/// Entries of a followed chat as they come, until there are `count` of them.
///
/// # Errors
/// The session ends, is told that it diverged or is behind, or the time is over.
pub async fn receive(
    session: &mut Connection,
    count: usize,
    patience: Duration,
) -> anyhow::Result<Vec<wire::Entry>> {
    let mut entries = Vec::new();
    let reading = async {
        while entries.len() < count {
            match session.next().await?.frame {
                Some(Answer::Entries(more)) => entries.extend(more.entries),
                Some(Answer::Diverged(told)) => bail!("told diverged({})", told.common_offset),
                Some(Answer::Behind(_)) => bail!("told behind"),
                Some(Answer::Error(error)) => bail!("{}: {}", error.code, error.message),
                _ => {}
            }
        }
        Ok(())
    };
    match timeout(patience, reading).await {
        Ok(outcome) => outcome.map(|()| entries),
        Err(_) => bail!("{} of {count} entries within {patience:?}", entries.len()),
    }
}
