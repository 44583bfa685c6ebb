//! What a change is told from another one by, under one message id.

use super::{ChatChange, NewInvite, SettingsChange};
use xxhash_rust::xxh3::Xxh3;

impl ChatChange {
    /// Feeds all that it says, each part with its length, so that no two changes feed the same.
    pub(crate) fn feed(&self, hash: &mut Xxh3) {
        match self {
            Self::Members(changes) => {
                hash.update(&[1]);
                for change in changes {
                    part(hash, change.user.as_str().as_bytes());
                    hash.update(&[change.role.map_or(0, |role| role as u8)]);
                }
            }
            Self::Settings(change) => {
                hash.update(&[2]);
                feed_settings(hash, change);
            }
            Self::InviteMade(NewInvite { hash: invite, lifetime_ms, uses_max }) => {
                hash.update(&[3]);
                hash.update(&invite.0);
                hash.update(&lifetime_ms.to_be_bytes());
                hash.update(&uses_max.to_be_bytes());
            }
            Self::InviteRevoked(invite) => {
                hash.update(&[4]);
                hash.update(&invite.0);
            }
            Self::Joined(invite) => {
                hash.update(&[5]);
                hash.update(&invite.0);
            }
        }
    }
}

fn feed_settings(hash: &mut Xxh3, change: &SettingsChange) {
    let SettingsChange { name, avatar, expiry_ms, inviters, writers } = change;
    match name {
        None => hash.update(&[0]),
        Some(name) => {
            hash.update(&[1]);
            part(hash, name);
        }
    }
    match avatar {
        None => hash.update(&[0]),
        Some(avatar) => {
            hash.update(&[1]);
            part(hash, avatar.as_ref().map_or("", |avatar| avatar.as_str()).as_bytes());
        }
    }
    hash.update(&[u8::from(expiry_ms.is_some())]);
    hash.update(&expiry_ms.unwrap_or_default().to_be_bytes());
    hash.update(&[inviters.map_or(0, |role| role as u8), writers.map_or(0, |role| role as u8)]);
}

fn part(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
