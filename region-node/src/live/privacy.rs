//! What users let others see, in one place.
//!
//! What a user has decided stands in their account log; a user without one has decided nothing.

use super::desk::View;
use crate::router::Router;
use host::HashMap;
use log_store::locate::Located;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use types::{
    LogId, Position, UserId,
    account::{Account, Audience},
};

/// How long an account's home is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long is remembered what a user has decided about receipts, in ms.
const KNOWN_MS: u64 = 30_000;
/// Of how many users.
const USERS_MAX: usize = 65_536;

/// Whether users show what they read, as it was a moment ago.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<UserId, (bool, u64)>>);

impl Shown {
    /// Whether a user hides what is read, where that is known.
    pub(super) fn hides_reads(&self, now_ms: u64, user: &UserId) -> Option<bool> {
        let known = self.0.lock().get(user).copied();
        known.filter(|(_, at_ms)| now_ms < at_ms + KNOWN_MS).map(|(hides, _)| hides)
    }

    /// Finds it out. Where nobody can be asked, what was known before holds; who has hidden nothing hides nothing.
    pub(super) async fn look(&self, router: &Router, now_ms: u64, user: &UserId) -> bool {
        let asked = account(router, user).await;
        let mut known = self.0.lock();
        let hides = match asked {
            Some(account) => {
                account.and_then(|account| account.open.clone()).is_some_and(|open| !open.privacy.receipts)
            }
            None => known.get(user).is_some_and(|(hides, _)| *hides),
        };
        if known.len() >= USERS_MAX {
            known.retain(|_, (_, at_ms)| now_ms < *at_ms + KNOWN_MS);
        }
        if known.len() < USERS_MAX {
            known.insert(user.clone(), (hides, now_ms));
        }
        hides
    }
}

/// What a watcher may see of a user's presence: nothing where they share no chat and neither has the other as a contact,
/// or where the user shows it to others only.
pub(super) async fn view(
    router: &Router,
    watcher: &UserId,
    user: &UserId,
    chat: Option<LogId>,
) -> Option<View> {
    if watcher == user {
        return Some(View { last_seen: true });
    }
    let account = account(router, user).await?;
    let open = account.as_ref().and_then(|account| account.open.as_ref());
    let Some(open) = open else {
        let is_new = account.is_none();
        return (is_new && share(router, watcher, user, chat).await).then_some(View { last_seen: true });
    };
    if open.blocked.contains(watcher) {
        return None;
    }
    let is_contact = open.contacts.contains_key(watcher);
    if !is_contact && !share(router, watcher, user, chat).await {
        return None;
    }
    let sees = |audience| match audience {
        Audience::Everyone => true,
        Audience::Contacts => is_contact,
        Audience::Nobody => false,
    };
    sees(open.privacy.online).then_some(View { last_seen: sees(open.privacy.last_seen) })
}

/// Whether both are members of a chat: the one that is named, or their direct one.
async fn share(router: &Router, watcher: &UserId, user: &UserId, chat: Option<LogId>) -> bool {
    let log = chat.unwrap_or_else(|| LogId::direct(watcher, user));
    for member in [watcher, user] {
        match router.locate(log, member, Position::START).await {
            Ok(answer) if answer.located == Located::Continue => {}
            _ => return false,
        }
    }
    true
}

/// A user's account, from wherever it can be read soon; the outer `None`: from nowhere.
async fn account(router: &Router, user: &UserId) -> Option<Option<Arc<Account>>> {
    if let Some(account) = router.account_here(user).await {
        return Some(Some(account));
    }
    let asked = tokio::time::timeout(PATIENCE, router.account(user, false, Duration::ZERO)).await;
    asked.ok()?.ok()
}
