//! Registration: a name in the directory, then an account log that says so.
//!
//! ```text
//!   claim the names ──▶ pin the log here ──▶ append Registered (replicated) ──▶ hold the names
//!        │ taken, only claimed, and not of late
//!        └──▶ append Voided to the claimant's log ──▶ it has begun? help it to its names : take them over
//! ```
//!
//! Every step may be repeated and every crash may come between two of them. The account log decides: its first entry is
//! either `Registered` or `Voided`, and only after `Voided` is a claim another's.
//!
//! A registration that is repeated with its request id finds what it did before: the user is derived from the request
//! and the name, and whoever knows the password gets a token for the device that the first one made.

use super::{
    Accounts, LoggedIn,
    tokens::{RefreshToken, derived, derived_device},
};
use crate::service::{Claim, NameOwner, NameStanding};
use types::{
    Code, DeviceId, MessageId, Name, Refusal, UserId,
    account::{
        About, AccountChange, DeviceName, DisplayName, Names, NewDevice, OpenAccount, Profile, Registration,
    },
};
use uuid::Uuid;

/// A claim that is younger may be of a registration that is under way, in ms: it is left alone. A registration gives
/// up long before that.
const CLAIM_YOUNG_MS: u64 = 2 * 60 * 1_000;

/// What somebody who registers says.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Drawn by the client; the same for each repetition.
    pub(crate) request: Uuid,
    pub(crate) names: Names,
    pub(crate) password: String,
    pub(crate) display_name: DisplayName,
    pub(crate) device: DeviceName,
}

impl Accounts {
    /// Makes an account, and logs its first device in.
    ///
    /// # Errors
    /// `name_taken`; what writes and the directory are refused with. Repeating it with the same request id is safe.
    pub(crate) async fn register(&self, wish: Wish) -> Result<LoggedIn, Refusal> {
        let names = all(&wish.names);
        let user = user_of(&wish);
        let password = self.0.passwords.hash(&wish.password).await?;
        // Without a key nobody could be let in: better not to begin.
        self.0.keys.signer().await?;
        self.claim(&names, &user).await?;
        let device = derived_device(b"hearth first device", wish.request, user.as_str());
        let token = RefreshToken::draw(user.clone(), device);
        let registration = Registration {
            names: wish.names.clone(),
            password,
            profile: Profile { display_name: wish.display_name.clone(), about: About::empty(), avatar: None },
            device: NewDevice { device, name: wish.device.clone(), token: token.hash() },
        };
        self.0.logs.pin(&user).await?;
        let change = AccountChange::Registered(Box::new(registration));
        let request = MessageId::from(wish.request);
        let logged_in = match self.0.logs.append(&user, device, request, change).await {
            Ok(()) => self.logged_in(token).await,
            Err(refusal) if matches!(refusal.code, Code::AccountExists | Code::MessageIdReused) => {
                self.register_again(&wish, &user, device).await
            }
            Err(refusal) => Err(refusal),
        }?;
        // Where this fails the names stay claimed, and whoever comes across them helps the account to hold them.
        if let Err(refusal) = self.0.parts.names.hold(&names, &user).await {
            tracing::info!(%user, %refusal, "an account has begun, and its names are only claimed for now");
        }
        Ok(logged_in)
    }

    /// The account has begun: by an earlier try of this very registration, or else it is nobody's business.
    async fn register_again(
        &self,
        wish: &Wish,
        user: &UserId,
        device: DeviceId,
    ) -> Result<LoggedIn, Refusal> {
        let taken = || taken(&Name::from(wish.names.username.clone()));
        let open = self.0.logs.brief(user).await?.ok_or_else(taken)?;
        let is_right = self.0.passwords.verify(&wish.password, Some(open.password.clone())).await?;
        if !is_right || open.names != wish.names || !open.devices.contains_key(&device) {
            return Err(taken());
        }
        self.renew(user, device, &open).await
    }

    pub(super) async fn claim(&self, names: &[Name], user: &UserId) -> Result<(), Refusal> {
        let directory = &self.0.parts.names;
        let rested_ms = host::clock::wall_ms().saturating_sub(self.0.parts.config.name_rest_ms);
        let mut claim = directory.claim(names, user, rested_ms).await?;
        // Each name may be in the way of its own.
        for _ in names {
            let Claim::Taken { name, by } = &claim else { return Ok(()) };
            if !self.may_take_over(name, by).await? {
                return Err(taken(name));
            }
            let only = std::slice::from_ref(name);
            if let Claim::Taken { name, .. } = directory.take_over(only, user, &by.user).await? {
                return Err(taken(&name));
            }
            claim = directory.claim(names, user, rested_ms).await?;
        }
        match claim {
            Claim::Yours => Ok(()),
            Claim::Taken { name, .. } => Err(taken(&name)),
        }
    }

    /// Whether a name may be taken from who has it: it was only claimed, a while ago, and that account can never
    /// begin now.
    async fn may_take_over(&self, name: &Name, by: &NameOwner) -> Result<bool, Refusal> {
        match by.standing {
            NameStanding::Claimed { at_ms } => {
                let is_young = host::clock::wall_ms() < at_ms.saturating_add(CLAIM_YOUNG_MS);
                if is_young { Ok(false) } else { self.void(&by.user).await }
            }
            NameStanding::Held => {
                // An account that has ended, or has another name, may not have come to free this one. It rests from now on.
                let open = self.0.logs.brief(&by.user).await?;
                if open.is_none_or(|open| !all(&open.names).contains(name)) {
                    self.0.parts.names.release(std::slice::from_ref(name), &by.user).await?;
                }
                Ok(false)
            }
            NameStanding::Freed { .. } => Ok(false),
        }
    }

    /// Sees that an account can never begin; `false`: it has begun, and has its names now.
    async fn void(&self, user: &UserId) -> Result<bool, Refusal> {
        self.0.logs.pin(user).await?;
        let request = MessageId::from(host::random::id());
        match self.0.logs.append(user, DeviceId::new(0), request, AccountChange::Voided).await {
            Ok(()) => Ok(true),
            Err(refusal) if refusal.code == Code::AccountExists => match self.0.logs.brief(user).await? {
                None => Ok(true),
                Some(open) => {
                    self.0.parts.names.hold(&all(&open.names), user).await?;
                    Ok(false)
                }
            },
            Err(refusal) => Err(refusal),
        }
    }

    /// Helps an account to names that were claimed for it, where a crash came between.
    pub(super) async fn help_to_hold(&self, owner: &NameOwner, open: &OpenAccount) {
        if matches!(owner.standing, NameStanding::Claimed { .. })
            && let Err(refusal) = self.0.parts.names.hold(&all(&open.names), &owner.user).await
        {
            tracing::info!(user = %owner.user, %refusal, "names stay claimed");
        }
    }
}

/// All names that an account has.
pub(super) fn all(names: &Names) -> Vec<Name> {
    let username = Name::from(names.username.clone());
    std::iter::once(username).chain(names.phone.clone().map(Name::from)).collect()
}

/// The user that a registration makes, whoever carries it out and however often.
fn user_of(wish: &Wish) -> UserId {
    let id = derived(b"hearth user", wish.request, wish.names.username.as_str());
    UserId::of_account(id)
}

fn taken(name: &Name) -> Refusal {
    Refusal::new(Code::NameTaken, format!("{name} is taken"))
}
