//! Changes of a chat that are no messages: who is in it, on which terms, what is taken away. All of them are acked
//! when they are in every in-sync region, so that none is ever undone.

use crate::{EntryKey, Position, SettingsChange};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use proto::client::{self as wire, client_frame::Frame};
use std::{fmt, str::FromStr, time::Duration};
use types::{
    LogId, MemberRole, MessageId, UserId,
    chat::{InviteHash, SECRET_BYTES},
};

/// Random bytes of a new invite.
const SECRET_DRAWN_BYTES: usize = 32;

/// A change of a chat, as the user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Users come, go (`None`) or get another role: all of it or nothing. To name oneself without a role is to leave.
    Members(Vec<(UserId, Option<MemberRole>)>),
    /// Another name, picture or other terms.
    Settings(SettingsChange),
    /// Lets in whoever knows a secret.
    Invite {
        /// 16 to 64 random bytes, drawn once for each invite.
        secret: Bytes,
        /// On which terms.
        terms: InviteTerms,
    },
    /// Lets nobody in by this invite any more; [`Invitation::name`].
    RevokeInvite(String),
    /// Comes by an invite.
    Join {
        /// Its secret.
        secret: Bytes,
    },
    /// Takes the bodies of these messages away, from every store.
    Delete(Vec<EntryKey>),
}

impl Control {
    pub(crate) fn frame(self, log: LogId, message_id: MessageId) -> Frame {
        let (log, message_id) = (log.to_string(), message_id.to_string());
        match self {
            Self::Members(changes) => {
                let change = |(user, role): (UserId, Option<MemberRole>)| wire::MemberChange {
                    user: user.to_string(),
                    role: role.map(|role| proto::role_name(role).to_owned()).unwrap_or_default(),
                };
                let changes = changes.into_iter().map(change).collect();
                Frame::ChangeMembers(wire::ChangeMembers { log, message_id, changes })
            }
            Self::Settings(change) => {
                let change = Some(change.into());
                Frame::ChangeSettings(wire::ChangeSettings { log, message_id, change })
            }
            Self::Invite { secret, terms: InviteTerms { lifetime, uses_max } } => {
                let lifetime_ms = lifetime
                    .map_or(0, |lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX).max(1));
                let uses_max = uses_max.unwrap_or(0);
                Frame::MakeInvite(wire::MakeInvite { log, message_id, secret, lifetime_ms, uses_max })
            }
            Self::RevokeInvite(invite) => Frame::RevokeInvite(wire::RevokeInvite { log, message_id, invite }),
            Self::Join { secret } => Frame::JoinChat(wire::JoinChat { log, message_id, secret }),
            Self::Delete(keys) => {
                let reference = |key| crate::Reference { key, offset: 0 }.into();
                let messages = keys.into_iter().map(reference).collect();
                Frame::DeleteMessages(wire::DeleteMessages { log, message_id, messages })
            }
        }
    }
}

/// A change that is in its chat, in every in-sync region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Where its entry stands, for good.
    pub position: Position,
    /// Its offset.
    pub offset: u64,
    /// The home's wall clock, ms since 1970.
    pub accepted_at_ms: u64,
}

impl From<wire::Sent> for Changed {
    fn from(sent: wire::Sent) -> Self {
        let wire::Sent { position, offset, accepted_at_ms, .. } = sent;
        Self { position: position.into(), offset, accepted_at_ms }
    }
}

/// How long an invite can be used, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InviteTerms {
    /// From when it is made on; none: a week. At most 366 days.
    pub lifetime: Option<Duration>,
    /// By how many users; none: by as many as the chat may have.
    pub uses_max: Option<u32>,
}

/// What lets a user into a chat: to be passed on as its text. Who has it may join.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    log: LogId,
    secret: Bytes,
}

/// A text that is no invitation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no invitation: it is not the id of a chat, a dot, and 16 to 64 bytes as base64url")]
pub struct NoInvitation(String);

impl Invitation {
    /// One for a chat, with a secret that nobody else draws.
    pub(crate) fn draw(log: LogId) -> Self {
        let secret: [u8; SECRET_DRAWN_BYTES] = host::random::bytes();
        Self { log, secret: Bytes::copy_from_slice(&secret) }
    }

    /// To which chat.
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// What the server knows it by, and what it is revoked by: it opens nothing.
    pub fn name(&self) -> String {
        InviteHash::of(self.log, &self.secret).to_string()
    }

    /// The bytes that open the chat.
    pub const fn secret(&self) -> &Bytes {
        &self.secret
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.log, BASE64URL_NOPAD.encode(&self.secret))
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({}, {})", self.log, self.name())
    }
}

impl FromStr for Invitation {
    type Err = NoInvitation;
    fn from_str(text: &str) -> Result<Self, NoInvitation> {
        let wrong = || NoInvitation(text.to_owned());
        let (log, secret) = text.split_once('.').ok_or_else(wrong)?;
        let log = log.parse().map_err(|_| wrong())?;
        let secret = BASE64URL_NOPAD.decode(secret.as_bytes()).map_err(|_| wrong())?;
        match SECRET_BYTES.contains(&secret.len()) {
            true => Ok(Self { log, secret: secret.into() }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_survives_its_text_and_its_secret_is_not_logged() {
        let drawn = Invitation::draw(LogId::group([3; 16]));
        let text = drawn.to_string();
        assert_eq!(text.parse(), Ok(drawn.clone()));
        let (_, secret) = text.split_once('.').expect("a dot");
        assert!(!format!("{drawn:?}").contains(secret));
        assert_ne!(Invitation::draw(drawn.log()), drawn);
        for wrong in ["", ".", &text[..text.len() - 30], &format!("x{text}"), &format!("{text}=")] {
            assert!(wrong.parse::<Invitation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_said_of_an_invite_is_left_to_the_server() {
        let frame = |terms| {
            let control = Control::Invite { secret: Bytes::new(), terms };
            match control.frame(LogId::group([1; 16]), MessageId::from_bytes([2; 16])) {
                Frame::MakeInvite(make) => (make.lifetime_ms, make.uses_max),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(frame(InviteTerms::default()), (0, 0));
        // A lifetime of nothing is not the default one.
        let short = InviteTerms { lifetime: Some(Duration::ZERO), uses_max: Some(3) };
        assert_eq!(frame(short), (1, 3));
    }
}
