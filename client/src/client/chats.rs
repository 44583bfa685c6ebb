//! The user's list of chats, which is asked for by requests of its own.

use super::{Chat, Client};
use crate::account::{AccountError, Accounts, Caller, ChatsPage, ChatsQuery, Person};
use types::{Code, DeviceId, UserId, account::ChatMarks};

/// Who asks, and whom.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) accounts: Accounts,
    pub(super) credentials: Option<crate::account::Credentials>,
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

impl Asking {
    /// Asks; once more with another token where the first one has ended.
    async fn ask<T>(
        &self,
        act: impl AsyncFn(&Accounts, Caller<'_>) -> Result<T, AccountError>,
    ) -> Result<T, AccountError> {
        let Some(credentials) = &self.credentials else {
            return act(&self.accounts, Caller::Named(&self.user, self.device)).await;
        };
        let token = credentials.token(None).await?;
        match act(&self.accounts, Caller::Token(&token)).await {
            Err(AccountError::Refused(refused)) if refused.known() == Some(Code::TokenExpired) => {
                let token = credentials.token(Some(token)).await?;
                act(&self.accounts, Caller::Token(&token)).await
            }
            answer => answer,
        }
    }
}

impl Client {
    /// A page of the user's chats, as the copies in the region of the edge know them: it is there while a home is
    /// lost, and may be a moment old. In development mode users have no account, and so no list.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where the user has none.
    pub async fn chats(&self, query: &ChatsQuery) -> Result<ChatsPage, AccountError> {
        let asking = &self.shared.asking;
        asking.ask(async |accounts, caller| accounts.chats_of(caller, query).await).await
    }

    /// Finds a user by name.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where nobody has the name.
    pub async fn find(&self, username: &str) -> Result<Person, AccountError> {
        let asking = &self.shared.asking;
        asking.ask(async |accounts, caller| accounts.find_by(caller, username).await).await
    }

    /// Who a user is, as far as the user lets it be seen.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where there is no such user.
    pub async fn person(&self, user: &UserId) -> Result<Person, AccountError> {
        let asking = &self.shared.asking;
        asking.ask(async |accounts, caller| accounts.see_by(caller, user).await).await
    }
}

impl Chat {
    /// Marks the chat in the user's list, on all of the user's devices: these marks are all that it has then.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where the user has none.
    pub async fn set_marks(&self, marks: ChatMarks) -> Result<(), AccountError> {
        let asking = &self.client.shared.asking;
        asking.ask(async |accounts, caller| accounts.mark_of(caller, self.log, marks).await).await
    }
}
