//! A bare client connection: frames out, frames in, nothing remembered.

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::client::{ClientFrame, Hello, ServerFrame, client_frame, server_frame};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, client::IntoClientRequest as _, http::HeaderValue},
};
use types::{UserId, limits};

/// A connection after its hello.
pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Connection {
    /// Connects and says hello.
    pub(super) async fn open(edge: &str, user: &UserId) -> anyhow::Result<Self> {
        let mut request = edge.into_client_request().with_context(|| format!("edge {edge:?}"))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("hearth.v1.proto"));
        let (socket, _) = connect_async(request).await.with_context(|| format!("connecting to {edge}"))?;
        let mut connection = Self { socket };
        let hello = Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            user: user.to_string(),
            device: 1,
            agent: "hearth bench".to_owned(),
            ..Hello::default()
        };
        match connection.ask(client_frame::Frame::Hello(hello)).await? {
            server_frame::Frame::Welcome(_) => Ok(connection),
            other => bail!("hello was answered by {other:?}"),
        }
    }

    /// Sends one request and waits for its answer; what else comes is dropped.
    pub(super) async fn ask(&mut self, frame: client_frame::Frame) -> anyhow::Result<server_frame::Frame> {
        const REQUEST: u64 = u64::MAX;
        self.feed(REQUEST, frame).await?;
        self.flush().await?;
        loop {
            let answer = self.next().await?;
            if answer.request_id != REQUEST {
                continue;
            }
            match answer.frame.context("an answer without a frame")? {
                server_frame::Frame::Error(error) => bail!("{}: {}", error.code, error.message),
                frame => return Ok(frame),
            }
        }
    }

    /// Queues a frame.
    pub(super) async fn feed(&mut self, request_id: u64, frame: client_frame::Frame) -> anyhow::Result<()> {
        let bytes = ClientFrame { request_id, frame: Some(frame) }.encode_to_vec();
        Ok(self.socket.feed(tungstenite::Message::Binary(bytes.into())).await?)
    }

    /// Writes what is queued.
    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.socket.flush().await?)
    }

    /// The next frame. Cancel-safe.
    pub(super) async fn next(&mut self) -> anyhow::Result<ServerFrame> {
        loop {
            let message = self.socket.next().await.context("the server closed the connection")??;
            if let tungstenite::Message::Binary(bytes) = message {
                return Ok(ServerFrame::decode(bytes)?);
            }
        }
    }
}
