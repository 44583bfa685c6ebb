//! Logging in, going on, logging out, and changing the password.
//!
//! | what | proves | gives |
//! |---|---|---|
//! | log in | the password | a device with its first refresh token |
//! | refresh | the device's refresh token | an access token; once a day another refresh token |
//! | change the password | the old one | all other devices off, unless they are to stay |
//!
//! A password that is changed while somebody logs in by the old one lets nobody in: the log-in looks at the password
//! again behind its device's entry, and the change looks at the devices again behind its own. Whichever comes second
//! sees the other.
//!
//! Nobody learns from a log-in whether a name exists, also not while homes are lost: for a name that nobody has, a home is
//! asked all the same, always the same one, and where it cannot be asked the log-in is refused as it is for a name whose
//! account has that home.
//!
//! A refresh token is good once it is shown; the one before it still is for a minute, since the answer may have been
//! lost. Shown later it was copied: then the device is revoked.

use super::{
    Accounts, Kind, LoggedIn,
    limits::Who,
    registering::all,
    tokens::{RefreshToken, derived, derived_device},
};
use crate::service::NameStanding;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use types::{
    Code, DeviceId, MessageId, Name, Refusal, UserId,
    account::{AccountChange, DeviceName, NewDevice, OpenAccount},
};
use uuid::Uuid;

/// After how long a refresh token is renewed, in ms.
const RENEW_AFTER_MS: u64 = 24 * 3_600 * 1_000;
/// How long the one before is still accepted, in ms.
const BEFORE_MS: u64 = 60_000;
/// A refused log-in is answered at a whole multiple of this after it came, so that its time tells neither whether
/// the name exists nor how far its home is.
const REFUSAL_STEP: Duration = Duration::from_millis(500);

/// When to come again, where the account cannot be asked for, in ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// What somebody who logs in says.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// Drawn by the client; the same for each repetition.
    pub(crate) request: Uuid,
    pub(crate) name: Name,
    pub(crate) password: String,
    pub(crate) device: DeviceName,
}

/// A change of the password.
#[derive(Debug, Clone)]
pub(crate) struct NewPassword {
    pub(crate) request: Uuid,
    pub(crate) old: String,
    pub(crate) new: String,
    /// The user's other devices stay logged in.
    pub(crate) keep_devices: bool,
}

impl Accounts {
    /// Logs a device in.
    ///
    /// # Errors
    /// `bad_credentials`, whatever of them is wrong; `rate_limited`, `too_large` where there are too many devices.
    /// Repeating it with the same request id is safe.
    pub(crate) async fn log_in(&self, credentials: Credentials) -> Result<LoggedIn, Refusal> {
        let began = Instant::now();
        self.admit(Kind::Guess, &Who::Name(credentials.name.clone()))?;
        let outcome = self.try_to_log_in(&credentials).await;
        if let Err(refusal) = &outcome {
            if refusal.code == Code::BadCredentials {
                metrics::counter!("hearth_logins_refused_total").increment(1);
            }
            sleep_until(next_step(began, Instant::now())).await;
        }
        outcome
    }

    async fn try_to_log_in(&self, credentials: &Credentials) -> Result<LoggedIn, Refusal> {
        self.0.keys.signer().await?;
        let owner =
            self.0.parts.names.resolve(std::slice::from_ref(&credentials.name)).await?.pop().flatten();
        let owner = owner.filter(|owner| !matches!(owner.standing, NameStanding::Freed { .. }));
        let open = match &owner {
            Some(owner) => self.0.logs.brief(&owner.user).await,
            None => self.ask_for_nobody(&credentials.name).await.map(|()| None),
        };
        let open = open.map_err(untold)?;
        // A name is claimed before the account has it, and may still be another one's there.
        let open = open.filter(|open| all(&open.names).contains(&credentials.name));
        let known = open.as_ref().map(|open| open.password.clone());
        let is_right = self.0.passwords.verify(&credentials.password, known).await?;
        let (Some(owner), Some(open)) = (owner, open) else { return Err(bad_credentials()) };
        if !is_right {
            return Err(bad_credentials());
        }
        self.help_to_hold(&owner, &open).await;
        self.add_device(credentials, &owner.user, &open).await
    }

    /// Asks for the account of a name that nobody has. Which home that is nobody outside can work out, since none knows
    /// the ids of stores, and it is the same at each node.
    async fn ask_for_nobody(&self, name: &Name) -> Result<(), Refusal> {
        let store = self.0.parts.view.load().nodes().map(|node| node.store).min();
        let secret = store.map_or(Uuid::nil(), |store| Uuid::from_bytes(*store.as_bytes()));
        let id = derived(b"hearth nobody", secret, name.as_str());
        let [a, b, c, d, e, f, g, h, ..] = id;
        self.0.logs.nobodys(&UserId::of_account(id), u64::from_be_bytes([a, b, c, d, e, f, g, h])).await
    }

    async fn add_device(
        &self,
        credentials: &Credentials,
        user: &UserId,
        open: &OpenAccount,
    ) -> Result<LoggedIn, Refusal> {
        let device = derived_device(b"hearth device", credentials.request, user.as_str());
        if open.devices.contains_key(&device) {
            return self.renew(user, device, open).await;
        }
        let token = RefreshToken::draw(user.clone(), device);
        let new = NewDevice { device, name: credentials.device.clone(), token: token.hash() };
        let request = MessageId::from(credentials.request);
        match self.0.logs.append(user, device, request, AccountChange::DeviceAdded(new)).await {
            Ok(()) => {}
            // Another try of this very log-in was faster, or its device has been revoked since.
            Err(refusal) if matches!(refusal.code, Code::Conflict | Code::MessageIdReused) => {
                let open = self.0.logs.brief(user).await?.ok_or_else(bad_credentials)?;
                return self.renew(user, device, &open).await;
            }
            Err(refusal) => return Err(refusal),
        }
        let now = self.0.logs.brief(user).await?;
        if now.is_none_or(|now| now.password != open.password) {
            let change = AccountChange::DevicesRevoked(vec![device]);
            self.0.logs.append(user, device, MessageId::from(host::random::id()), change).await?;
            return Err(bad_credentials());
        }
        self.logged_in(token).await
    }

    /// Gives a device another refresh token for the one that it has.
    pub(super) async fn renew(
        &self,
        user: &UserId,
        device: DeviceId,
        open: &OpenAccount,
    ) -> Result<LoggedIn, Refusal> {
        let known = open.devices.get(&device).ok_or_else(not_accepted)?;
        let next = RefreshToken::draw(user.clone(), device);
        let change = AccountChange::TokenRenewed { device, token: next.hash(), before: known.token };
        self.0.logs.append(user, device, MessageId::from(host::random::id()), change).await?;
        self.logged_in(next).await
    }

    /// An access token for what a device shows.
    ///
    /// # Errors
    /// `unauthenticated` for whatever is not its token now.
    pub(crate) async fn refresh(&self, shown: &str) -> Result<LoggedIn, Refusal> {
        let shown = RefreshToken::read(shown)?;
        let (user, device) = (&shown.user, shown.device);
        let open = self.0.logs.brief(user).await?.ok_or_else(not_accepted)?;
        let known = open.devices.get(&device).ok_or_else(not_accepted)?;
        let age_ms = host::clock::wall_ms().saturating_sub(known.token_at_ms);
        if shown.is(&known.token) {
            if age_ms >= RENEW_AFTER_MS {
                return self.renew(user, device, &open).await;
            }
            let (access, bearer) = self.sign(user, device).await?;
            return Ok(LoggedIn { bearer, access, refresh: None });
        }
        if !known.token_before.is_some_and(|before| shown.is(&before)) {
            return Err(not_accepted());
        }
        if age_ms <= BEFORE_MS {
            return self.renew(user, device, &open).await;
        }
        tracing::warn!(%user, %device, "a refresh token was shown after its successor: the device is revoked");
        metrics::counter!("hearth_refresh_tokens_reused_total").increment(1);
        self.revoke(user, device, MessageId::from(host::random::id()), vec![device]).await?;
        Err(not_accepted())
    }

    /// Takes devices off, for good. Those that are not there are passed over.
    ///
    /// # Errors
    /// What the home refuses it for.
    pub(crate) async fn revoke(
        &self,
        user: &UserId,
        by: DeviceId,
        request: MessageId,
        devices: Vec<DeviceId>,
    ) -> Result<(), Refusal> {
        let change = AccountChange::DevicesRevoked(devices.clone());
        self.0.logs.append(user, by, request, change).await?;
        self.0.standings.revoked(user, &devices);
        Ok(())
    }

    /// Takes all devices of a user off but one.
    ///
    /// # Errors
    /// What the home refuses it for.
    pub(crate) async fn revoke_others(&self, user: &UserId, but: DeviceId) -> Result<(), Refusal> {
        let Some(open) = self.0.logs.brief(user).await? else { return Ok(()) };
        let others: Vec<DeviceId> = open.devices.into_keys().filter(|device| *device != but).collect();
        if others.is_empty() {
            return Ok(());
        }
        self.revoke(user, but, MessageId::from(host::random::id()), others).await
    }

    /// Changes a password.
    ///
    /// # Errors
    /// `bad_credentials` where the old one is wrong; `bad_request` for a new one that is too short or too long.
    pub(crate) async fn change_password(
        &self,
        user: &UserId,
        device: DeviceId,
        change: NewPassword,
    ) -> Result<(), Refusal> {
        self.admit(Kind::Guess, &Who::User(user.clone()))?;
        let new = self.0.passwords.hash(&change.new).await?;
        let open = self.0.logs.brief(user).await?.ok_or_else(not_accepted)?;
        if self.0.passwords.verify(&change.old, Some(open.password.clone())).await? {
            let request = MessageId::from(change.request);
            match self.0.logs.append(user, device, request, AccountChange::PasswordChanged(new)).await {
                // Each try makes another hash.
                Err(refusal) if refusal.code == Code::MessageIdReused => {}
                outcome => outcome?,
            }
        } else if !self.0.passwords.verify(&change.new, Some(open.password)).await? {
            return Err(bad_credentials());
        }
        // Else an earlier try has changed it.
        if change.keep_devices { Ok(()) } else { self.revoke_others(user, device).await }
    }

    /// Ends an account, for good. Its names rest, and are then to be had by others.
    ///
    /// # Errors
    /// `bad_credentials` where the password is wrong; what the home refuses it for.
    pub(crate) async fn close(
        &self,
        user: &UserId,
        device: DeviceId,
        request: Uuid,
        password: &str,
    ) -> Result<(), Refusal> {
        self.admit(Kind::Guess, &Who::User(user.clone()))?;
        let open = self.0.logs.brief(user).await?.ok_or_else(not_accepted)?;
        if !self.0.passwords.verify(password, Some(open.password.clone())).await? {
            return Err(bad_credentials());
        }
        self.0.logs.append(user, device, MessageId::from(request), AccountChange::Closed).await?;
        self.0.standings.closed(user);
        // Where this fails, whoever comes across the names frees them.
        if let Err(refusal) = self.0.parts.names.release(&all(&open.names), user).await {
            tracing::info!(%user, %refusal, "an account has ended, and its names are not free yet");
        }
        Ok(())
    }

    /// What a device is told that has this refresh token from now on.
    pub(super) async fn logged_in(&self, token: RefreshToken) -> Result<LoggedIn, Refusal> {
        let (access, bearer) = self.sign(&token.user, token.device).await?;
        Ok(LoggedIn { bearer, access, refresh: Some(token.text()) })
    }

    async fn sign(&self, user: &UserId, device: DeviceId) -> Result<(String, super::Bearer), Refusal> {
        let signer = self.0.keys.signer().await?;
        signer.sign(user.clone(), device, host::clock::wall_ms())
    }
}

/// When to answer what began and was refused now.
fn next_step(began: Instant, now: Instant) -> Instant {
    let steps = now.duration_since(began).as_millis() / REFUSAL_STEP.as_millis() + 1;
    began + REFUSAL_STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

/// Why an account could not be asked for, without a word of which one it is.
fn untold(refusal: Refusal) -> Refusal {
    if !refusal.is_retryable() {
        return refusal;
    }
    tracing::debug!(%refusal, "a log-in could not ask for its account");
    Refusal::new(Code::HomeUnavailable, "the account cannot be asked for now").retry_after_ms(RETRY_AFTER_MS)
}

fn bad_credentials() -> Refusal {
    Refusal::new(Code::BadCredentials, "the name or the password is wrong")
}

fn not_accepted() -> Refusal {
    Refusal::new(Code::Unauthenticated, "the refresh token is not accepted: log in again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_at_whole_steps_however_long_it_took() {
        let began = Instant::now();
        let answered = |took_ms: u64| {
            next_step(began, began + Duration::from_millis(took_ms)).duration_since(began).as_millis()
        };
        assert_eq!([answered(0), answered(30), answered(499)], [500, 500, 500]);
        assert_eq!([answered(500), answered(730)], [1_000, 1_000]);
    }
}
