//! What an app writes into a chat.

use crate::{Entry, EntryKey};
use bytes::Bytes;
use proto::client as wire;
use serde::{Deserialize, Serialize};
use types::{IdError, chat::MessageKind};

/// A message as an app writes it. What is bytes is a text that refers to nothing.
///
/// ```
/// # use client::{testing::FakeServer, Client, Config, Event, From, Message};
/// # use types::{DeviceId, UserId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = FakeServer::start().await;
/// # let alice = Client::connect(Config::new([server.url()], UserId::new("alice")?, DeviceId::new(1)))?;
/// # let chat = alice.open_direct(&UserId::new("bob")?).await?;
/// # chat.send("hello").await?.home().await?;
/// # let page = chat.history_before(&client::Position::start(), 1).await?;
/// # let entry = &page.entries[0];
/// chat.send("a text").await?;
/// chat.send(Message::reply(entry, "an answer")).await?;
/// chat.send(Message::reaction(entry, "👍")).await?;
/// chat.send(Message::edit(entry, "what it says from now on")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which kind it is. The server sees it.
    pub kind: MessageKind,
    /// What it replies to, reacts to or edits; the last two need it. The server sees it.
    pub refers_to: Option<Reference>,
    /// What it says, made unreadable by the app.
    pub body: Bytes,
}

impl Message {
    /// A message of a kind that refers to nothing.
    pub fn of_kind(kind: MessageKind, body: impl Into<Bytes>) -> Self {
        Self { kind, refers_to: None, body: body.into() }
    }

    /// A reference to media, made unreadable by the app.
    pub fn media(body: impl Into<Bytes>) -> Self {
        Self::of_kind(MessageKind::Media, body)
    }

    /// An answer to another message.
    pub fn reply(to: impl Into<Reference>, body: impl Into<Bytes>) -> Self {
        Self::about(MessageKind::Text, to, body)
    }

    /// What the user feels about a message.
    pub fn reaction(to: impl Into<Reference>, body: impl Into<Bytes>) -> Self {
        Self::about(MessageKind::Reaction, to, body)
    }

    /// What an own message says from now on. Refused (`forbidden`) where the message is another user's.
    pub fn edit(of: impl Into<Reference>, body: impl Into<Bytes>) -> Self {
        Self::about(MessageKind::Edit, of, body)
    }

    fn about(kind: MessageKind, of: impl Into<Reference>, body: impl Into<Bytes>) -> Self {
        Self { refers_to: Some(of.into()), ..Self::of_kind(kind, body) }
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(body: T) -> Self {
        Self::of_kind(MessageKind::Text, body)
    }
}

/// Another message of the same chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Which; it is the same wherever a failover puts it.
    pub key: EntryKey,
    /// Where its writer saw it; 0: not known.
    pub offset: u64,
}

impl From<&Entry> for Reference {
    fn from(entry: &Entry) -> Self {
        Self { key: entry.key(), offset: entry.offset }
    }
}

impl TryFrom<wire::Reference> for Reference {
    type Error = IdError;
    fn try_from(wire: wire::Reference) -> Result<Self, IdError> {
        Ok(Self { offset: wire.offset, key: wire.try_into()? })
    }
}

impl From<Reference> for wire::Reference {
    fn from(Reference { key, offset }: Reference) -> Self {
        let EntryKey { sender, device, message_id } = key;
        let (sender, message_id) = (sender.to_string(), message_id.to_string());
        Self { sender, device: device.get(), message_id, offset }
    }
}
