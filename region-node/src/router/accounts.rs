//! Accounts, asked of whoever knows: the home, which knows all that was acked, or a copy in the region.

use super::{Router, read::closed_in};
use crate::{
    peer::wire::{self, AccountAsked},
    service::{AccountAnswer, ReadRefusal},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use types::{Code, LogId, PartitionId, Refusal, UserId, account::Account};

/// How soon a home that could not be asked is asked again, while there is time.
const HOME_STEP: Duration = Duration::from_millis(100);
/// When who could not be told should ask again, in ms.
const RETRY_AFTER_MS: u64 = 500;

impl Router {
    /// A user's account, as its home knows it: all that was acked before the call is in it. `None`: there is none.
    /// `brief`: without contacts, blocked users and chats, perhaps. While there is no home it is waited for.
    ///
    /// # Errors
    /// `home_unavailable`, `directory_unavailable`.
    pub(crate) async fn account(
        &self,
        user: &UserId,
        brief: bool,
        patience: Duration,
    ) -> Result<Option<Arc<Account>>, Refusal> {
        patiently(patience, || self.account_once(user, brief)).await
    }

    /// Asks for an account that nobody has as [`account`](Self::account) asks for one that somebody has: the home of a
    /// partition, which `draw` picks. It takes as long, and fails where that home cannot be asked.
    ///
    /// # Errors
    /// As those of [`account`](Self::account).
    pub(crate) async fn nobodys_account(
        &self,
        nobody: &UserId,
        draw: u64,
        patience: Duration,
    ) -> Result<(), Refusal> {
        patiently(patience, || self.nobodys_account_once(nobody, draw)).await
    }

    async fn nobodys_account_once(&self, nobody: &UserId, draw: u64) -> Result<(), Refusal> {
        let log = LogId::account(nobody);
        if let Err(refusal) = self.pin_of(log).await
            && refusal.code != Code::UnknownChat
        {
            return Err(refusal);
        }
        let partition = self.drawn_partition(draw).ok_or_else(|| unavailable("nothing is placed yet"))?;
        let asked = AccountAsked { partition, log, any_copy: false, brief: true };
        match self.account_at_home(&asked).await {
            Ok(_) => Ok(()),
            Err(ReadRefusal::Refused(refusal)) => Err(refusal),
            Err(why) => Err(unavailable(&why.to_string())),
        }
    }

    fn drawn_partition(&self, draw: u64) -> Option<PartitionId> {
        let placement = self.parts().view.load();
        let count = u64::try_from(placement.partitions().count()).ok()?;
        let at = usize::try_from(draw.checked_rem(count)?).ok()?;
        placement.partitions().nth(at).map(|row| row.partition)
    }

    async fn account_once(&self, user: &UserId, brief: bool) -> Result<Option<Arc<Account>>, Refusal> {
        let log = LogId::account(user);
        let mut pin = match self.pin_of(log).await {
            Ok(pin) => pin,
            Err(refusal) if refusal.code == Code::UnknownChat => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        loop {
            let asked = AccountAsked { partition: pin.partition, log, any_copy: false, brief };
            let answer = self.account_at_home(&asked).await;
            let closed = closed_in(&answer, |answer| answer.closed);
            if closed >= pin.generation {
                let later = self.pin_above(log, closed).await?;
                if later.generation <= pin.generation {
                    return Err(unavailable(&format!("account {log} is on its way to another partition")));
                }
                pin = later;
                continue;
            }
            return match answer {
                Ok(answer) => Ok(answer.account),
                Err(ReadRefusal::Refused(refusal)) => Err(refusal),
                Err(why) => Err(unavailable(&why.to_string())),
            };
        }
    }

    async fn account_at_home(&self, asked: &AccountAsked) -> Result<AccountAnswer, ReadRefusal> {
        if self.is_home_here(asked.partition) {
            return self.parts().homes.account(asked.partition, asked.log).await;
        }
        wire::account(self.ask_home(asked.partition, wire::account_request(asked)).await?)
    }

    /// A user's account as this node's own copy knows it; `None` where it has no copy that is in sync, or one that
    /// has nothing of it. What it says was so; what has become of it since the home knows.
    pub(crate) async fn account_here(&self, user: &UserId) -> Option<Arc<Account>> {
        let log = LogId::account(user);
        let pin = self.pin_of(log).await.ok()?;
        if !self.is_in_sync_here(pin.partition) {
            return None;
        }
        let answer = self.parts().replicas.account(pin.partition, log).await.ok()?;
        answer.account.filter(|_| answer.closed < pin.generation)
    }

    fn is_in_sync_here(&self, partition: PartitionId) -> bool {
        let placement = self.parts().view.load();
        let here = &self.parts().config.node;
        placement.partition(partition).is_some_and(|row| {
            row.isr.iter().any(|replica| replica.node == *here)
                || row.home.as_ref().is_some_and(|home| home.node == *here)
        })
    }
}

/// Asks again, while there is time, whoever could not be asked.
async fn patiently<T, F>(patience: Duration, ask: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let give_up = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(told) => return Ok(told),
            Err(refusal) if !refusal.is_retryable() || Instant::now() + HOME_STEP > give_up => {
                return Err(refusal);
            }
            Err(_) => sleep(HOME_STEP).await,
        }
    }
}

fn unavailable(why: &str) -> Refusal {
    Refusal::new(Code::HomeUnavailable, why).retry_after_ms(RETRY_AFTER_MS)
}
