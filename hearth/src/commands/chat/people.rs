//! What users are called: by their usernames where they have accounts, by their ids in development mode.

use anyhow::Context as _;
use client::Client;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use types::UserId;

/// Names that are remembered; one that is forgotten is asked for again.
const KNOWN_MAX: usize = 4_096;

/// See the module. Clones know the same names.
#[derive(Clone)]
pub(super) struct People {
    client: Client,
    has_accounts: bool,
    known: Arc<Mutex<HashMap<UserId, String>>>,
}

impl People {
    pub(super) fn new(client: Client, has_accounts: bool) -> Self {
        Self { client, has_accounts, known: Arc::default() }
    }

    /// Who asks.
    pub(super) fn own(&self) -> UserId {
        self.client.user().clone()
    }

    /// Notes what somebody is called.
    pub(super) fn note(&self, user: &UserId, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(user.clone(), name.to_owned());
    }

    /// Who is called so.
    ///
    /// # Errors
    /// Nobody, or nobody who could be asked for.
    pub(super) async fn find(&self, name: &str) -> anyhow::Result<UserId> {
        if !self.has_accounts {
            return UserId::new(name).with_context(|| format!("{name:?} is no user"));
        }
        let person = self.client.find(name).await.with_context(|| format!("cannot find {name:?}"))?;
        self.note(&person.user, &person.username);
        Ok(person.user)
    }

    /// Who are called so.
    ///
    /// # Errors
    /// As [`People::find`].
    pub(super) async fn find_all(&self, names: &[String]) -> anyhow::Result<Vec<UserId>> {
        let mut found = Vec::new();
        for name in names {
            found.push(self.find(name).await?);
        }
        Ok(found)
    }

    /// What somebody is called, as far as it is known here; what is not is asked for, for the next time.
    pub(super) fn name(&self, user: &UserId) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(user) {
            return name.clone();
        }
        drop(known);
        if self.has_accounts {
            let (people, user) = (self.clone(), user.clone());
            tokio::spawn(async move { people.ask(&user).await });
        }
        user.to_string()
    }

    /// Gets to know what these are called.
    pub(super) async fn meet(&self, users: &[UserId]) {
        for user in users {
            self.ask(user).await;
        }
    }

    async fn ask(&self, user: &UserId) {
        let is_known = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(user);
        if !self.has_accounts || is_known {
            return;
        }
        // Who lets nobody see them is called by their id.
        if let Ok(person) = self.client.person(user).await {
            self.note(user, &person.username);
        }
    }
}
