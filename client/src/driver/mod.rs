//! The driver: does the I/O that the session core asks for, and decides nothing.
//!
//! One task owns the core, the socket and the waiters. While the app has events to take, nothing is read
//! from the socket, so that a slow app slows the server and not the client's memory.

pub(crate) mod codec;
mod keeper;
pub(crate) mod socket;
pub(crate) mod transport;

pub(crate) use keeper::Keeper;

use crate::{
    Event, Message, Position, SendError, StoreError,
    session::{Answer, From, Input, Output, SessionCore, Snapshot},
    store::Change,
};
use keeper::Then;
pub(crate) use socket::Socket;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use types::{LogId, MessageId};

/// Commands taken from the app at once.
const COMMANDS_BATCH: usize = 256;

/// What the app asks of the driver.
pub(crate) enum Command {
    Input(Input),
    Send(Outgoing),
    Call { input: Input, call: u64, answer: oneshot::Sender<Answer> },
    TakeEvents(mpsc::Sender<Event>),
    Snapshot(oneshot::Sender<Snapshot>),
    Confirm { changes: Vec<Change>, done: oneshot::Sender<Result<(), StoreError>> },
}

/// A message that the app wants sent.
pub(crate) struct Outgoing {
    pub(crate) log: LogId,
    pub(crate) message_id: MessageId,
    pub(crate) message: Message,
    pub(crate) waiter: Waiter,
    /// Told when the store has it; none where there is no store.
    pub(crate) kept: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// Who waits for a message's acks.
pub(crate) struct Waiter {
    pub(crate) home: oneshot::Sender<Result<Position, SendError>>,
    pub(crate) replicated: oneshot::Sender<Result<Position, SendError>>,
}

/// Room in the outbox: the app takes it before it sends, the driver gives it back.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) messages: Semaphore,
    pub(crate) bytes: Semaphore,
}

pub(crate) struct Driver {
    core: SessionCore,
    socket: Socket,
    keeper: Option<Keeper>,
    commands: mpsc::Receiver<Command>,
    room: Arc<Room>,
    /// Room that the app has taken.
    taken: (usize, usize),
    waiters: HashMap<MessageId, Waiting>,
    calls: HashMap<u64, oneshot::Sender<Answer>>,
    events: Option<mpsc::Sender<Event>>,
    pending: VecDeque<Event>,
    outputs: Vec<Output>,
    start: Instant,
}

#[derive(Default)]
struct Waiting {
    home: Option<oneshot::Sender<Result<Position, SendError>>>,
    replicated: Option<oneshot::Sender<Result<Position, SendError>>>,
}

impl Driver {
    pub(crate) fn new(
        core: SessionCore,
        socket: Socket,
        commands: mpsc::Receiver<Command>,
        room: Arc<Room>,
        keeper: Option<Keeper>,
        events: Option<mpsc::Sender<Event>>,
    ) -> Self {
        Self {
            taken: core.outbox_size(),
            core,
            socket,
            keeper,
            commands,
            room,
            waiters: HashMap::new(),
            calls: HashMap::new(),
            events,
            pending: VecDeque::new(),
            outputs: Vec::new(),
            start: Instant::now(),
        }
    }

    /// Runs until every handle of the app is gone.
    pub(crate) async fn run(mut self) {
        self.handle(Input::Start);
        let mut commands = Vec::with_capacity(COMMANDS_BATCH);
        loop {
            self.settle();
            let wake = self.core.wake_ms().map(|ms| self.start + Duration::from_millis(ms));
            let blocked = !self.pending.is_empty();
            let takes = self.keeper.as_ref().is_none_or(Keeper::has_room);
            tokio::select! {
                count = self.commands.recv_many(&mut commands, COMMANDS_BATCH), if takes => {
                    if count == 0 {
                        break;
                    }
                    for command in commands.drain(..) {
                        self.command(command);
                    }
                }
                inputs = self.socket.progress(!blocked) => {
                    for input in inputs {
                        self.handle(input);
                    }
                }
                (then, outcome) = committed(&mut self.keeper), if self.keeper.is_some() => {
                    self.kept(then, &outcome);
                }
                () = offer(self.events.as_ref(), &mut self.pending), if blocked => {}
                () = sleep_until(wake) => {
                    if blocked {
                        self.handle(Input::Heard);
                    }
                    self.handle(Input::Tick);
                }
            }
        }
        if let Some(keeper) = self.keeper.take() {
            keeper.finish().await;
        }
        self.handle(Input::Close);
        self.socket.flush_and_close().await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Input(input) => {
                if let Some(keeper) = &mut self.keeper {
                    keep_followed(keeper, &input);
                }
                self.handle(input);
            }
            Command::Send(message) => {
                self.taken.0 += 1;
                self.taken.1 += message.message.body.len();
                match &mut self.keeper {
                    Some(keeper) => keeper.queue(message),
                    None => self.send(message),
                }
            }
            Command::Confirm { changes, done } => {
                if let Some(keeper) = &mut self.keeper {
                    keeper.confirm(changes, done);
                }
            }
            Command::Call { input, call, answer } => {
                self.calls.insert(call, answer);
                self.handle(input);
            }
            Command::TakeEvents(events) => self.events = Some(events),
            Command::Snapshot(answer) => {
                // The app may have stopped waiting; then nobody needs it.
                let _ = answer.send(self.core.snapshot());
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { log, message_id, message, waiter: Waiter { home, replicated }, .. } = outgoing;
        self.waiters.insert(message_id, Waiting { home: Some(home), replicated: Some(replicated) });
        self.handle(Input::Send { log, message_id, message });
    }

    /// A commit has ended: what waited for it goes on, in its order.
    fn kept(&mut self, then: Vec<Then>, outcome: &Result<(), StoreError>) {
        for then in then {
            match then {
                // Whoever no longer waits does not need to be told.
                Then::Confirmed(done) => drop(done.send(outcome.clone())),
                Then::Send(mut message) => {
                    if let Some(kept) = message.kept.take() {
                        let _ = kept.send(outcome.clone());
                    }
                    match (outcome, &mut self.keeper) {
                        (Err(_), Some(keeper)) => keeper.not_kept(&message),
                        _ => self.send(message),
                    }
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let now_ms = self.start.elapsed().as_millis() as u64;
        let mut outputs = std::mem::take(&mut self.outputs);
        self.core.handle(now_ms, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Connect { edge, refused_token } => self.socket.connect(&edge, refused_token),
                Output::Disconnect => self.socket.disconnect(),
                Output::Frame(frame) => self.socket.write(&frame),
                Output::Event(event) => self.event(event),
                Output::Answer { call, answer } => {
                    if let Some(waiting) = self.calls.remove(&call) {
                        // The app may have stopped waiting.
                        let _ = waiting.send(answer);
                    }
                }
            }
        }
        self.outputs = outputs;
    }

    fn event(&mut self, event: Event) {
        self.tell_waiter(&event);
        match (&mut self.keeper, &event) {
            (Some(keeper), Event::Following { log, position, offset }) => {
                keeper.follow(*log, position.clone(), *offset);
            }
            (Some(keeper), Event::Unfollowed { log, .. }) => keeper.given_up(*log),
            _ => {}
        }
        let Some(events) = &self.events else { return };
        if !self.pending.is_empty() {
            self.pending.push_back(event);
            return;
        }
        match events.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => self.pending.push_back(event),
            Err(mpsc::error::TrySendError::Closed(_)) => self.events = None,
        }
    }

    fn tell_waiter(&mut self, event: &Event) {
        let (id, outcome, last) = match event {
            Event::Home { message_id, position, last, .. } => (message_id, Ok(position.clone()), *last),
            Event::Replicated { message_id, position, .. } => (message_id, Ok(position.clone()), true),
            Event::Failed { message_id, error, .. } => (message_id, Err(error.clone()), true),
            _ => return,
        };
        let Some(waiting) = self.waiters.get_mut(id) else { return };
        // Whoever no longer waits does not need to be told.
        if let Some(home) = waiting.home.take() {
            let _ = home.send(outcome.clone());
        }
        if last {
            let one_region = matches!(event, Event::Home { .. });
            let outcome = if one_region { Err(SendError::OneRegion) } else { outcome };
            if let Some(replicated) = waiting.replicated.take() {
                let _ = replicated.send(outcome);
            }
            self.waiters.remove(id);
        }
    }

    /// Gives back the room of what has left the outbox, and forgets events that nobody will take.
    fn settle(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.begin();
        }
        let (messages, bytes) =
            self.keeper.as_ref().map_or_else(|| self.core.outbox_size(), Keeper::outbox_size);
        self.room.messages.add_permits(self.taken.0 - messages);
        self.room.bytes.add_permits(self.taken.1 - bytes);
        self.taken = (messages, bytes);
        if self.events.as_ref().is_none_or(mpsc::Sender::is_closed) {
            self.pending.clear();
        }
    }
}

/// A chat that the app wants followed is followed after a restart too, from where it wanted to begin: what it
/// has not been told is behind that. Where it begins at the end, [`Event::Following`] says where that is.
fn keep_followed(keeper: &mut Keeper, input: &Input) {
    match input {
        Input::Follow { log, from: From::Start } => keeper.follow(*log, Position::start(), 0),
        Input::Follow { log, from: From::After { position, offset } } => {
            keeper.follow(*log, position.clone(), *offset);
        }
        Input::Unfollow { log } => keeper.unfollow(*log),
        _ => {}
    }
}

async fn committed(keeper: &mut Option<Keeper>) -> (Vec<Then>, Result<(), StoreError>) {
    match keeper {
        Some(keeper) => keeper.committed().await,
        None => std::future::pending().await,
    }
}

/// Hands pending events over as the app makes room. Cancel-safe: an event leaves only with a permit.
async fn offer(events: Option<&mpsc::Sender<Event>>, pending: &mut VecDeque<Event>) {
    let Some(events) = events else { return };
    let Ok(permit) = events.reserve().await else { return pending.clear() };
    if let Some(event) = pending.pop_front() {
        permit.send(event);
    }
    while !pending.is_empty()
        && let Ok(permit) = events.try_reserve()
        && let Some(event) = pending.pop_front()
    {
        permit.send(event);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
