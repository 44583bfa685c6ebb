//! What a change is told from another one by, under one message id.

use super::{AccountChange, NewDevice, Profile, Registration};
use crate::account::Names;
use xxhash_rust::xxh3::Xxh3;

impl AccountChange {
    /// Feeds all that it says, each part with its length, so that no two changes feed the same.
    pub(crate) fn feed(&self, hash: &mut Xxh3) {
        match self {
            Self::Registered(registration) => {
                let Registration { names, password, profile, device } = &**registration;
                hash.update(&[1]);
                feed_names(hash, names);
                part(hash, password.reveal().as_bytes());
                feed_profile(hash, profile);
                feed_device(hash, device);
            }
            Self::Voided => hash.update(&[2]),
            Self::PasswordChanged(password) => {
                hash.update(&[3]);
                part(hash, password.reveal().as_bytes());
            }
            Self::NamesChanged { names, before } => {
                hash.update(&[4]);
                feed_names(hash, names);
                feed_names(hash, before);
            }
            Self::DeviceAdded(device) => {
                hash.update(&[5]);
                feed_device(hash, device);
            }
            Self::TokenRenewed { device, token, before } => {
                hash.update(&[6]);
                hash.update(&device.get().to_be_bytes());
                hash.update(&token.0);
                hash.update(&before.0);
            }
            Self::DeviceRenamed { device, name } => {
                hash.update(&[7]);
                hash.update(&device.get().to_be_bytes());
                part(hash, name.as_str().as_bytes());
            }
            Self::DevicesRevoked(devices) => {
                hash.update(&[8]);
                for device in devices {
                    hash.update(&device.get().to_be_bytes());
                }
            }
            Self::ProfileChanged(profile) => {
                hash.update(&[9]);
                feed_profile(hash, profile);
            }
            Self::PrivacyChanged(privacy) => {
                let receipts = u8::from(privacy.receipts);
                hash.update(&[10, privacy.last_seen as u8, privacy.online as u8, receipts]);
            }
            Self::ContactSet { user, name } => {
                hash.update(&[11]);
                part(hash, user.as_str().as_bytes());
                part(hash, name.as_ref().map_or("", |name| name.as_str()).as_bytes());
            }
            Self::ContactRemoved(user) => one(hash, 12, user.as_str()),
            Self::Blocked(user) => one(hash, 13, user.as_str()),
            Self::Unblocked(user) => one(hash, 14, user.as_str()),
            Self::ChatMarked { chat, marks } => {
                hash.update(&[15]);
                hash.update(&chat.to_bytes());
                hash.update(&marks.muted_until_ms.to_be_bytes());
                hash.update(&[u8::from(marks.archived), u8::from(marks.pinned), u8::from(marks.declined)]);
            }
            Self::Closed => hash.update(&[16]),
        }
    }
}

fn feed_names(hash: &mut Xxh3, names: &Names) {
    part(hash, names.username.as_str().as_bytes());
    part(hash, names.phone.as_ref().map_or("", |phone| phone.as_str()).as_bytes());
}

fn feed_profile(hash: &mut Xxh3, profile: &Profile) {
    part(hash, profile.display_name.as_str().as_bytes());
    part(hash, profile.about.as_str().as_bytes());
    part(hash, profile.avatar.as_ref().map_or("", |avatar| avatar.as_str()).as_bytes());
}

fn feed_device(hash: &mut Xxh3, new: &NewDevice) {
    hash.update(&new.device.get().to_be_bytes());
    part(hash, new.name.as_str().as_bytes());
    hash.update(&new.token.0);
}

fn one(hash: &mut Xxh3, tag: u8, text: &str) {
    hash.update(&[tag]);
    part(hash, text.as_bytes());
}

fn part(hash: &mut Xxh3, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
