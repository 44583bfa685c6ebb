//! Accounts as their users' own devices see them: what is secret is left out here, in one place.

use crate::client::{self, account_change::Change};
use types::{
    DeviceId, UserId,
    account::{AccountChange, Audience, Names, NewDevice, Privacy, Profile},
};

/// A change without its secrets.
pub(crate) fn client_account_change(change: &AccountChange) -> client::AccountChange {
    let nothing = client::AccountNothing {};
    let change = match change {
        AccountChange::Registered(registration) => Change::Registered(client::AccountRegistered {
            names: Some(names(&registration.names)),
            profile: Some(profile(&registration.profile)),
            device: Some(new_device(&registration.device)),
        }),
        AccountChange::Voided => Change::Voided(nothing),
        AccountChange::PasswordChanged(_) => Change::PasswordChanged(nothing),
        AccountChange::NamesChanged { names: now, .. } => Change::NamesChanged(names(now)),
        AccountChange::DeviceAdded(new) => Change::DeviceAdded(new_device(new)),
        AccountChange::TokenRenewed { device, .. } => Change::TokenRenewed(named(*device, "")),
        AccountChange::DeviceRenamed { device, name } => Change::DeviceRenamed(named(*device, name.as_str())),
        AccountChange::DevicesRevoked(devices) => {
            let devices = devices.iter().map(|device| device.get()).collect();
            Change::DevicesRevoked(client::AccountDevices { devices })
        }
        AccountChange::ProfileChanged(changed) => Change::ProfileChanged(profile(changed)),
        AccountChange::PrivacyChanged(changed) => Change::PrivacyChanged(privacy(*changed)),
        AccountChange::ContactSet { user, name } => Change::ContactSet(client::AccountContact {
            user: user.to_string(),
            name: name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
        }),
        AccountChange::ContactRemoved(user) => Change::ContactRemoved(of(user)),
        AccountChange::Blocked(user) => Change::Blocked(of(user)),
        AccountChange::Unblocked(user) => Change::Unblocked(of(user)),
        AccountChange::ChatMarked { chat, marks } => Change::ChatMarked(client::AccountChat {
            log: chat.to_string(),
            muted_until_ms: marks.muted_until_ms,
            archived: marks.archived,
            pinned: marks.pinned,
            declined: marks.declined,
        }),
        AccountChange::Closed => Change::Closed(nothing),
    };
    client::AccountChange { change: Some(change) }
}

fn names(names: &Names) -> client::AccountNames {
    let phone = names.phone.as_ref().map(|phone| phone.as_str().to_owned());
    client::AccountNames { username: names.username.as_str().to_owned(), phone: phone.unwrap_or_default() }
}

fn profile(profile: &Profile) -> client::AccountProfile {
    let avatar = profile.avatar.as_ref().map(|avatar| avatar.as_str().to_owned());
    client::AccountProfile {
        display_name: profile.display_name.as_str().to_owned(),
        about: profile.about.as_str().to_owned(),
        avatar: avatar.unwrap_or_default(),
    }
}

fn privacy(privacy: Privacy) -> client::AccountPrivacy {
    client::AccountPrivacy {
        last_seen: audience(privacy.last_seen).to_owned(),
        online: audience(privacy.online).to_owned(),
        receipts: privacy.receipts,
    }
}

const fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::Everyone => "everyone",
        Audience::Contacts => "contacts",
        Audience::Nobody => "nobody",
    }
}

fn new_device(new: &NewDevice) -> client::AccountDevice {
    named(new.device, new.name.as_str())
}

fn named(device: DeviceId, name: &str) -> client::AccountDevice {
    client::AccountDevice { device: device.get(), name: name.to_owned() }
}

fn of(user: &UserId) -> client::AccountUser {
    client::AccountUser { user: user.to_string() }
}
