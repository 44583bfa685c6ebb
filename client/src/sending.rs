//! A message on its way, as an app holds it.

use crate::{Position, SendError, StoreError};
use tokio::sync::oneshot;
use types::MessageId;

/// A message in the outbox. Dropping this changes nothing about the message.
#[derive(Debug)]
pub struct Sending {
    pub(crate) message_id: MessageId,
    /// None: it is kept, or there is no store.
    pub(crate) kept: Option<oneshot::Receiver<Result<(), StoreError>>>,
    pub(crate) home: oneshot::Receiver<Result<Position, SendError>>,
    pub(crate) replicated: oneshot::Receiver<Result<Position, SendError>>,
}

impl Sending {
    /// The message's id, by which events name it.
    pub const fn message_id(&self) -> MessageId {
        self.message_id
    }

    /// Waits until the message is in the store; at once where there is none. Once this is answered, the message
    /// enters its chat, however often the process dies.
    ///
    /// # Errors
    /// [`SendError::NotKept`]: the store has failed.
    pub async fn kept(&mut self) -> Result<(), SendError> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let outcome = kept.await.unwrap_or(Err(StoreError::Closed));
        self.kept = None;
        outcome.map_err(SendError::NotKept)
    }

    /// Waits until the message is durable in its home region. A failover can still give it another position.
    ///
    /// # Errors
    /// [`SendError`]: it was refused for good, or the client was closed.
    pub async fn home(self) -> Result<Position, SendError> {
        self.home.await.unwrap_or(Err(SendError::Closed))
    }

    /// Waits until the message is durable in every in-sync region: its position is final.
    ///
    /// # Errors
    /// [`SendError`]: it was refused for good, the client was closed, or there is one region only.
    pub async fn replicated(self) -> Result<Position, SendError> {
        self.replicated.await.unwrap_or(Err(SendError::Closed))
    }

    /// Waits until the message is home, then tells of it and goes on waiting for `replicated`.
    ///
    /// # Errors
    /// As [`Sending::home`].
    pub async fn home_then(self) -> Result<(Position, Replicating), SendError> {
        let position = self.home.await.unwrap_or(Err(SendError::Closed))?;
        Ok((position, Replicating { replicated: self.replicated }))
    }
}

/// A message that is home and not replicated yet.
#[derive(Debug)]
pub struct Replicating {
    replicated: oneshot::Receiver<Result<Position, SendError>>,
}

impl Replicating {
    /// As [`Sending::replicated`].
    ///
    /// # Errors
    /// As [`Sending::replicated`].
    pub async fn replicated(self) -> Result<Position, SendError> {
        self.replicated.await.unwrap_or(Err(SendError::Closed))
    }
}
