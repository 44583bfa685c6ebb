//! One sender, its readers, and the chats that they share: opened and followed before a run.

use super::crowd::in_turn;
use crate::commands::bench::wire::Wire;
use anyhow::{Context as _, bail};
use proto::client::{
    ChatOpened, Error, NewGroup, OpenChat, Subscribe, Unsubscribe, client_frame::Frame, open_chat, resumed,
    server_frame::Frame as Answer,
};
use std::{thread, time::Duration};
use types::{DeviceId, UserId};
use uuid::Uuid;

/// Every user of a run has one device.
pub(crate) const DEVICE: DeviceId = DeviceId::new(1);
/// Users that connect at the same time.
pub(super) const CONNECTING_MAX: usize = 32;

/// What every party looks like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Where the chats are opened, and so homed.
    pub(crate) home_edge: String,
    pub(crate) sender_edge: String,
    /// Where the readers are, in turn; each is a class.
    pub(crate) reader_edges: Vec<String>,
    /// Of each chat: the sender and its readers.
    pub(crate) members: usize,
    /// That each party shares.
    pub(crate) chats: usize,
}

/// A sender, its readers, their chats.
#[derive(Debug)]
pub(crate) struct Party {
    owner: UserId,
    pub(super) logs: Vec<String>,
    pub(super) sender: Wire,
    pub(super) readers: Vec<Wire>,
    pub(super) reader_classes: usize,
}

/// Connects parties, many at the same time.
pub(crate) fn connect_all(shape: &Shape, count: usize) -> anyhow::Result<Vec<Party>> {
    let run = Uuid::new_v4().simple().to_string();
    let connected = in_turn(count, |number| Party::connect(shape, &format!("bench-{run}-{number}")))?;
    Ok(connected.into_iter().map(|(_, party)| party).collect())
}

impl Party {
    /// Its chats.
    pub(crate) fn logs(&self) -> &[String] {
        &self.logs
    }

    /// The sender.
    pub(crate) const fn owner(&self) -> &UserId {
        &self.owner
    }

    fn connect(shape: &Shape, name: &str) -> anyhow::Result<Self> {
        let user = |member: usize| UserId::new(&format!("{name}-{member}"));
        let members = (0..shape.members).map(user).collect::<Result<Vec<_>, _>>()?;
        let mut sender = Wire::open(&shape.sender_edge, &members[0], DEVICE)?;
        let logs = if shape.home_edge == shape.sender_edge {
            open_chats(&mut sender, shape, &members[1..])?
        } else {
            open_chats(&mut Wire::open(&shape.home_edge, &members[0], DEVICE)?, shape, &members[1..])?
        };
        let mut readers = Vec::new();
        for (user, edge) in members[1..].iter().zip(shape.reader_edges.iter().cycle()) {
            let mut reader = Wire::open(edge, user, DEVICE)?;
            for log in &logs {
                follow(&mut reader, log).context("following a chat")?;
            }
            readers.push(reader);
        }
        sender.begin()?;
        readers.iter().try_for_each(Wire::begin)?;
        Ok(Self {
            owner: members[0].clone(),
            logs,
            sender,
            readers,
            reader_classes: shape.reader_edges.len(),
        })
    }
}

/// Two users have one direct chat; other chats are groups.
fn open_chats(wire: &mut Wire, shape: &Shape, others: &[UserId]) -> anyhow::Result<Vec<String>> {
    let chat = || match others {
        [other] if shape.chats == 1 => open_chat::Chat::DirectWith(other.to_string()),
        _ => open_chat::Chat::Group(NewGroup {
            key: Uuid::new_v4().to_string(),
            members: others.iter().map(UserId::to_string).collect(),
        }),
    };
    (0..shape.chats).map(|_| Ok(open(wire, chat()).context("opening a chat")?.log)).collect()
}

/// Opens a chat as the wire's user.
pub(super) fn open(wire: &mut Wire, chat: open_chat::Chat) -> anyhow::Result<ChatOpened> {
    match wire.ask(Frame::OpenChat(OpenChat { chat: Some(chat), ..OpenChat::default() }))? {
        Answer::ChatOpened(opened) => Ok(opened),
        other => bail!("opening was answered by {other:?}"),
    }
}

/// Follows a chat from its beginning. A replica that has not copied it yet says so, retryably.
fn follow(reader: &mut Wire, log: &str) -> anyhow::Result<()> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        let subscribe = Subscribe { log: log.to_owned(), ..Subscribe::default() };
        match reader.ask(Frame::Subscribe(subscribe))? {
            Answer::Resumed(answer) => match answer.answer {
                Some(resumed::Answer::Error(Error { retryable: true, .. })) => {}
                Some(resumed::Answer::Error(error)) => bail!("{}: {}", error.code, error.message),
                _ => return Ok(()),
            },
            other => bail!("following was answered by {other:?}"),
        }
        reader.tell(Frame::Unsubscribe(Unsubscribe { log: log.to_owned() }))?;
        thread::sleep(Duration::from_millis(100));
    }
    bail!("the chat cannot be followed")
}
