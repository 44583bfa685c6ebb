//! Other names for an account: claimed, then in its log, then held; those of before rest.
//!
//! ```text
//!   claim the new ones ──▶ append NamesChanged{before} (replicated) ──▶ settle: hold what the account has,
//!        │ taken: nothing was done                │ changed meanwhile       let go of what it has not
//!        └──────────────────────────◀─────────────┴──────────────────────────────┘
//! ```
//!
//! The account log decides. A crash before its entry leaves claims that only the user can use; one behind it leaves names
//! that are claimed, which whoever comes across them helps to hold, and names that are held and not in the account any
//! more, which whoever wants them sees to the release of.

use super::{Accounts, Kind, limits::Who, registering::all};
use types::{
    Code, DeviceId, MessageId, Name, Phone, Refusal, UserId, Username,
    account::{AccountChange, Names},
};

/// What is to be different; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewNames {
    pub(crate) username: Option<Username>,
    /// `Some(None)`: none any more.
    pub(crate) phone: Option<Option<Phone>>,
}

impl Accounts {
    /// Gives an account other names. Repeating it under its request id is safe.
    ///
    /// # Errors
    /// `name_taken`; `conflict` where another change came first; `rate_limited`; what the home and the directory refuse.
    pub(crate) async fn rename(
        &self,
        user: &UserId,
        device: DeviceId,
        request: MessageId,
        new: NewNames,
    ) -> Result<(), Refusal> {
        let before = self.0.logs.open(user).await?.names;
        let names = Names {
            username: new.username.unwrap_or_else(|| before.username.clone()),
            phone: new.phone.unwrap_or_else(|| before.phone.clone()),
        };
        let concerned: Vec<Name> = all(&before).into_iter().chain(all(&names)).collect();
        if names == before {
            // Perhaps by an earlier try, of which the rest may be missing.
            return self.settle(user, &concerned).await;
        }
        self.admit(Kind::Rename, &Who::User(user.clone()))?;
        let had = all(&before);
        let wanted: Vec<Name> = all(&names).into_iter().filter(|name| !had.contains(name)).collect();
        if !wanted.is_empty() {
            self.claim(&wanted, user).await?;
        }
        let change = AccountChange::NamesChanged { names, before };
        let changed = self.0.logs.append(user, device, request, change).await;
        if changed.as_ref().is_err_and(Refusal::is_indeterminate) {
            return changed;
        }
        // Where this fails, others see to it when they come across the names.
        if let Err(refusal) = self.settle(user, &concerned).await {
            tracing::info!(%user, %refusal, "the names of an account are not all settled yet");
        }
        changed
    }

    /// Holds the names that an account has, and lets go of those among `concerned` that it has not.
    async fn settle(&self, user: &UserId, concerned: &[Name]) -> Result<(), Refusal> {
        let names = &self.0.parts.names;
        let has = all(&self.0.logs.open(user).await?.names);
        let gone: Vec<Name> = concerned.iter().filter(|name| !has.contains(name)).cloned().collect();
        if !gone.is_empty() {
            names.release(&gone, user).await?;
        }
        // They may have been changed back meanwhile: whoever has freed a name has it back at once.
        let has = all(&self.0.logs.open(user).await?.names);
        if has.iter().any(|name| gone.contains(name)) {
            self.claim(&has, user).await?;
        }
        match names.hold(&has, user).await {
            // Another change has come between, and settles them itself.
            Err(refusal) if refusal.code == Code::Conflict => Ok(()),
            held => held,
        }
    }
}
