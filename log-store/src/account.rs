//! The fold of an account log: what changes of an account add up to, and which change may follow.
//!
//! Invariants:
//! - An account begins once, by [`AccountChange::Registered`] or [`AccountChange::Voided`], whichever comes first.
//! - What has been voided or closed stays so, and holds nothing but the chats that are to be left: no name, no secret, no
//!   contact. It folds to that however much was erased of what came before.
//! - Every list has its bound, so that a fold stays small enough to be handed on when the account is re-homed.
//! - A device that is not among the account's has no session and no token: ids are drawn at random and not used again.

use std::collections::BTreeMap;
use types::account::{
    Account, AccountChange, AccountStanding, BLOCKED_MAX, CHAT_MARKS_MAX, CONTACTS_MAX, ChatMarks,
    DEVICES_MAX, Device, JOINED_MAX, NewDevice, OpenAccount, Registration,
};
use types::{DeviceId, LogId};

/// A change does not follow what the account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The account has begun, or was voided.
    #[error("the account has begun already")]
    Begun,
    /// The account is not in use.
    #[error("the account is not in use")]
    NotOpen,
    /// The account has no such device.
    #[error("the account has no device {0}")]
    UnknownDevice(DeviceId),
    /// The account has a device of that id.
    #[error("the account has a device {0} already")]
    DeviceExists(DeviceId),
    /// The device's token is another one: it was renewed meanwhile.
    #[error("the token of device {0} was renewed meanwhile")]
    TokenMoved(DeviceId),
    /// The account has other names than those that are changed: they were changed meanwhile.
    #[error("the names of the account were changed meanwhile")]
    NamesMoved,
    /// A list is full.
    #[error("an account has at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

/// Whether a change may follow.
///
/// # Errors
/// [`Misfit`] says why it may not.
pub fn check(account: &Account, change: &AccountChange) -> Result<(), Misfit> {
    match change {
        AccountChange::Registered(_) | AccountChange::Voided => match account.standing {
            AccountStanding::None => Ok(()),
            _ => Err(Misfit::Begun),
        },
        change => fits(account.open.as_ref().ok_or(Misfit::NotOpen)?, change),
    }
}

/// Takes a change in that was accepted at a time, in ms since 1970. On an error nothing changes.
///
/// # Errors
/// [`Misfit`] when it does not follow.
pub fn apply(account: &mut Account, change: &AccountChange, at_ms: u64) -> Result<(), Misfit> {
    check(account, change)?;
    match change {
        AccountChange::Registered(registration) => {
            account.standing = AccountStanding::Open;
            account.open = Some(begin(registration, at_ms));
        }
        AccountChange::Voided => account.standing = AccountStanding::Voided,
        AccountChange::Closed => {
            account.standing = AccountStanding::Closed;
            account.leaving = account.open.take().map(|open| open.joined).unwrap_or_default();
        }
        change => {
            if let Some(open) = &mut account.open {
                change_open(open, change, at_ms);
            }
        }
    }
    Ok(())
}

/// Takes in what stands in the log. The home has judged it, so what does not follow here follows something that was
/// erased since: then the account has ended, and its end, which is never erased, says so.
pub(crate) fn fold(account: &mut Account, change: &AccountChange, at_ms: u64) {
    if apply(account, change, at_ms).is_err()
        && *change == AccountChange::Closed
        && account.standing == AccountStanding::None
    {
        account.standing = AccountStanding::Closed;
    }
}

/// Takes in that the user has become a member of a chat, or is none any more. What is not open holds it too: where
/// that an account began was erased, since it has ended, its chats are to be left all the same.
pub(crate) fn take_membership(account: &mut Account, chat: LogId, is_member: bool) {
    let chats = account.open.as_mut().map_or(&mut account.leaving, |open| &mut open.joined);
    if !is_member {
        chats.remove(&chat);
    } else if chats.len() < JOINED_MAX {
        chats.insert(chat);
    }
}

fn fits(open: &OpenAccount, change: &AccountChange) -> Result<(), Misfit> {
    let device = |device: &DeviceId| open.devices.get(device).ok_or(Misfit::UnknownDevice(*device));
    let room = |is_there: bool, len: usize, max: usize, what| {
        if is_there || len < max { Ok(()) } else { Err(Misfit::TooMany { what, max }) }
    };
    match change {
        AccountChange::DeviceAdded(new) if open.devices.contains_key(&new.device) => {
            Err(Misfit::DeviceExists(new.device))
        }
        AccountChange::DeviceAdded(_) => room(false, open.devices.len(), DEVICES_MAX, "devices"),
        AccountChange::TokenRenewed { device: id, before, .. } => match device(id)?.token == *before {
            true => Ok(()),
            false => Err(Misfit::TokenMoved(*id)),
        },
        AccountChange::NamesChanged { before, .. } => match open.names == *before {
            true => Ok(()),
            false => Err(Misfit::NamesMoved),
        },
        AccountChange::DeviceRenamed { device: id, .. } => device(id).map(drop),
        AccountChange::ContactSet { user, .. } => {
            room(open.contacts.contains_key(user), open.contacts.len(), CONTACTS_MAX, "contacts")
        }
        AccountChange::Blocked(user) => {
            room(open.blocked.contains(user), open.blocked.len(), BLOCKED_MAX, "blocked users")
        }
        AccountChange::ChatMarked { chat, marks } => {
            let needs_none = *marks == ChatMarks::default() || open.chats.contains_key(chat);
            room(needs_none, open.chats.len(), CHAT_MARKS_MAX, "marked chats")
        }
        AccountChange::DevicesRevoked(_)
        | AccountChange::PasswordChanged(_)
        | AccountChange::ProfileChanged(_)
        | AccountChange::PrivacyChanged(_)
        | AccountChange::ContactRemoved(_)
        | AccountChange::Unblocked(_)
        | AccountChange::Closed => Ok(()),
        AccountChange::Registered(_) | AccountChange::Voided => Err(Misfit::Begun),
    }
}

fn begin(registration: &Registration, at_ms: u64) -> OpenAccount {
    let Registration { names, password, profile, device } = registration;
    OpenAccount {
        names: names.clone(),
        password: password.clone(),
        profile: profile.clone(),
        privacy: types::account::Privacy::default(),
        devices: BTreeMap::from([(device.device, logged_in(device, at_ms))]),
        contacts: BTreeMap::new(),
        blocked: Default::default(),
        chats: BTreeMap::new(),
        joined: Default::default(),
    }
}

fn logged_in(new: &NewDevice, at_ms: u64) -> Device {
    let NewDevice { name, token, .. } = new;
    let (added_at_ms, token_at_ms) = (at_ms, at_ms);
    Device { name: name.clone(), added_at_ms, token: *token, token_at_ms, token_before: None }
}

fn change_open(open: &mut OpenAccount, change: &AccountChange, at_ms: u64) {
    match change {
        AccountChange::PasswordChanged(password) => open.password = password.clone(),
        AccountChange::NamesChanged { names, .. } => open.names = names.clone(),
        AccountChange::DeviceAdded(new) => {
            open.devices.insert(new.device, logged_in(new, at_ms));
        }
        AccountChange::TokenRenewed { device, token, before } => {
            if let Some(device) = open.devices.get_mut(device) {
                (device.token, device.token_at_ms, device.token_before) = (*token, at_ms, Some(*before));
            }
        }
        AccountChange::DeviceRenamed { device, name } => {
            if let Some(device) = open.devices.get_mut(device) {
                device.name = name.clone();
            }
        }
        AccountChange::DevicesRevoked(devices) => open.devices.retain(|id, _| !devices.contains(id)),
        AccountChange::ProfileChanged(profile) => open.profile = profile.clone(),
        AccountChange::PrivacyChanged(privacy) => open.privacy = *privacy,
        AccountChange::ContactSet { user, name } => {
            open.contacts.insert(user.clone(), name.clone());
        }
        AccountChange::ContactRemoved(user) => {
            open.contacts.remove(user);
        }
        AccountChange::Blocked(user) => {
            open.blocked.insert(user.clone());
        }
        AccountChange::Unblocked(user) => {
            open.blocked.remove(user);
        }
        AccountChange::ChatMarked { chat, marks } if *marks == ChatMarks::default() => {
            open.chats.remove(chat);
        }
        AccountChange::ChatMarked { chat, marks } => {
            open.chats.insert(*chat, *marks);
        }
        AccountChange::Registered(_) | AccountChange::Voided | AccountChange::Closed => {}
    }
}

#[cfg(test)]
mod tests;
