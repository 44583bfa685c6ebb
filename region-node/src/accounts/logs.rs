//! Account logs, as the accounts write and read them.

use crate::{
    router::{Draft, Router},
    service::Beside,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{
    AckPolicy, Code, DeviceId, EntryBody, LogId, MessageId, Refusal, UserId,
    account::{Account, AccountChange, OpenAccount},
    limits,
};

/// How long an account's home is waited for: longer than a failover takes.
const HOME_PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct AccountLogs {
    router: Router,
}

impl AccountLogs {
    pub(super) const fn new(router: Router) -> Self {
        Self { router }
    }

    /// Pins a user's account log in this region, or finds where it is.
    pub(super) async fn pin(&self, user: &UserId) -> Result<(), Refusal> {
        self.router.pin(LogId::account(user), &[]).await
    }

    /// Writes a change; it is `replicated` when this returns.
    pub(super) async fn append(
        &self,
        user: &UserId,
        device: DeviceId,
        request: MessageId,
        change: AccountChange,
    ) -> Result<(), Refusal> {
        let draft = Draft {
            log: LogId::account(user),
            sender: user.clone(),
            device,
            message_id: request,
            after: None,
            body: EntryBody::Account(Box::new(change)),
            ack: AckPolicy::Replicated,
            deadline: Instant::now() + Duration::from_millis(limits::DEADLINE_DEFAULT_MS),
            beside: Beside::default(),
        };
        self.router.write(draft).await.map(drop)
    }

    /// A user's account as its home knows it.
    pub(super) async fn account(&self, user: &UserId) -> Result<Option<Arc<Account>>, Refusal> {
        self.router.account(user, false, HOME_PATIENCE).await
    }

    /// A user's account with names, password and devices only, perhaps; `None` where it is not in use.
    pub(super) async fn brief(&self, user: &UserId) -> Result<Option<OpenAccount>, Refusal> {
        let account = self.router.account(user, true, HOME_PATIENCE).await?;
        Ok(account.and_then(|account| account.open.clone()))
    }

    /// Asks as [`brief`](Self::brief) does, for an account that nobody has.
    pub(super) async fn nobodys(&self, nobody: &UserId, draw: u64) -> Result<(), Refusal> {
        self.router.nobodys_account(nobody, draw, HOME_PATIENCE).await
    }

    /// An account that is in use, whole.
    pub(super) async fn open(&self, user: &UserId) -> Result<OpenAccount, Refusal> {
        in_use(user, self.account(user).await?)
    }

    /// The same, from this node's copy where the home cannot be asked now.
    pub(super) async fn open_nearby(&self, user: &UserId) -> Result<OpenAccount, Refusal> {
        match self.router.account(user, false, Duration::ZERO).await {
            Ok(account) => in_use(user, account),
            Err(refusal) => match self.router.account_here(user).await {
                Some(account) => in_use(user, Some(account)),
                None if refusal.is_retryable() => self.open(user).await,
                None => Err(refusal),
            },
        }
    }
}

fn in_use(user: &UserId, account: Option<Arc<Account>>) -> Result<OpenAccount, Refusal> {
    let open = account.and_then(|account| account.open.clone());
    open.ok_or_else(|| Refusal::new(Code::UnknownAccount, format!("there is no account {user}")))
}
