//! Accounts: what their logs say and add up to, between stores and nodes. A client is sent what [`client`] makes of it.

mod client;

pub(crate) use client::client_account_change;

use crate::{
    convert::{Malformed, device, log_id, require, user},
    log::{self, account_change::Change},
    record::bounded,
};
use bytes::Bytes;
use prost::Message as _;
use types::{
    DeviceId, Phone, UserId, Username,
    account::{
        About, Account, AccountChange, AccountStanding, Audience, BLOCKED_MAX, CHAT_MARKS_MAX, CONTACTS_MAX,
        ChatMarks, DEVICES_MAX, Device, DeviceName, DisplayName, JOINED_MAX, MediaId, Names, NewDevice,
        OpenAccount, PasswordHash, Privacy, Profile, Registration, TokenHash,
    },
};

/// Encodes what an account log adds up to.
pub fn encode_account(account: &Account) -> Bytes {
    log::Account::from(account).encode_to_vec().into()
}

/// Decodes what an account log adds up to.
///
/// # Errors
/// [`Malformed`] when the bytes are none, or it is outside its bounds.
pub fn decode_account(bytes: &[u8]) -> Result<Account, Malformed> {
    let wire = log::Account::decode(bytes);
    wire.map_err(|error| Malformed::Undecodable(error.to_string()))?.try_into()
}

/// Encodes one change.
pub fn encode_account_change(change: &AccountChange) -> Bytes {
    log::AccountChange::from(change).encode_to_vec().into()
}

impl From<&AccountChange> for log::AccountChange {
    fn from(change: &AccountChange) -> Self {
        let of = |user: &UserId| log::AccountUser { user: user.to_string() };
        let change = match change {
            AccountChange::Registered(registration) => Change::Registered((&**registration).into()),
            AccountChange::Voided => Change::Voided(log::AccountVoided {}),
            AccountChange::PasswordChanged(password) => Change::PasswordChanged(password.into()),
            AccountChange::NamesChanged { names, before } => {
                let (names, before) = (Some(names.into()), Some(before.into()));
                Change::NamesChanged(log::AccountNamesChanged { names, before })
            }
            AccountChange::DeviceAdded(new) => Change::DeviceAdded(new.into()),
            AccountChange::TokenRenewed { device, token, before } => {
                Change::TokenRenewed(log::AccountTokenRenewed {
                    device: device.get(),
                    token: hash_bytes(token),
                    before: hash_bytes(before),
                })
            }
            AccountChange::DeviceRenamed { device, name } => {
                let (device, name) = (device.get(), name.as_str().to_owned());
                Change::DeviceRenamed(log::AccountDeviceRenamed { device, name })
            }
            AccountChange::DevicesRevoked(devices) => {
                let devices = devices.iter().map(|device| device.get()).collect();
                Change::DevicesRevoked(log::AccountDevicesRevoked { devices })
            }
            AccountChange::ProfileChanged(profile) => Change::ProfileChanged(profile.into()),
            AccountChange::PrivacyChanged(privacy) => Change::PrivacyChanged((*privacy).into()),
            AccountChange::ContactSet { user, name } => Change::ContactSet(contact(user, name.as_ref())),
            AccountChange::ContactRemoved(user) => Change::ContactRemoved(of(user)),
            AccountChange::Blocked(user) => Change::Blocked(of(user)),
            AccountChange::Unblocked(user) => Change::Unblocked(of(user)),
            AccountChange::ChatMarked { chat, marks } => Change::ChatMarked(marked(*chat, *marks)),
            AccountChange::Closed => Change::Closed(log::AccountClosed {}),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<log::AccountChange> for AccountChange {
    type Error = Malformed;
    fn try_from(wire: log::AccountChange) -> Result<Self, Malformed> {
        let of = |wire: log::AccountUser| user("account.user", &wire.user);
        Ok(match require("account.change", wire.change)? {
            Change::Registered(registered) => Self::Registered(Box::new(registered.try_into()?)),
            Change::Voided(_) => Self::Voided,
            Change::PasswordChanged(password) => Self::PasswordChanged(password.try_into()?),
            Change::NamesChanged(wire) => Self::NamesChanged {
                names: require("account.names", wire.names)?.try_into()?,
                before: require("account.names_before", wire.before)?.try_into()?,
            },
            Change::DeviceAdded(new) => Self::DeviceAdded(new.try_into()?),
            Change::TokenRenewed(wire) => Self::TokenRenewed {
                device: device(wire.device),
                token: token_hash("account.token", &wire.token)?,
                before: token_hash("account.before", &wire.before)?,
            },
            Change::DeviceRenamed(wire) => {
                Self::DeviceRenamed { device: device(wire.device), name: device_name(&wire.name)? }
            }
            Change::DevicesRevoked(wire) => {
                bounded("account.devices", wire.devices.len(), DEVICES_MAX)?;
                Self::DevicesRevoked(wire.devices.into_iter().map(device).collect())
            }
            Change::ProfileChanged(profile) => Self::ProfileChanged(profile.try_into()?),
            Change::PrivacyChanged(privacy) => Self::PrivacyChanged(privacy.try_into()?),
            Change::ContactSet(wire) => {
                let (user, name) = read_contact(&wire)?;
                Self::ContactSet { user, name }
            }
            Change::ContactRemoved(wire) => Self::ContactRemoved(of(wire)?),
            Change::Blocked(wire) => Self::Blocked(of(wire)?),
            Change::Unblocked(wire) => Self::Unblocked(of(wire)?),
            Change::ChatMarked(wire) => {
                let (chat, marks) = read_marked(&wire)?;
                Self::ChatMarked { chat, marks }
            }
            Change::Closed(_) => Self::Closed,
        })
    }
}

impl From<&Registration> for log::AccountRegistered {
    fn from(registration: &Registration) -> Self {
        Self {
            names: Some((&registration.names).into()),
            password: Some((&registration.password).into()),
            profile: Some((&registration.profile).into()),
            device: Some((&registration.device).into()),
        }
    }
}

impl TryFrom<log::AccountRegistered> for Registration {
    type Error = Malformed;
    fn try_from(wire: log::AccountRegistered) -> Result<Self, Malformed> {
        Ok(Self {
            names: require("account.names", wire.names)?.try_into()?,
            password: require("account.password", wire.password)?.try_into()?,
            profile: require("account.profile", wire.profile)?.try_into()?,
            device: require("account.device", wire.device)?.try_into()?,
        })
    }
}

impl From<&PasswordHash> for log::AccountPassword {
    fn from(password: &PasswordHash) -> Self {
        Self { hash: password.reveal().to_owned() }
    }
}

impl TryFrom<log::AccountPassword> for PasswordHash {
    type Error = Malformed;
    fn try_from(wire: log::AccountPassword) -> Result<Self, Malformed> {
        // The value is a secret, and is not shown.
        Self::new(&wire.hash).map_err(|error| Malformed::value("account.password", "…", error.why))
    }
}

impl From<&Names> for log::AccountNames {
    fn from(names: &Names) -> Self {
        let phone = names.phone.as_ref().map(|phone| phone.as_str().to_owned());
        Self { username: names.username.as_str().to_owned(), phone: phone.unwrap_or_default() }
    }
}

impl TryFrom<log::AccountNames> for Names {
    type Error = Malformed;
    fn try_from(wire: log::AccountNames) -> Result<Self, Malformed> {
        let username = Username::new(&wire.username)
            .map_err(|error| Malformed::value("account.username", error.text, error.why))?;
        let phone = given(&wire.phone).map(Phone::new).transpose();
        let phone = phone.map_err(|error| Malformed::value("account.phone", error.text, error.why))?;
        Ok(Self { username, phone })
    }
}

impl From<&NewDevice> for log::AccountNewDevice {
    fn from(new: &NewDevice) -> Self {
        Self { device: new.device.get(), name: new.name.as_str().to_owned(), token: hash_bytes(&new.token) }
    }
}

impl TryFrom<log::AccountNewDevice> for NewDevice {
    type Error = Malformed;
    fn try_from(wire: log::AccountNewDevice) -> Result<Self, Malformed> {
        Ok(Self {
            device: device(wire.device),
            name: device_name(&wire.name)?,
            token: token_hash("account.token", &wire.token)?,
        })
    }
}

impl From<&Profile> for log::AccountProfile {
    fn from(profile: &Profile) -> Self {
        let avatar = profile.avatar.as_ref().map(|avatar| avatar.as_str().to_owned());
        Self {
            display_name: profile.display_name.as_str().to_owned(),
            about: profile.about.as_str().to_owned(),
            avatar: avatar.unwrap_or_default(),
        }
    }
}

impl TryFrom<log::AccountProfile> for Profile {
    type Error = Malformed;
    fn try_from(wire: log::AccountProfile) -> Result<Self, Malformed> {
        let about = About::new(&wire.about)
            .map_err(|error| Malformed::value("account.about", &wire.about, error.why))?;
        let avatar = given(&wire.avatar).map(MediaId::new).transpose();
        let avatar = avatar.map_err(|error| Malformed::value("account.avatar", &wire.avatar, error.why))?;
        Ok(Self { display_name: display_name(&wire.display_name)?, about, avatar })
    }
}

impl From<Privacy> for log::AccountPrivacy {
    fn from(privacy: Privacy) -> Self {
        Self {
            last_seen: privacy.last_seen as i32,
            online: privacy.online as i32,
            receipts: privacy.receipts,
        }
    }
}

impl TryFrom<log::AccountPrivacy> for Privacy {
    type Error = Malformed;
    fn try_from(wire: log::AccountPrivacy) -> Result<Self, Malformed> {
        Ok(Self {
            last_seen: audience(wire.last_seen)?,
            online: audience(wire.online)?,
            receipts: wire.receipts,
        })
    }
}

impl From<&Account> for log::Account {
    fn from(account: &Account) -> Self {
        Self {
            standing: account.standing as i32,
            open: account.open.as_ref().map(Into::into),
            leaving: account.leaving.iter().map(|chat| chat.to_bytes().to_vec().into()).collect(),
        }
    }
}

impl TryFrom<log::Account> for Account {
    type Error = Malformed;
    fn try_from(wire: log::Account) -> Result<Self, Malformed> {
        let standing = match log::AccountStanding::try_from(wire.standing) {
            Ok(log::AccountStanding::None) => AccountStanding::None,
            Ok(log::AccountStanding::Open) => AccountStanding::Open,
            Ok(log::AccountStanding::Voided) => AccountStanding::Voided,
            Ok(log::AccountStanding::Closed) => AccountStanding::Closed,
            Err(_) => return Err(Malformed::value("account.standing", wire.standing, "it is not known")),
        };
        let open = wire.open.map(OpenAccount::try_from).transpose()?;
        if open.is_some() != (standing == AccountStanding::Open) {
            return Err(Malformed::value("account.open", open.is_some(), "only an open account has it"));
        }
        bounded("account.leaving", wire.leaving.len(), JOINED_MAX)?;
        let leaving =
            wire.leaving.iter().map(|it| log_id("account.leaving", it)).collect::<Result<_, _>>()?;
        Ok(Self { standing, open, leaving })
    }
}

impl From<&OpenAccount> for log::AccountOpen {
    fn from(open: &OpenAccount) -> Self {
        Self {
            names: Some((&open.names).into()),
            password: Some((&open.password).into()),
            profile: Some((&open.profile).into()),
            privacy: Some(open.privacy.into()),
            devices: open.devices.iter().map(|(id, device)| wire_device(*id, device)).collect(),
            contacts: open.contacts.iter().map(|(user, name)| contact(user, name.as_ref())).collect(),
            blocked: open.blocked.iter().map(UserId::to_string).collect(),
            chats: open.chats.iter().map(|(chat, marks)| marked(*chat, *marks)).collect(),
            joined: open.joined.iter().map(|chat| chat.to_bytes().to_vec().into()).collect(),
        }
    }
}

impl TryFrom<log::AccountOpen> for OpenAccount {
    type Error = Malformed;
    fn try_from(wire: log::AccountOpen) -> Result<Self, Malformed> {
        bounded("account.devices", wire.devices.len(), DEVICES_MAX)?;
        bounded("account.contacts", wire.contacts.len(), CONTACTS_MAX)?;
        bounded("account.blocked", wire.blocked.len(), BLOCKED_MAX)?;
        bounded("account.chats", wire.chats.len(), CHAT_MARKS_MAX)?;
        bounded("account.joined", wire.joined.len(), JOINED_MAX)?;
        Ok(Self {
            names: require("account.names", wire.names)?.try_into()?,
            password: require("account.password", wire.password)?.try_into()?,
            profile: require("account.profile", wire.profile)?.try_into()?,
            privacy: require("account.privacy", wire.privacy)?.try_into()?,
            devices: wire.devices.iter().map(read_device).collect::<Result<_, _>>()?,
            contacts: wire.contacts.iter().map(read_contact).collect::<Result<_, _>>()?,
            blocked: wire.blocked.iter().map(|it| user("account.blocked", it)).collect::<Result<_, _>>()?,
            chats: wire.chats.iter().map(read_marked).collect::<Result<_, _>>()?,
            joined: wire.joined.iter().map(|it| log_id("account.joined", it)).collect::<Result<_, _>>()?,
        })
    }
}

fn wire_device(id: DeviceId, device: &Device) -> log::AccountDevice {
    log::AccountDevice {
        device: id.get(),
        name: device.name.as_str().to_owned(),
        added_at_ms: device.added_at_ms,
        token: hash_bytes(&device.token),
        token_at_ms: device.token_at_ms,
        token_before: device.token_before.as_ref().map(hash_bytes),
    }
}

fn read_device(wire: &log::AccountDevice) -> Result<(DeviceId, Device), Malformed> {
    let before = wire.token_before.as_ref();
    let read = Device {
        name: device_name(&wire.name)?,
        added_at_ms: wire.added_at_ms,
        token: token_hash("account.token", &wire.token)?,
        token_at_ms: wire.token_at_ms,
        token_before: before.map(|hash| token_hash("account.token_before", hash)).transpose()?,
    };
    Ok((device(wire.device), read))
}

fn contact(user: &UserId, name: Option<&DisplayName>) -> log::AccountContact {
    let name = name.map(|name| name.as_str().to_owned()).unwrap_or_default();
    log::AccountContact { user: user.to_string(), name }
}

fn read_contact(wire: &log::AccountContact) -> Result<(UserId, Option<DisplayName>), Malformed> {
    let name = given(&wire.name).map(display_name).transpose()?;
    Ok((user("account.contact", &wire.user)?, name))
}

fn marked(chat: types::LogId, marks: ChatMarks) -> log::AccountChat {
    let ChatMarks { muted_until_ms, archived, pinned, declined } = marks;
    let chat = Bytes::copy_from_slice(&chat.to_bytes());
    log::AccountChat { chat, muted_until_ms, archived, pinned, declined }
}

fn read_marked(wire: &log::AccountChat) -> Result<(types::LogId, ChatMarks), Malformed> {
    let log::AccountChat { chat, muted_until_ms, archived, pinned, declined } = wire;
    let marks = ChatMarks {
        muted_until_ms: *muted_until_ms,
        archived: *archived,
        pinned: *pinned,
        declined: *declined,
    };
    Ok((log_id("account.chat", chat)?, marks))
}

fn audience(wire: i32) -> Result<Audience, Malformed> {
    match log::AccountAudience::try_from(wire) {
        Ok(log::AccountAudience::Everyone) => Ok(Audience::Everyone),
        Ok(log::AccountAudience::Contacts) => Ok(Audience::Contacts),
        Ok(log::AccountAudience::Nobody) => Ok(Audience::Nobody),
        _ => Err(Malformed::value("account.audience", wire, "it is not known")),
    }
}

fn display_name(text: &str) -> Result<DisplayName, Malformed> {
    DisplayName::new(text).map_err(|error| Malformed::value("account.display_name", text, error.why))
}

fn device_name(text: &str) -> Result<DeviceName, Malformed> {
    DeviceName::new(text).map_err(|error| Malformed::value("account.device_name", text, error.why))
}

fn token_hash(field: &'static str, bytes: &[u8]) -> Result<TokenHash, Malformed> {
    let wrong = |_| Malformed::value(field, format!("{} bytes", bytes.len()), "it needs 32");
    bytes.try_into().map(TokenHash).map_err(wrong)
}

fn hash_bytes(hash: &TokenHash) -> Bytes {
    Bytes::copy_from_slice(&hash.0)
}

/// An empty text stands for none.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
