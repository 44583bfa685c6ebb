//! The Rust SDK of Hearth.
//!
//! A [`Client`] keeps one device's session up: it connects to the nearest edge that answers, reconnects with
//! full jitter, resumes where it stood, and says so when a failover undid something that the app has seen. A
//! message is in the outbox until it is replicated, is repeated under its id until then, and enters its chat
//! once and in order.
//!
//! ```text
//!   app ── Client, Chat ──▶ driver (one task: socket, waiters) ──▶ session core (pure)
//!    ▲                          │
//!    └──── Events, Sending ─────┘
//! ```
//!
//! What must outlive the process, the outbox and where the app stands, can live in a store ([`Client::resume`],
//! [`store::DiskStore`]): a client may then be killed at any moment and go on.
//!
//! Bodies are opaque bytes: encryption is the app's, and the server cannot read them.
//!
//! To test an app without a deployment, [`testing::FakeServer`] speaks the whole protocol in memory, with
//! faults on demand.
#![warn(missing_docs)]

pub mod account;
pub mod bare;
mod chat;
mod client;
mod config;
mod control;
mod driver;
mod entry;
mod error;
mod event;
mod kept;
mod look;
mod message;
mod position;
mod presence;
mod receipt;
mod sending;
pub mod session;
pub mod store;
mod terms;
pub mod testing;
mod tls;

pub use chat::{ChatChange, SettingsChange};
pub use client::{Chat, Client, Events};
pub use config::{Bounds, Config, ConfigError, Encoding, Timing};
pub use control::{Changed, Control, Invitation, InviteTerms, NoInvitation};
pub use entry::{Entry, EntryBody, EntryKey, UnreadableEntry};
pub use error::{ControlError, HistoryError, LookError, OpenError, Refused, ResumeError, SendError};
pub use event::Event;
pub use kept::KeptEvents;
pub use look::{ChatInfo, ChatMember, Invite, MembersPage};
pub use message::{Message, Reference};
pub use position::Position;
pub use presence::Presence;
pub use receipt::{Reached, Receipt, ReceiptsPage};
pub use sending::{Replicating, Sending};
pub use session::{From, Page, Snapshot};
pub use store::StoreError;
pub use terms::Terms;
pub use tls::Roots;
pub use types::{MemberRole, account::ChatMarks, chat::MessageKind};
