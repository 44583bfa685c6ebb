//! The handles that an app holds.

mod chats;
mod group;

use crate::{
    Config, ConfigError, Entry, Event, HistoryError, Message, OpenError, Position, ReceiptsPage, SendError,
    Sending, Terms,
    account::Accounts,
    driver::{Command, Driver, Keeper, Outgoing, Room, Socket, Waiter},
    session::{Answer, From, Input, Page, SessionCore, Snapshot},
    tls::Tls,
};
use chats::Asking;
use proto::client::{self as wire, open_chat, read_history};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use types::{LogId, MessageId, UserId, limits};
use uuid::Uuid;

/// Commands on their way to the driver; a sender waits while it is full.
const COMMANDS_MAX: usize = 1_024;

/// A session of one device, kept up over reconnects until its last handle is dropped.
///
/// ```
/// # use client::{testing::FakeServer, Client, Config};
/// # use types::{DeviceId, UserId};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = FakeServer::start().await;
/// # let edge = server.url();
/// let alice = Client::connect(Config::new([edge], UserId::new("alice")?, DeviceId::new(1)))?;
/// let chat = alice.open_direct(&UserId::new("bob")?).await?;
///
/// let sending = chat.send("hello, Bob").await?; // in the outbox
/// let position = sending.replicated().await?; // survives the loss of any one region
/// # assert!(!position.is_start());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) commands: mpsc::Sender<Command>,
    room: Arc<Room>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    asking: Asking,
    bounds: crate::Bounds,
    /// Its events went to whoever started it.
    is_kept: bool,
    calls: AtomicU64,
}

impl Client {
    /// Starts a session. It connects in the background, tries every edge in turn, and never gives up by itself.
    ///
    /// # Errors
    /// All mistakes in the settings.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(config: Config) -> Result<Self, ConfigError> {
        Self::restore(config, Snapshot::default())
    }

    /// Starts a session that goes on where a [`Client::snapshot`] ended: it follows the same chats from the
    /// same positions, and sends what was in the outbox.
    ///
    /// # Errors
    /// All mistakes in the settings.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn restore(config: Config, snapshot: Snapshot) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self::start(config, snapshot, None, None))
    }

    /// Starts a session with good settings.
    pub(crate) fn start(
        config: Config,
        snapshot: Snapshot,
        keeper: Option<Keeper>,
        events: Option<mpsc::Sender<Event>>,
    ) -> Self {
        let bounds = config.bounds;
        let tls = Tls::new(config.roots.clone());
        let asking = Asking {
            accounts: Accounts::by(config.edges.clone(), tls.clone()),
            credentials: config.credentials.clone(),
            user: config.user.clone(),
            device: config.device,
        };
        let socket = Socket::new(config.encoding, tls, config.credentials.clone());
        let is_kept = keeper.is_some();
        let core = SessionCore::new(config, snapshot, host::random::number());
        let (messages, bytes) = core.outbox_size();
        let room = Arc::new(Room {
            messages: Semaphore::new(bounds.outbox_messages.saturating_sub(messages)),
            bytes: Semaphore::new(bounds.outbox_bytes.saturating_sub(bytes)),
        });
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(Driver::new(core, socket, inbox, room.clone(), keeper, events).run());
        let shared = Shared { asking, bounds, is_kept, calls: AtomicU64::new(1) };
        Self { commands, room, shared: Arc::new(shared) }
    }

    /// Who this is.
    pub fn user(&self) -> &UserId {
        &self.shared.asking.user
    }

    /// Everything that happens from now on, in all chats. A later call takes the events over.
    ///
    /// A client that [`Client::resume`] started has given its events there: here are none.
    ///
    /// Until this is called nothing is kept for the app. From then on the app must read: when
    /// [`crate::Bounds::events`] are waiting, the client stops reading from the server.
    ///
    /// ```
    /// # use client::{testing::FakeServer, Client, Config, Event, From};
    /// # use types::{DeviceId, UserId};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = FakeServer::start().await;
    /// # let edge = server.url();
    /// let bob = Client::connect(Config::new([edge], UserId::new("bob")?, DeviceId::new(2)))?;
    /// let mut events = bob.events().await;
    /// let chat = bob.open_direct(&UserId::new("alice")?).await?;
    /// chat.follow(From::Start).await;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::Entry { entry, .. } => {
    ///             println!("{} {}", entry.offset, entry.sender);
    ///             break;
    ///         }
    ///         Event::Diverged { undone, .. } => println!("{} entries were undone", undone.len()),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn events(&self) -> Events {
        let (sender, receiver) = mpsc::channel(self.shared.bounds.events);
        if self.shared.is_kept {
            return Events { receiver };
        }
        // A client that has ended has no events: the stream is empty.
        let _ = self.commands.send(Command::TakeEvents(sender)).await;
        Events { receiver }
    }

    /// Opens the direct chat with another user: the same one from both sides, made on the first call.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open_direct(&self, with: &UserId) -> Result<Chat, OpenError> {
        self.open_direct_on(with, Terms::default()).await
    }

    /// [`Client::open_direct`] on terms.
    ///
    /// # Errors
    /// [`OpenError`]; `chat_exists` when the chat is there on other terms.
    pub async fn open_direct_on(&self, with: &UserId, terms: Terms) -> Result<Chat, OpenError> {
        self.open(terms.of(open_chat::Chat::DirectWith(with.to_string()))).await
    }

    /// Opens a group. `key` is drawn once for each group (a UUID); a repetition opens the same one.
    ///
    /// # Errors
    /// [`OpenError`]; `chat_exists` when the key was used with other members.
    pub async fn open_group(&self, key: [u8; 16], members: &[UserId]) -> Result<Chat, OpenError> {
        self.open_group_on(key, members, Terms::default()).await
    }

    /// [`Client::open_group`] on terms.
    ///
    /// # Errors
    /// [`OpenError`]; `chat_exists` when the key was used with other members or on other terms.
    pub async fn open_group_on(
        &self,
        key: [u8; 16],
        members: &[UserId],
        terms: Terms,
    ) -> Result<Chat, OpenError> {
        let members = members.iter().map(UserId::to_string).collect();
        let group = wire::NewGroup { key: Uuid::from_bytes(key).to_string(), members };
        self.open(terms.of(open_chat::Chat::Group(group))).await
    }

    async fn open(&self, chat: wire::OpenChat) -> Result<Chat, OpenError> {
        match self.call(|call| Input::Open { call, chat }).await {
            Some(Answer::Opened(opened)) => opened.map(|(log, _)| self.chat(log)),
            _ => Err(OpenError::Closed),
        }
    }

    /// Tells from now on, as [`Event::Presence`], whether users are there with whom this one has a direct chat.
    /// At most 256 are watched at a time; those above are passed over.
    pub async fn watch(&self, users: &[UserId]) {
        self.tell(Input::Watch { users: users.to_vec(), chat: None }).await;
    }

    /// Tells it of these users no longer.
    pub async fn unwatch(&self, users: &[UserId]) {
        self.tell(Input::Unwatch { users: users.to_vec() }).await;
    }

    /// A chat that exists, by its id.
    pub fn chat(&self, log: LogId) -> Chat {
        Chat { client: self.clone(), log }
    }

    /// What to keep to go on after a restart; none when the client has ended.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Snapshot(answer)).await.ok()?;
        answered.await.ok()
    }

    async fn call(&self, input: impl FnOnce(u64) -> Input) -> Option<Answer> {
        let call = self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Call { input: input(call), call, answer }).await.ok()?;
        answered.await.ok()
    }

    async fn tell(&self, input: Input) {
        // A client that has ended follows nothing.
        let _ = self.commands.send(Command::Input(input)).await;
    }

    fn outbox_full(&self) -> SendError {
        let bounds = &self.shared.bounds;
        SendError::OutboxFull {
            messages: bounds.outbox_messages.saturating_sub(self.room.messages.available_permits()),
            bytes: bounds.outbox_bytes.saturating_sub(self.room.bytes.available_permits()),
            messages_max: bounds.outbox_messages,
            bytes_max: bounds.outbox_bytes,
        }
    }
}

/// What happens in a session, in order.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; none when the client has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event, where one is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

/// One chat of a client.
#[derive(Debug, Clone)]
pub struct Chat {
    client: Client,
    log: LogId,
}

impl Chat {
    /// The chat's id.
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// Puts a message into the outbox; where the client has a store, the message is in it when this is answered.
    /// The messages of one device enter the chat in the order of these calls,
    /// each once, whatever happens to connections and regions.
    ///
    /// ```
    /// # use client::{testing::FakeServer, Client, Config, SendError};
    /// # use types::{DeviceId, UserId};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = FakeServer::start().await;
    /// # let alice = Client::connect(Config::new([server.url()], UserId::new("alice")?, DeviceId::new(1)))?;
    /// # let chat = alice.open_direct(&UserId::new("bob")?).await?;
    /// match chat.send("hello").await {
    ///     Ok(sending) => println!("home at {}", sending.home().await?),
    ///     Err(error) if error.is_retryable() => println!("later: {error}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendError::OutboxFull`], [`SendError::TooLarge`], [`SendError::Closed`]: nothing was accepted.
    /// [`SendError::NotKept`]: the store has failed.
    pub async fn send(&self, message: impl Into<Message>) -> Result<Sending, SendError> {
        self.send_as(MessageId::from(host::random::id_in_time()), message).await
    }

    /// [`Chat::send`] under an id that the app has drawn (a UUID, once for each message): known before the
    /// message is on its way, so that the app can note it down first.
    ///
    /// # Errors
    /// As [`Chat::send`].
    pub async fn send_as(
        &self,
        message_id: MessageId,
        message: impl Into<Message>,
    ) -> Result<Sending, SendError> {
        let mut sending = self.accept_if_room(message_id, message.into()).await?;
        sending.kept().await?;
        Ok(sending)
    }

    async fn accept_if_room(&self, message_id: MessageId, message: Message) -> Result<Sending, SendError> {
        let message = check(message)?;
        let room = &self.client.room;
        let messages = room.messages.try_acquire().map_err(|_| self.client.outbox_full())?;
        let bytes =
            room.bytes.try_acquire_many(message.body.len() as u32).map_err(|_| self.client.outbox_full())?;
        messages.forget();
        bytes.forget();
        self.accept(message_id, message).await
    }

    /// [`Chat::send`] that waits while the outbox is full.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`], [`SendError::NotKept`].
    pub async fn send_when_room(&self, message: impl Into<Message>) -> Result<Sending, SendError> {
        let mut sending = self.send_ahead(message).await?;
        sending.kept().await?;
        Ok(sending)
    }

    /// [`Chat::send_when_room`] that does not wait for the store: [`Sending::kept`] does. So many messages share a
    /// commit; until then each of them can be lost with the process.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`].
    pub async fn send_ahead(&self, message: impl Into<Message>) -> Result<Sending, SendError> {
        let message = check(message.into())?;
        let room = &self.client.room;
        // The semaphores are never closed.
        let messages = room.messages.acquire().await.map_err(|_| SendError::Closed)?;
        let bytes =
            room.bytes.acquire_many(message.body.len() as u32).await.map_err(|_| SendError::Closed)?;
        messages.forget();
        bytes.forget();
        self.accept(MessageId::from(host::random::id_in_time()), message).await
    }

    async fn accept(&self, message_id: MessageId, message: Message) -> Result<Sending, SendError> {
        let (home_sender, home) = oneshot::channel();
        let (replicated_sender, replicated) = oneshot::channel();
        let waiter = Waiter { home: home_sender, replicated: replicated_sender };
        let (kept, is_kept) = match self.client.shared.is_kept {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let outgoing = Outgoing { log: self.log, message_id, message, waiter, kept };
        self.client.commands.send(Command::Send(outgoing)).await.map_err(|_| SendError::Closed)?;
        Ok(Sending { message_id, kept: is_kept, home, replicated })
    }

    /// Follows the chat: its entries come as [`Event::Entry`]. Nothing changes where it is followed already.
    pub async fn follow(&self, from: From) {
        self.client.tell(Input::Follow { log: self.log, from }).await;
    }

    /// Follows the chat no longer, once its messages are settled.
    pub async fn unfollow(&self) {
        self.client.tell(Input::Unfollow { log: self.log }).await;
    }

    /// Tells that the app has received a followed chat up to an entry. Told to the other members and to the user's
    /// other devices, a little later, all that was said meanwhile together.
    pub async fn mark_delivered(&self, entry: &Entry) {
        let delivered = Some((entry.offset, entry.position.clone()));
        self.client.tell(Input::Mark { log: self.log, delivered, read: None }).await;
    }

    /// Tells that the user has seen a followed chat up to an entry.
    pub async fn mark_read(&self, entry: &Entry) {
        let place = Some((entry.offset, entry.position.clone()));
        self.client.tell(Input::Mark { log: self.log, delivered: place.clone(), read: place }).await;
    }

    /// Tells the others that the user is typing; to be said again while it is true, at most every two seconds.
    pub async fn typing(&self) {
        self.client.tell(Input::Typing { log: self.log }).await;
    }

    /// [`Client::watch`] for members of this chat.
    pub async fn watch(&self, members: &[UserId]) {
        self.client.tell(Input::Watch { users: members.to_vec(), chat: Some(self.log) }).await;
    }

    /// How far the members have come, by name, behind `after`: those who have received the chat up to `offset`
    /// (0: all).
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn receipts(
        &self,
        offset: u64,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<ReceiptsPage, HistoryError> {
        let read = wire::ReadReceipts {
            log: self.log.to_string(),
            offset,
            after_user: after.map(UserId::to_string).unwrap_or_default(),
            limit: limit.clamp(1, limits::PAGE_MAX_ENTRIES) as u32,
        };
        match self.client.call(|call| Input::Receipts { call, read }).await {
            Some(Answer::Receipts(page)) => page,
            _ => Err(HistoryError::Closed),
        }
    }

    /// Reads entries behind a position, oldest first; [`Position::start`] begins at the first entry.
    ///
    /// # Errors
    /// [`HistoryError::Diverged`] when a failover has undone the position.
    pub async fn history_after(&self, position: &Position, limit: usize) -> Result<Page, HistoryError> {
        self.history(read_history::From::After(position.as_str().to_owned()), limit).await
    }

    /// Reads entries before a position; [`Position::start`] stands for the end: the newest entries. The page
    /// is in offset order.
    ///
    /// ```
    /// # use client::{testing::FakeServer, Client, Config, Position};
    /// # use types::{DeviceId, UserId};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = FakeServer::start().await;
    /// # let alice = Client::connect(Config::new([server.url()], UserId::new("alice")?, DeviceId::new(1)))?;
    /// # let chat = alice.open_direct(&UserId::new("bob")?).await?;
    /// # chat.send("hello").await?.home().await?;
    /// let mut before = Position::start();
    /// loop {
    ///     let page = chat.history_before(&before, 50).await?;
    ///     for entry in page.entries.iter().rev() {
    ///         println!("{} {}", entry.offset, entry.sender);
    ///     }
    ///     match page.entries.first() {
    ///         Some(oldest) if !page.at_end => before = oldest.position.clone(),
    ///         _ => break,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`HistoryError::Diverged`] when a failover has undone the position.
    pub async fn history_before(&self, position: &Position, limit: usize) -> Result<Page, HistoryError> {
        self.history(read_history::From::Before(position.as_str().to_owned()), limit).await
    }

    async fn history(&self, from: read_history::From, limit: usize) -> Result<Page, HistoryError> {
        let limit = limit.clamp(1, limits::PAGE_MAX_ENTRIES) as u32;
        let read = wire::ReadHistory { log: self.log.to_string(), from: Some(from), limit };
        match self.client.call(|call| Input::History { call, read }).await {
            Some(Answer::Page(page)) => page,
            _ => Err(HistoryError::Closed),
        }
    }
}

fn check(message: Message) -> Result<Message, SendError> {
    match message.body.len() {
        0..=limits::BODY_MAX_BYTES => Ok(message),
        bytes => Err(SendError::TooLarge { bytes, bytes_max: limits::BODY_MAX_BYTES }),
    }
}
