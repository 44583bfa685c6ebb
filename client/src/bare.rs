//! A bare connection, for tools and tests: frames out, frames in, nothing remembered.
//!
//! It does not reconnect, resend or order anything; an app wants [`crate::Client`].

use crate::{
    Roots,
    driver::{socket, transport::Transport},
    tls::Tls,
};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::client::{ClientFrame, Error, Hello, LogCursor, ServerFrame, client_frame, server_frame};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};
use types::{DeviceId, UserId, limits};

/// The request id of what [`Connection::ask`] asks; [`Connection::feed`] takes any other.
pub const ASKED: u64 = u64::MAX;

/// The connection is of no use any more, or the server said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BareError {
    /// The socket.
    #[error("the connection failed: {0}")]
    Socket(#[from] Box<tungstenite::Error>),
    /// The server ended it.
    #[error("the server closed the connection")]
    Closed,
    /// What came is no frame of the protocol.
    #[error("the server sent no frame: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The request was refused.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(Box<Error>),
    /// The answer is of the wrong kind.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

impl BareError {
    /// When to come again, where an edge had no room for the connection and said so, in ms.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Socket(error) => socket::retry_after_ms(error),
            Self::Refused(error) => error.retry_after_ms,
            Self::Closed | Self::Malformed(_) | Self::Unexpected(_) => None,
        }
    }
}

impl From<tungstenite::Error> for BareError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Socket(Box::new(error))
    }
}

/// One WebSocket connection that speaks `hearth.v1.proto`.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<Transport>,
}

impl Connection {
    /// Connects, without a hello.
    ///
    /// # Errors
    /// [`BareError::Socket`].
    pub async fn connect(edge: &str) -> Result<Self, BareError> {
        Self::connect_trusting(edge, Roots::Platform).await
    }

    /// [`Connection::connect`] to an edge for which these vouch, where it is reached by TLS.
    ///
    /// # Errors
    /// [`BareError::Socket`].
    pub async fn connect_trusting(edge: &str, roots: Roots) -> Result<Self, BareError> {
        let mut request = edge.into_client_request()?;
        let subprotocol = HeaderValue::from_static(crate::Encoding::Proto.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let stream =
            Transport::dial(request.uri(), &Tls::new(roots)).await.map_err(tungstenite::Error::Io)?;
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self { socket })
    }

    /// Connects and says hello, with the cursors that are to be resumed.
    ///
    /// # Errors
    /// Any [`BareError`].
    pub async fn open(
        edge: &str,
        user: &UserId,
        device: DeviceId,
        cursors: Vec<LogCursor>,
    ) -> Result<Self, BareError> {
        let hello = Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            user: user.to_string(),
            device: device.get(),
            cursors,
            agent: concat!("hearth-bare/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: String::new(),
        };
        Self::greet(edge, hello).await
    }

    /// Connects and says this Hello.
    ///
    /// # Errors
    /// [`BareError`] where it is not answered by a welcome.
    pub async fn greet(edge: &str, hello: Hello) -> Result<Self, BareError> {
        Self::greet_trusting(edge, hello, Roots::Platform).await
    }

    /// [`Connection::greet`] of an edge for which these vouch, where it is reached by TLS.
    ///
    /// # Errors
    /// As [`Connection::greet`].
    pub async fn greet_trusting(edge: &str, hello: Hello, roots: Roots) -> Result<Self, BareError> {
        let mut connection = Self::connect_trusting(edge, roots).await?;
        match connection.ask(client_frame::Frame::Hello(hello)).await? {
            server_frame::Frame::Welcome(_) => Ok(connection),
            other => Err(BareError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Sends one request and waits for its answer; whatever else comes before it is dropped.
    ///
    /// # Errors
    /// [`BareError::Refused`] when the answer is an error; otherwise the connection is over.
    pub async fn ask(&mut self, frame: client_frame::Frame) -> Result<server_frame::Frame, BareError> {
        self.feed(ASKED, frame).await?;
        self.flush().await?;
        loop {
            let answer = self.next().await?;
            match answer.frame {
                _ if answer.request_id != ASKED => {}
                Some(server_frame::Frame::Error(error)) => return Err(BareError::Refused(Box::new(error))),
                Some(frame) => return Ok(frame),
                None => return Err(BareError::Unexpected("a frame of a kind that is not known".to_owned())),
            }
        }
    }

    /// Queues a frame; see [`Connection::flush`].
    ///
    /// # Errors
    /// [`BareError::Socket`].
    pub async fn feed(&mut self, request_id: u64, frame: client_frame::Frame) -> Result<(), BareError> {
        let bytes = ClientFrame { request_id, frame: Some(frame) }.encode_to_vec();
        self.feed_raw(Message::Binary(bytes.into())).await
    }

    /// Queues a WebSocket message as it is, well-formed or not.
    ///
    /// # Errors
    /// [`BareError::Socket`].
    pub async fn feed_raw(&mut self, message: Message) -> Result<(), BareError> {
        Ok(self.socket.feed(message).await?)
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// [`BareError::Socket`].
    pub async fn flush(&mut self) -> Result<(), BareError> {
        Ok(self.socket.flush().await?)
    }

    /// The next frame. Cancel-safe.
    ///
    /// # Errors
    /// The connection is over.
    pub async fn next(&mut self) -> Result<ServerFrame, BareError> {
        loop {
            if let Message::Binary(bytes) = self.socket.next().await.ok_or(BareError::Closed)?? {
                return Ok(ServerFrame::decode(bytes)?);
            }
        }
    }
}
