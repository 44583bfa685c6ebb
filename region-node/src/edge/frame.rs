//! Client frames and their two encodings.

use axum::extract::ws::{Message, Utf8Bytes};
use bytes::Bytes;
use prost::Message as _;
use proto::client::{ClientFrame, ServerFrame, server_frame::Frame};
use std::sync::OnceLock;

/// How a session's frames are encoded; chosen by its WebSocket subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `hearth.v1.proto`
    Proto,
    /// `hearth.v1.json`
    Json,
}

impl Encoding {
    pub(crate) const ALL: [Self; 2] = [Self::Proto, Self::Json];

    pub(crate) const fn subprotocol(self) -> &'static str {
        match self {
            Self::Proto => "hearth.v1.proto",
            Self::Json => "hearth.v1.json",
        }
    }

    pub(crate) fn encode(self, frame: &ServerFrame) -> Message {
        match self {
            Self::Proto => Message::Binary(frame.encode_to_vec().into()),
            Self::Json => {
                let text = serde_json::to_string(frame).expect("a frame is made of texts and numbers");
                Message::Text(text.into())
            }
        }
    }

    /// Reads a client's frame.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn decode(self, message: Message) -> Result<ClientFrame, String> {
        match (self, message) {
            (Self::Proto, Message::Binary(bytes)) => decode_proto(bytes),
            (Self::Json, Message::Text(text)) => decode_json(&text),
            (Self::Proto, _) => Err("hearth.v1.proto takes binary frames, and this one is text".to_owned()),
            (Self::Json, _) => Err("hearth.v1.json takes text frames, and this one is binary".to_owned()),
        }
    }
}

fn decode_proto(bytes: Bytes) -> Result<ClientFrame, String> {
    let length = bytes.len();
    ClientFrame::decode(bytes).map_err(|error| format!("{length} bytes are no ClientFrame: {error}"))
}

fn decode_json(text: &Utf8Bytes) -> Result<ClientFrame, String> {
    serde_json::from_str(text.as_str()).map_err(|error| format!("the text is no ClientFrame: {error}"))
}

/// An answer, or what is said unasked (request 0).
pub(crate) fn server_frame(request_id: u64, frame: Frame) -> ServerFrame {
    ServerFrame { request_id, frame: Some(frame) }
}

/// A frame for many sessions: encoded at most once in each encoding.
#[derive(Debug)]
pub(crate) struct SharedFrame {
    frame: ServerFrame,
    encoded: [OnceLock<Message>; 2],
}

impl SharedFrame {
    pub(crate) fn new(frame: Frame) -> Self {
        Self { frame: server_frame(0, frame), encoded: Default::default() }
    }

    pub(crate) fn message(&self, encoding: Encoding) -> Message {
        let at = match encoding {
            Encoding::Proto => 0,
            Encoding::Json => 1,
        };
        self.encoded[at].get_or_init(|| encoding.encode(&self.frame)).clone()
    }
}

/// The bytes that a message holds.
pub(crate) fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}
