//! One WebSocket connection: one task that reads, acts and writes.
//!
//! What comes from the node waits in the session's queue, so a client that does not read holds up nobody
//! else; when it takes nothing for the session's silence, the connection ends. Nothing is read from the
//! client while the queue is congested.

use super::{
    Connection, Edge, Farewell, Seat,
    errors::{Problem, close},
    frame::Encoding,
    queue::{Errands, SessionQueue},
    session::{AskOfChat, Finished, Input, Output, Session, Terms, closing},
    socket::{Broken, Socket},
};
use crate::{
    accounts::LiveSession,
    clock,
    reply::Reply,
    router::Draft,
    service::{Page, ReadFrom},
};
use axum::{
    Router,
    extract::{
        Extension, State, WebSocketUpgrade,
        connect_info::ConnectInfo,
        ws::{CloseFrame, Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use proto::client::{self, server_frame::Frame};
use std::{
    future::poll_fn,
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite;
use types::{Code, DeviceId, LogId, Position, Record, Refusal, UserId, limits};

/// What is kept of a connection's input, for as long as it lasts.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Frames up to this are written by one call. Allocated only while something waits.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// What a client that does not read, but pings, can make a connection hold: the largest frame, a page as
/// base64 in JSON, and room to spare.
const WRITE_BUFFER_MAX_BYTES: usize = 224 * 1024;
/// What the kernel is told to hold for a client; it takes twice that, for its own bookkeeping.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// How long a client has to go elsewhere when the node goes down.
const GO_AWAY: Duration = Duration::from_millis(500);
/// How often in a session's silence time is told to it.
const TICKS_IN_SILENCE: u32 = 8;
/// Messages of one client that are taken in before others have their turn.
const ROUND_FRAMES_MAX: usize = 64;
/// The share of a session's queue that a page of history may fill.
const PAGE_SHARE: usize = 4;

pub(super) fn routes(edge: &Edge) -> Router {
    Router::new().route("/v1/ws", any(upgrade)).with_state(edge.clone())
}

async fn upgrade(
    State(edge): State<Edge>,
    connection: Option<Extension<ConnectInfo<Connection>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let refuse = |code, why: String| Problem::from(Refusal::new(code, why)).into_response();
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols(Encoding::ALL.map(Encoding::subprotocol)),
        Err(error) => {
            return refuse(Code::BadRequest, format!("this address takes WebSockets: {}", error.body_text()));
        }
    };
    let chosen = upgrade.selected_protocol().and_then(|name| name.to_str().ok());
    let Some(encoding) = Encoding::ALL.into_iter().find(|encoding| Some(encoding.subprotocol()) == chosen)
    else {
        let [proto, json] = Encoding::ALL.map(Encoding::subprotocol);
        return refuse(Code::BadRequest, format!("Sec-WebSocket-Protocol must offer {proto} or {json}"));
    };
    let seat = match edge.admit().await {
        Ok(seat) => seat,
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    if let Some(Extension(ConnectInfo(connection))) = connection {
        connection.bound_send_buffer(SEND_BUFFER_BYTES);
    }
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
        .max_message_size(limits::FRAME_MAX_BYTES)
        .max_frame_size(limits::FRAME_MAX_BYTES)
        .on_upgrade(move |socket| run(edge, seat, socket, encoding))
}

async fn run(edge: Edge, seat: Seat, socket: WebSocket, encoding: Encoding) {
    let config = &edge.0.parts.config;
    let queue = Arc::new(SessionQueue::new(encoding, config.session_queue_bytes));
    let patience = Duration::from_millis(config.session_silence_ms);
    edge.0.delivery.enter(seat.id, Arc::clone(&queue));
    if edge.0.parts.shutdown.is_cancelled() {
        queue.leave();
    }
    let mut ticks = interval(patience / TICKS_IN_SILENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let terms = Terms {
        region: config.region.to_string(),
        node: config.node.to_string(),
        development: config.development,
        writes_max: config.session_writes_max,
        silence_ms: config.session_silence_ms,
    };
    let mut connection = Connected {
        here: None,
        core: Session::new(clock::boot_ms(), terms),
        edge: edge.clone(),
        seat,
        encoding,
        queue,
        socket: Socket::new(socket),
        tasks: FuturesUnordered::new(),
        ticks,
        patience,
        live: None,
    };
    poll_fn(|cx| connection.poll(cx)).await;
    edge.0.delivery.exit(connection.seat.id, connection.core.followed());
    if let Some((user, device)) = &connection.here {
        edge.0.live.exit(connection.seat.id, user, *device);
    }
    // What waits is written, if the client reads it; then the connection is closed.
    let rest = poll_fn(|cx| match connection.socket.poll_write(cx, &connection.queue) {
        Poll::Ready(Ok(true)) | Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(false) | Err(Broken)) => Poll::Ready(()),
    });
    let _ = tokio::time::timeout(patience, rest).await;
}

struct Connected {
    core: Session,
    /// Whose session it is, once it has begun: the user is there.
    here: Option<(UserId, DeviceId)>,
    edge: Edge,
    seat: Seat,
    encoding: Encoding,
    queue: Arc<SessionQueue>,
    socket: Socket,
    /// Reads and openings under way. Writes come back through the queue.
    tasks: FuturesUnordered<BoxFuture<'static, Finished>>,
    ticks: Interval,
    /// How long the client may take nothing.
    patience: Duration,
    /// Of a device that has logged in: the session is told when that is over.
    live: Option<LiveSession>,
}

impl Connected {
    /// Does all that can be done now: first what has come in, from the node and from the client, then
    /// everything that this gave to write, at once. Ready when the session has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.register(cx.waker());
        loop {
            let errands = self.queue.errands();
            let was_congested = errands.is_congested;
            let ControlFlow::Continue(heard) = self.take_in(cx, errands) else { return Poll::Ready(()) };
            let takes_more = match self.socket.poll_write(cx, &self.queue) {
                Poll::Ready(Ok(true)) => true,
                Poll::Pending => false,
                Poll::Ready(Ok(false) | Err(Broken)) => {
                    self.socket.abandon(&self.queue);
                    return Poll::Ready(());
                }
            };
            if heard == ROUND_FRAMES_MAX {
                // Others have their turn before the rest of what this client sends.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let hears_again = was_congested && !self.queue.is_congested();
            if !hears_again && self.queue.rest(takes_more) {
                return Poll::Pending;
            }
        }
    }

    /// Acts on everything that has come; breaks where that ends the session. Answers how many messages of
    /// the client there were.
    fn take_in(&mut self, cx: &mut Context<'_>, errands: Errands) -> ControlFlow<(), usize> {
        if errands.is_leaving {
            self.go_away();
            return ControlFlow::Break(());
        }
        if let Some(refusal) = errands.ousted {
            let (code, reason) = closing(refusal.code);
            self.queue.answer(0, Frame::Error(proto::client_error(&refusal)));
            self.close(code, reason);
            return ControlFlow::Break(());
        }
        if let Some(farewell) = errands.farewell {
            self.queue.answer(0, Frame::GoAway(wire_farewell(&farewell)));
        }
        for finished in errands.outcomes {
            self.handle(Input::Finished(finished))?;
        }
        let mut heard = 0;
        while !errands.is_congested
            && heard < ROUND_FRAMES_MAX
            && let Poll::Ready(message) = self.socket.poll_read(cx)
        {
            heard += 1;
            self.hear(message)?;
        }
        // Behind the messages, since a task that they start is woken only once it has been polled.
        while let Poll::Ready(Some(finished)) = self.tasks.poll_next_unpin(cx) {
            self.handle(Input::Finished(finished))?;
        }
        while self.ticks.poll_tick(cx).is_ready() {
            self.tick()?;
        }
        ControlFlow::Continue(heard)
    }

    fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> ControlFlow<()> {
        match message {
            Some(Ok(message)) => match self.read(message) {
                Some(input) => self.handle(input),
                None => ControlFlow::Continue(()),
            },
            Some(Err(error)) => {
                self.broken(&error);
                ControlFlow::Break(())
            }
            None => {
                self.socket.abandon(&self.queue);
                ControlFlow::Break(())
            }
        }
    }

    fn tick(&mut self) -> ControlFlow<()> {
        if self.socket.is_blocked_for(self.patience) {
            self.socket.abandon(&self.queue);
            return ControlFlow::Break(());
        }
        self.queue.shrink();
        self.socket.shrink();
        self.handle(Input::Tick { congested: self.queue.is_congested() })
    }

    fn read(&self, message: Message) -> Option<Input> {
        if matches!(message, Message::Ping(_) | Message::Pong(_) | Message::Close(_)) {
            return None;
        }
        Some(match self.encoding.decode(message) {
            Ok(frame) => Input::Frame(frame),
            Err(why) => Input::Malformed(why),
        })
    }

    /// The connection is no longer one: its end is told if that is still possible.
    fn broken(&self, error: &axum::Error) {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
        if let Some(tungstenite::Error::Capacity(_)) = cause {
            let why = format!("a frame is over {} bytes", limits::FRAME_MAX_BYTES);
            let refusal = Refusal::new(Code::TooLarge, why);
            self.queue.answer(0, Frame::Error(proto::client_error(&refusal)));
            self.close(close::TOO_BIG, "frame too large");
        } else {
            self.close(close::PROTOCOL_ERROR, "broken WebSocket");
        }
    }

    fn close(&self, code: u16, reason: &'static str) {
        self.queue.close(CloseFrame { code, reason: reason.into() });
    }

    fn go_away(&self) {
        let farewell = Farewell {
            after: Duration::ZERO,
            within: GO_AWAY,
            reason: "the node is going down",
            addresses: Vec::new(),
        };
        self.queue.answer(0, Frame::GoAway(wire_farewell(&farewell)));
        self.close(close::GOING_AWAY, "going down");
    }

    fn handle(&mut self, input: Input) -> ControlFlow<()> {
        let mut outputs = Vec::new();
        self.core.handle(clock::boot_ms(), input, &mut outputs);
        outputs.into_iter().try_for_each(|output| self.act(output))
    }

    fn act(&mut self, output: Output) -> ControlFlow<()> {
        let edge = Arc::clone(&self.edge.0);
        match output {
            Output::Authenticate { token } => {
                self.start(
                    async move { Finished::Authenticated { result: edge.accounts.bearer(&token).await } },
                );
            }
            Output::LookAfter(bearer) => {
                let (queue, standings) = (Arc::clone(&self.queue), edge.accounts.standings());
                self.live = Some(standings.enter(bearer.user, bearer.device, bearer.until_ms, queue));
            }
            Output::Welcome { request_id } => {
                let frame = self.core.welcome(clock::wall_ms(), edge.router.has_one_region());
                self.queue.answer(request_id, frame);
                if let Some((user, device)) = self.core.who() {
                    edge.live.enter(user, device);
                    self.here = Some((user.clone(), device));
                }
            }
            Output::Answer { frame: Frame::Sent(_), .. } if is_cut() => {
                self.socket.abandon(&self.queue);
                return ControlFlow::Break(());
            }
            Output::Answer { request_id, frame } => self.queue.answer(request_id, frame),
            Output::Append { request_id, user, device, message } => {
                let admitted = edge.admit_write(&user, device);
                let (log, message_id) = (message.log, message.message_id);
                let bytes = message.body_bytes();
                let began = Instant::now();
                let draft = Draft {
                    log,
                    sender: user,
                    device,
                    message_id,
                    after: message.after,
                    body: message.body,
                    ack: message.ack,
                    deadline: began + Duration::from_millis(message.deadline_ms),
                    beside: message.beside,
                };
                let queue = Arc::clone(&self.queue);
                let seconds = edge.write_seconds.clone();
                let reply = Reply::new(move |result| {
                    seconds.record(began.elapsed());
                    queue.finish(Finished::Appended { request_id, log, message_id, bytes, result });
                });
                match admitted {
                    Ok(()) => edge.router.append(draft, reply),
                    Err(refusal) => reply.give(Err(refusal)),
                }
            }
            Output::Open { request_id, user, open } => self.start(async move {
                Finished::Opened { request_id, result: edge.open_chat(user, open).await }
            }),
            Output::Read { request_id, user, reading } => {
                let bytes_max = edge.parts.config.session_queue_bytes / PAGE_SHARE;
                self.start(async move {
                    let (log, from) = (reading.log, reading.from);
                    let page = edge.router.read(log, &user, from, reading.limit, Position::START).await;
                    let result = page.map(|page| shorten(page, from, bytes_max));
                    Finished::Read { request_id, log, result }
                });
            }
            Output::AskOfChat { request_id, user, log, ask } => self.start(async move {
                let result = tell_of_chat(&edge.router, log, &user, ask).await;
                Finished::ToldOfChat { request_id, log, result }
            }),
            Output::Locate { request_id, user, log, follow, position } => self.start(async move {
                let result = async {
                    let answer = edge.router.locate(log, &user, position).await?;
                    Ok((edge.router.pin_of(log).await?, answer))
                };
                Finished::Located { request_id, log, follow, position, result: result.await }
            }),
            Output::Mark { log, user, device, reached } => edge.live.mark(log, user, device, reached),
            Output::Typing { log, user, device } => edge.live.typing(log, &user, device),
            Output::Watch { request_id, watcher, users, chat } => {
                let session = self.seat.id;
                self.start(async move {
                    let known = edge.live.watch(session, &watcher, users, chat).await;
                    Finished::Watched { request_id, known }
                });
            }
            Output::Unwatch(users) => users.iter().for_each(|user| edge.live.unwatch(self.seat.id, user)),
            Output::ReadReceipts { request_id, asked } => self.start(async move {
                let result = edge.live.receipts(&asked).await;
                Finished::Receipts { request_id, log: asked.log, result }
            }),
            Output::Join(join) => edge.delivery.join(self.seat.id, join),
            Output::Leave(log) => {
                edge.delivery.leave(self.seat.id, log);
                self.queue.forget_tick(log);
            }
            Output::Close { code, reason } => {
                self.close(code, reason);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn start(&mut self, task: impl Future<Output = Finished> + Send + 'static) {
        self.tasks.push(task.boxed());
    }
}

async fn tell_of_chat(
    router: &crate::router::Router,
    log: LogId,
    user: &UserId,
    ask: AskOfChat,
) -> Result<Frame, Refusal> {
    Ok(match ask {
        AskOfChat::Info => Frame::ChatInfo(router.chat_info(log, user).await?),
        AskOfChat::Members { after, limit } => {
            Frame::MembersPage(router.chat_members(log, user, after, limit).await?)
        }
        AskOfChat::Invites => Frame::InvitesPage(router.chat_invites(log, user, clock::wall_ms()).await?),
    })
}

fn wire_farewell(farewell: &Farewell) -> client::GoAway {
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    client::GoAway {
        within_ms: ms(farewell.within),
        reason: farewell.reason.to_owned(),
        addresses: farewell.addresses.clone(),
        reconnect_after_ms: ms(farewell.after),
    }
}

/// A page that fits a session's queue: it ends early, but never empty.
fn shorten(mut page: Page, from: ReadFrom, bytes_max: usize) -> Page {
    let bytes = |record: &Record| match record.entry().map(|entry| &entry.body) {
        Some(types::EntryBody::Message { ciphertext }) => 256 + ciphertext.len(),
        _ => 256,
    };
    let mut sum = 0;
    let mut fits = |record: &Record| {
        let is_first = sum == 0;
        sum += bytes(record);
        is_first || sum <= bytes_max
    };
    let count = match from {
        ReadFrom::After(_) => page.records.iter().take_while(|record| fits(record)).count(),
        ReadFrom::Before(_) => page.records.iter().rev().take_while(|record| fits(record)).count(),
    };
    if count < page.records.len() {
        page.at_end = false;
        match from {
            ReadFrom::After(_) => page.records.truncate(count),
            ReadFrom::Before(_) => drop(page.records.drain(..page.records.len() - count)),
        }
    }
    page
}

/// Whether a test has asked that the next ack be lost on its way to the client.
#[cfg(feature = "test-switches")]
fn is_cut() -> bool {
    let hold = std::env::var_os("HEARTH_TEST_HOLD").map(std::path::PathBuf::from);
    hold.is_some_and(|folder| std::fs::remove_file(folder.join("cut-reply")).is_ok())
}

#[cfg(not(feature = "test-switches"))]
const fn is_cut() -> bool {
    false
}
