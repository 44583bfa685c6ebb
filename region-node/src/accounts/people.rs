//! What of an account somebody sees: its user all but secrets, others what the user shows.

use super::Accounts;
use crate::service::NameStanding;
use serde_json::{Value, json};
use types::{
    Code, LogId, Name, Refusal, UserId, Username,
    account::{About, Audience, OpenAccount, Profile},
};

/// A user, as another one sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) username: Username,
    pub(crate) profile: Profile,
}

impl Accounts {
    /// A user's own account.
    ///
    /// # Errors
    /// `unknown_account` where it is not in use, `home_unavailable`.
    pub(crate) async fn own(&self, user: &UserId) -> Result<OpenAccount, Refusal> {
        self.0.logs.open(user).await
    }

    /// A user's own account, for a look at it: as this node's copy knows it where its home cannot be asked now.
    ///
    /// # Errors
    /// `unknown_account` where it is not in use, `home_unavailable`.
    pub(crate) async fn own_nearby(&self, user: &UserId) -> Result<OpenAccount, Refusal> {
        self.0.logs.open_nearby(user).await
    }

    /// The user who has a name.
    ///
    /// # Errors
    /// `unknown_account` where nobody has; `home_unavailable`, `directory_unavailable`.
    pub(crate) async fn find(&self, asking: &UserId, username: Username) -> Result<Person, Refusal> {
        let unknown = || Refusal::new(Code::UnknownAccount, format!("nobody has the name {username}"));
        let name = Name::from(username.clone());
        let owner = self.0.parts.names.resolve(std::slice::from_ref(&name)).await?.pop().flatten();
        let owner = owner.filter(|owner| !matches!(owner.standing, NameStanding::Freed { .. }));
        let person = self
            .see(asking, &owner.ok_or_else(unknown)?.user)
            .await
            .map_err(|refusal| if refusal.code == Code::UnknownAccount { unknown() } else { refusal })?;
        if person.username == username { Ok(person) } else { Err(unknown()) }
    }

    /// What a user shows to another one.
    ///
    /// # Errors
    /// `unknown_account` where there is none in use; `home_unavailable`.
    pub(crate) async fn see(&self, asking: &UserId, user: &UserId) -> Result<Person, Refusal> {
        let open = self.0.logs.open(user).await?;
        Ok(shown(asking, user, open))
    }

    /// Whether a user may open a direct chat with another one.
    ///
    /// # Errors
    /// `unknown_account` where there is no such user, `forbidden` where that one has blocked the asking one.
    pub(crate) async fn may_write_to(&self, asking: &UserId, user: &UserId) -> Result<(), Refusal> {
        let open = self.0.logs.open(user).await?;
        if open.blocked.contains(asking) {
            return Err(Refusal::new(Code::Forbidden, format!("{user} takes no messages of {asking}")));
        }
        Ok(())
    }
}

/// Whoever is blocked sees what is needed to know whom they have talked to, and nothing more.
fn shown(asking: &UserId, user: &UserId, open: OpenAccount) -> Person {
    let mut profile = open.profile;
    if open.blocked.contains(asking) {
        (profile.about, profile.avatar) = (About::empty(), None);
    }
    Person { user: user.clone(), username: open.names.username, profile }
}

/// All of an account but its secrets, as one document.
pub(crate) fn export(user: &UserId, open: &OpenAccount) -> Value {
    let OpenAccount { names, password: _, profile, privacy, devices, contacts, blocked, chats, joined } =
        open;
    let devices = devices.iter().map(|(id, device)| {
        json!({
            "device": id.get().to_string(), "name": device.name, "added_at_ms": device.added_at_ms,
            "token_at_ms": device.token_at_ms,
        })
    });
    let chats = chats.iter().map(|(chat, marks)| {
        json!({
            "chat": chat.to_string(), "muted_until_ms": marks.muted_until_ms, "archived": marks.archived,
            "pinned": marks.pinned, "declined": marks.declined,
        })
    });
    json!({
        "version": 1,
        "user": user,
        "username": names.username,
        "phone": names.phone,
        "profile": {
            "display_name": profile.display_name, "about": profile.about, "avatar": profile.avatar,
        },
        "privacy": {
            "last_seen": word(privacy.last_seen), "online": word(privacy.online), "receipts": privacy.receipts,
        },
        "devices": devices.collect::<Vec<_>>(),
        "contacts": contacts.iter().map(|(user, name)| json!({"user": user, "name": name})).collect::<Vec<_>>(),
        "blocked": blocked,
        "chats": joined.iter().map(LogId::to_string).collect::<Vec<_>>(),
        "marks": chats.collect::<Vec<_>>(),
    })
}

const fn word(audience: Audience) -> &'static str {
    match audience {
        Audience::Everyone => "everyone",
        Audience::Contacts => "contacts",
        Audience::Nobody => "nobody",
    }
}
