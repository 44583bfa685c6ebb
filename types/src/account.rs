//! What an account log says: one change of a user's account an entry, and what they add up to.
//!
//! An account is what a user's devices share. It is a log like a chat's: homed, replicated and failed over by the
//! same machinery. Unlike a message, the server reads it: it holds whom to let in.
//!
//! ```text
//!              Registered                      Closed
//!   (no log) ─────────────▶ Open: all others ──────────▶ Closed
//!       │ Voided
//!       └──────────▶ Voided: its names may go to another user
//! ```

mod digest;
mod text;

pub use text::{About, DeviceName, DisplayName, MediaId, PasswordHash, TextError, TokenHash};

use crate::{DeviceId, LogId, Phone, UserId, Username};
use std::collections::{BTreeMap, BTreeSet};

/// The most devices of one user.
pub const DEVICES_MAX: usize = 16;
/// The most contacts of one user.
pub const CONTACTS_MAX: usize = 2_048;
/// The most users that one user blocks.
pub const BLOCKED_MAX: usize = 1_024;
/// The most chats of which one user has said something: muted, archived, pinned.
pub const CHAT_MARKS_MAX: usize = 4_096;

/// The most chats of one user.
pub const JOINED_MAX: usize = 4_096;

/// One change of an account. All are control: acked when they are `replicated`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountChange {
    /// The account begins: always its log's first entry.
    Registered(Box<Registration>),
    /// The account never begins: the only entry of its log. The claims of its user may be taken over.
    Voided,
    /// Another password.
    PasswordChanged(PasswordHash),
    /// The user has other names now. The directory keeps them from others.
    NamesChanged {
        /// Which.
        names: Names,
        /// Those of before: of two changes that race one is told so.
        before: Names,
    },
    /// A device logged in.
    DeviceAdded(NewDevice),
    /// A device got a new refresh token for its last one.
    TokenRenewed {
        /// Which.
        device: DeviceId,
        /// What its next token hashes to.
        token: TokenHash,
        /// What the one before did, which it may use again for a short while: the answer may have been lost.
        before: TokenHash,
    },
    /// A device has another name.
    DeviceRenamed {
        /// Which.
        device: DeviceId,
        /// Its name.
        name: DeviceName,
    },
    /// These devices are off, for good.
    DevicesRevoked(Vec<DeviceId>),
    /// What others see of the user.
    ProfileChanged(Profile),
    /// Who sees what.
    PrivacyChanged(Privacy),
    /// Somebody is a contact, perhaps under a name of the user's own.
    ContactSet {
        /// Who.
        user: UserId,
        /// The user's own name for that one.
        name: Option<DisplayName>,
    },
    /// Somebody is no contact any more.
    ContactRemoved(UserId),
    /// Somebody can open no direct chat with the user, and sees no presence.
    Blocked(UserId),
    /// Somebody can again.
    Unblocked(UserId),
    /// What the user says of one of their chats.
    ChatMarked {
        /// Which.
        chat: LogId,
        /// What.
        marks: ChatMarks,
    },
    /// The account ends.
    Closed,
}

/// How an account begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What the user is found and logs in by.
    pub names: Names,
    /// What the password hashes to.
    pub password: PasswordHash,
    /// What others see.
    pub profile: Profile,
    /// The device that registered.
    pub device: NewDevice,
}

/// What a user is found and logs in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Every user has one.
    pub username: Username,
    /// Where the user has given it.
    pub phone: Option<Phone>,
}

/// A device that logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Drawn by the server.
    pub device: DeviceId,
    /// What its user calls it.
    pub name: DeviceName,
    /// What its refresh token hashes to.
    pub token: TokenHash,
}

/// What others see of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// How the user wants to be called.
    pub display_name: DisplayName,
    /// What the user says of themselves.
    pub about: About,
    /// A picture.
    pub avatar: Option<MediaId>,
}

/// Who sees something of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Audience {
    /// Whoever is not blocked.
    #[default]
    Everyone = 1,
    /// Those whom the user has as contacts.
    Contacts = 2,
    /// Nobody.
    Nobody = 3,
}

/// Who sees what of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privacy {
    /// When the user was last there.
    pub last_seen: Audience,
    /// That the user is there now.
    pub online: Audience,
    /// Whether others are told what the user has read; who tells nobody is told nothing.
    pub receipts: bool,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { last_seen: Audience::default(), online: Audience::default(), receipts: true }
    }
}

/// What a user says of one of their chats, for their own devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChatMarks {
    /// No notification before this time, in ms since 1970; 0: not muted.
    pub muted_until_ms: u64,
    /// Out of the way.
    pub archived: bool,
    /// On top.
    pub pinned: bool,
    /// The user of a request that is not wanted: it is no chat of theirs until it is answered.
    pub declined: bool,
}

/// How far an account is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AccountStanding {
    /// It has not begun.
    #[default]
    None = 0,
    /// It is in use.
    Open = 1,
    /// It never begins.
    Voided = 2,
    /// It has ended.
    Closed = 3,
}

/// A device that has logged in and was not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What its user calls it.
    pub name: DeviceName,
    /// Since when, in ms since 1970.
    pub added_at_ms: u64,
    /// What its refresh token hashes to.
    pub token: TokenHash,
    /// Since when it has that one, in ms since 1970.
    pub token_at_ms: u64,
    /// What the one before hashed to; `None`: that was its first.
    pub token_before: Option<TokenHash>,
}

/// What the entries of an account log add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// How far it is.
    pub standing: AccountStanding,
    /// Everything else, while it is open.
    pub open: Option<OpenAccount>,
    /// The chats that the user is still a member of where the account is not open, at most [`JOINED_MAX`]: once it is
    /// closed, those that are to be left.
    pub leaving: BTreeSet<LogId>,
}

/// An account in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAccount {
    /// What the user is found and logs in by.
    pub names: Names,
    /// What the password hashes to.
    pub password: PasswordHash,
    /// What others see.
    pub profile: Profile,
    /// Who sees what.
    pub privacy: Privacy,
    /// The user's devices, at most [`DEVICES_MAX`].
    pub devices: BTreeMap<DeviceId, Device>,
    /// The user's contacts, at most [`CONTACTS_MAX`].
    pub contacts: BTreeMap<UserId, Option<DisplayName>>,
    /// Whom the user blocks, at most [`BLOCKED_MAX`].
    pub blocked: BTreeSet<UserId>,
    /// What the user says of chats, at most [`CHAT_MARKS_MAX`]; those of which nothing is said are left out.
    pub chats: BTreeMap<LogId, ChatMarks>,
    /// The chats that the user is a member of, at most [`JOINED_MAX`]: told by those chats, as effects.
    pub joined: BTreeSet<LogId>,
}
