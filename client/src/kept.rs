//! Clients that outlive their process.

use crate::{
    Client, Config, Event, ResumeError, StoreError,
    driver::{Command, Keeper},
    store::{Ledger, Store},
};
use tokio::sync::{mpsc, oneshot};

impl Client {
    /// Starts a session that is kept in a store, and goes on where the store's last one ended, however it ended: it
    /// follows the same chats from where the app stood, and sends what was in the outbox under the same message ids.
    ///
    /// The app takes the events, and confirms them once it has done with them what it does. It must do both: a
    /// message leaves the outbox only when its outcome is confirmed, and when [`crate::Bounds::events`] events wait,
    /// the client stops reading from the server.
    ///
    /// Blocks while the store is read.
    ///
    /// ```
    /// # use client::{testing::FakeServer, Client, Config, Event, From, store::DiskStore};
    /// # use types::UserId;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = FakeServer::start().await;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("alice.state");
    /// let alice = UserId::new("alice")?;
    /// let store = DiskStore::open(&path, &alice, None)?;
    /// let config = Config::new([server.url()], alice, store.device());
    /// let (client, mut events) = Client::resume(config, store)?;
    /// let chat = client.open_direct(&UserId::new("bob")?).await?;
    /// chat.follow(From::Start).await; // nothing changes where the store says that it is followed
    ///
    /// let message_id = chat.send("hello").await?.message_id(); // on disk
    /// while let Some(event) = events.next().await {
    ///     let done = matches!(&event, Event::Replicated { message_id: of, .. } if *of == message_id);
    ///     // ... what the app does with the event ...
    ///     events.confirm().await?; // not told again
    ///     if done {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ResumeError`]: the settings are wrong, or the store cannot be read or is that of another device.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn resume(config: Config, mut store: impl Store) -> Result<(Self, KeptEvents), ResumeError> {
        config.validate()?;
        let snapshot = store.load(&config.user, config.device)?;
        let ledger = Ledger::new(&snapshot, config.bounds.timeline_entries);
        let keeper = Keeper::new(Box::new(store), &snapshot);
        let (sender, receiver) = mpsc::channel(config.bounds.events);
        let client = Self::start(config, snapshot, Some(keeper), Some(sender));
        let commands = client.commands.downgrade();
        Ok((client, KeptEvents { receiver, ledger, commands }))
    }
}

/// What happens in a session that is kept, in order. What the app has not confirmed is told again after a restart.
#[derive(Debug)]
pub struct KeptEvents {
    receiver: mpsc::Receiver<Event>,
    ledger: Ledger,
    /// Weak: these events alone keep no client up.
    commands: mpsc::WeakSender<Command>,
}

impl KeptEvents {
    /// The next event; none when the client has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await?;
        self.ledger.hear(&event);
        Some(event)
    }

    /// The next event, where one is here already.
    pub fn try_next(&mut self) -> Option<Event> {
        let event = self.receiver.try_recv().ok()?;
        self.ledger.hear(&event);
        Some(event)
    }

    /// Says that the app has done with all events so far what it does with them: none of them is told again. It is
    /// on disk when this is answered. Each call costs a sync of the store: confirm many events at once.
    ///
    /// # Errors
    /// [`StoreError`]: it may or may not be kept. [`StoreError::Closed`] once the last [`Client`] is dropped, too.
    pub async fn confirm(&mut self) -> Result<(), StoreError> {
        let changes = self.ledger.changes();
        if changes.is_empty() {
            return Ok(());
        }
        let commands = self.commands.upgrade().ok_or(StoreError::Closed)?;
        let (done, is_done) = oneshot::channel();
        commands.send(Command::Confirm { changes, done }).await.map_err(|_| StoreError::Closed)?;
        drop(commands);
        is_done.await.unwrap_or(Err(StoreError::Closed))
    }
}
