//! The WebSocket, or the attempt to open one.

use super::{codec, transport::Transport};
use crate::{
    Encoding,
    account::{AccountError, Credentials},
    session::Input,
    tls::Tls,
};
use futures_util::{
    FutureExt, Sink, SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use proto::client as wire;
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{
            HeaderValue,
            header::{HeaderName, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::WebSocketConfig,
    },
};

type Stream = WebSocketStream<Transport>;
type Opening = Pin<Box<dyn Future<Output = Result<(Stream, Option<String>), NotOpened>> + Send>>;

/// No connection.
enum NotOpened {
    Socket(Error),
    NoToken(AccountError),
}

impl NotOpened {
    /// What the session is told of it.
    fn told(self) -> Input {
        match self {
            Self::Socket(error) => {
                let reason = error.to_string();
                match retry_after_ms(&error) {
                    None => Input::Disconnected { reason },
                    Some(retry_after_ms) => Input::TurnedAway { reason, retry_after_ms },
                }
            }
            Self::NoToken(AccountError::Refused(error)) if !error.retryable => Input::Barred { error },
            Self::NoToken(error) => Input::Disconnected { reason: format!("no access token: {error}") },
        }
    }
}

/// Frames that are read at once before the rest of the driver has its turn.
const READ_BATCH: usize = 64;
/// The longest message that is read: a page of the largest size, as base64, with room to spare.
const MESSAGE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

enum State {
    Closed,
    Opening(Opening),
    Open { reader: SplitStream<Stream>, writer: SplitSink<Stream, Message> },
}

pub(crate) struct Socket {
    encoding: Encoding,
    tls: Arc<Tls>,
    credentials: Option<Credentials>,
    state: State,
    queue: VecDeque<Message>,
    unflushed: bool,
}

impl Socket {
    pub(crate) const fn new(encoding: Encoding, tls: Arc<Tls>, credentials: Option<Credentials>) -> Self {
        Self { encoding, tls, credentials, state: State::Closed, queue: VecDeque::new(), unflushed: false }
    }

    pub(super) fn connect(&mut self, edge: &str, refused_token: Option<String>) {
        self.disconnect();
        let (edge, encoding, tls) = (edge.to_owned(), self.encoding, Arc::clone(&self.tls));
        let credentials = self.credentials.clone();
        let opened = async move {
            let token = match credentials {
                Some(credentials) => {
                    Some(credentials.token(refused_token).await.map_err(NotOpened::NoToken)?)
                }
                None => None,
            };
            Ok((open(edge, encoding, tls).await.map_err(NotOpened::Socket)?, token))
        };
        self.state = State::Opening(Box::pin(opened));
    }

    pub(super) fn disconnect(&mut self) {
        self.state = State::Closed;
        self.queue.clear();
        self.unflushed = false;
    }

    /// Queues a frame. The core's window bounds the queue.
    pub(super) fn write(&mut self, frame: &wire::ClientFrame) {
        self.queue.push_back(codec::encode(frame, self.encoding));
    }

    /// Writes what is queued and reads what comes (unless `read` is false), until there is something to tell.
    /// Cancel-safe: a frame leaves the queue only into the socket, and a frame read is always answered.
    pub(super) async fn progress(&mut self, read: bool) -> Vec<Input> {
        let ended = match &mut self.state {
            State::Closed => std::future::pending().await,
            State::Opening(opening) => match opening.await {
                Ok((stream, token)) => {
                    let (writer, reader) = stream.split();
                    self.state = State::Open { reader, writer };
                    return token.map(Input::Token).into_iter().chain([Input::Connected]).collect();
                }
                Err(error) => {
                    self.disconnect();
                    return vec![error.told()];
                }
            },
            State::Open { reader, writer } => {
                let (queue, unflushed) = (&mut self.queue, &mut self.unflushed);
                let step = poll_fn(|cx| {
                    if let Poll::Ready(Err(error)) = poll_write(writer, queue, unflushed, cx) {
                        return Poll::Ready(Err(error.to_string()));
                    }
                    if !read {
                        return Poll::Pending;
                    }
                    Poll::Ready(match ready!(reader.poll_next_unpin(cx)) {
                        Some(Ok(message)) => Ok(message),
                        Some(Err(error)) => Err(error.to_string()),
                        None => Err("the node closed the connection".to_owned()),
                    })
                });
                match step.await {
                    Ok(message) => match read_batch(message, reader) {
                        (inputs, None) => return inputs,
                        (mut inputs, Some(reason)) => {
                            self.disconnect();
                            inputs.push(Input::Disconnected { reason });
                            return inputs;
                        }
                    },
                    Err(reason) => reason,
                }
            }
        };
        self.disconnect();
        vec![Input::Disconnected { reason: ended }]
    }

    pub(super) async fn flush_and_close(&mut self) {
        if let State::Open { writer, .. } = &mut self.state {
            let close = writer.close();
            // A peer that does not answer the closing handshake is left alone.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
    }
}

/// The message, and those that are here already.
fn read_batch(first: Message, reader: &mut SplitStream<Stream>) -> (Vec<Input>, Option<String>) {
    let mut inputs = Vec::new();
    let mut next = Some(first);
    while let Some(message) = next.take() {
        match codec::decode(message) {
            Ok(Some(frame)) => inputs.push(Input::Frame(frame)),
            Ok(None) => {}
            Err(error) => return (inputs, Some(error.to_string())),
        }
        if inputs.len() >= READ_BATCH {
            break;
        }
        match reader.next().now_or_never() {
            Some(Some(Ok(message))) => next = Some(message),
            Some(Some(Err(error))) => return (inputs, Some(error.to_string())),
            Some(None) => return (inputs, Some("the node closed the connection".to_owned())),
            None => {}
        }
    }
    (inputs, None)
}

fn poll_write(
    writer: &mut SplitSink<Stream, Message>,
    queue: &mut VecDeque<Message>,
    unflushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut writer = Pin::new(writer);
    while !queue.is_empty() {
        ready!(writer.as_mut().poll_ready(cx))?;
        if let Some(message) = queue.pop_front() {
            writer.as_mut().start_send(message)?;
            *unflushed = true;
        }
    }
    if *unflushed {
        ready!(writer.as_mut().poll_flush(cx))?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}

async fn open(edge: String, encoding: Encoding, tls: Arc<Tls>) -> Result<Stream, Error> {
    let mut request = edge.into_client_request()?;
    let subprotocol = HeaderValue::from_static(encoding.subprotocol());
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES));
    let stream = Transport::dial(request.uri(), &tls).await?;
    let (stream, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
    Ok(stream)
}

/// The same as `Retry-After`, in ms.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// When to come again, where an edge refused the connection and said so.
pub(crate) fn retry_after_ms(error: &Error) -> Option<u64> {
    let Error::Http(response) = error else { return None };
    let number =
        |name: HeaderName| -> Option<u64> { response.headers().get(name)?.to_str().ok()?.parse().ok() };
    number(RETRY_AFTER_MS).or_else(|| Some(number(RETRY_AFTER)?.saturating_mul(1_000)))
}
