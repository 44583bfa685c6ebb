//! Frames on the WebSocket: binary protobuf, or text in the canonical JSON mapping.

use crate::Encoding;
use serde::{Serialize, de::DeserializeOwned};
use tokio_tungstenite::tungstenite::Message;

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a binary frame cannot be read: {0}")]
    Proto(#[from] prost::DecodeError),
    #[error("a text frame cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the connection was closed")]
    Closed,
}

pub(crate) fn encode(frame: &(impl prost::Message + Serialize), encoding: Encoding) -> Message {
    match encoding {
        Encoding::Proto => Message::Binary(frame.encode_to_vec().into()),
        Encoding::Json => {
            let text = serde_json::to_string(frame).expect("a frame has text keys only");
            Message::Text(text.into())
        }
    }
}

/// The frame in a message; none in a WebSocket ping or pong.
pub(crate) fn decode<F: prost::Message + Default + DeserializeOwned>(
    message: Message,
) -> Result<Option<F>, Unreadable> {
    match message {
        Message::Binary(bytes) => Ok(Some(F::decode(bytes)?)),
        Message::Text(text) => Ok(Some(serde_json::from_str(&text)?)),
        Message::Close(_) => Err(Unreadable::Closed),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
    }
}
