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
    /// The token to show; none in development mode.
    async fn token(&self, refused: Option<String>) -> Result<Option<String>, AccountError> {
        match &self.credentials {
            Some(credentials) => credentials.token(refused).await.map(Some),
            None => Ok(None),
        }
    }

    fn caller<'a>(&'a self, token: Option<&'a str>) -> Caller<'a> {
        token.map_or(Caller::Named(&self.user, self.device), Caller::Token)
    }
}

/// Asks as somebody; once more with another token where the first one has ended.
macro_rules! ask {
    ($asking:expr, $caller:ident => $ask:expr) => {{
        let asking: &Asking = $asking;
        let first = asking.token(None).await?;
        let $caller = asking.caller(first.as_deref());
        match $ask.await {
            Err(AccountError::Refused(refused))
                if first.is_some() && refused.known() == Some(Code::TokenExpired) =>
            {
                let second = asking.token(first).await?;
                let $caller = asking.caller(second.as_deref());
                $ask.await
            }
            answer => answer,
        }
    }};
}

impl Client {
    /// A page of the user's chats, as the copies in the region of the edge know them: it is there while a home is
    /// lost, and may be a moment old. In development mode users have no account, and so no list.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where the user has none.
    pub async fn chats(&self, query: &ChatsQuery) -> Result<ChatsPage, AccountError> {
        let asking = &self.shared.asking;
        ask!(asking, caller => asking.accounts.chats_of(caller, query))
    }

    /// Finds a user by name.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where nobody has the name.
    pub async fn find(&self, username: &str) -> Result<Person, AccountError> {
        let asking = &self.shared.asking;
        ask!(asking, caller => asking.accounts.find_by(caller, username))
    }

    /// Who a user is, as far as the user lets it be seen.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where there is no such user.
    pub async fn person(&self, user: &UserId) -> Result<Person, AccountError> {
        let asking = &self.shared.asking;
        ask!(asking, caller => asking.accounts.see_by(caller, user))
    }
}

impl Chat {
    /// Marks the chat in the user's list, on all of the user's devices: these marks are all that it has then.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where the user has none.
    pub async fn set_marks(&self, marks: ChatMarks) -> Result<(), AccountError> {
        let asking = &self.client.shared.asking;
        ask!(asking, caller => asking.accounts.mark_of(caller, self.log, marks))
    }
}
