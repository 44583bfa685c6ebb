//! Accounts: to register, to log a device in and out, and to show who it is on each connection.
//!
//! ```text
//!   Accounts::register, log_in ──▶ SignedIn ──▶ CredentialsFile ──▶ Credentials ──▶ Config::credentials
//!                                                 │ a token of 10 minutes for each connection
//!                                                 └ refreshed where it has ended, one process at a time
//! ```

mod chats;
mod file;
mod http;

pub use chats::{ChatsPage, ChatsQuery, ListedChat};
pub use file::CredentialsFile;
pub(crate) use http::Caller;

use crate::{Refused, Roots, tls::Tls};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Ask;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use types::{DeviceId, UserId};
use uuid::Uuid;

/// How often all edges are tried.
const ROUNDS: usize = 3;
/// The wait between two attempts, where nobody names one, and the longest.
const WAIT_MS: u64 = 200;
const WAIT_MAX_MS: u64 = 3_000;

/// Something about an account failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The server said no.
    #[error("{0}")]
    Refused(Refused),
    /// No edge answers as it should. Asking again with the same request id is safe.
    #[error("no edge answers: {last}")]
    Unreachable {
        /// What the last one did.
        last: String,
    },
    /// The device's credentials cannot be read or kept.
    #[error("{}: {what}", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl AccountError {
    /// Whether the same request can succeed later without being changed.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.retryable,
            Self::Unreachable { .. } => true,
            Self::Credentials { .. } => false,
        }
    }
}

/// A user who wants an account.
#[derive(Clone, Serialize)]
pub struct Registration {
    /// Drawn once; a repetition with the same one makes no second account.
    pub request_id: Uuid,
    /// Unique in the world.
    pub username: String,
    /// At least 8 characters.
    pub password: String,
    /// How the user wants to be called.
    pub display_name: String,
    /// What the user calls this device.
    pub device_name: String,
    /// As E.164 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// A device of a user who has an account.
#[derive(Clone, Serialize)]
pub struct LogIn {
    /// Drawn once; a repetition with the same one adds no second device.
    pub request_id: Uuid,
    /// A username or a phone number.
    pub name: String,
    /// The user's.
    pub password: String,
    /// What the user calls this device.
    pub device_name: String,
}

/// What a device that is logged in shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    /// Who the user is in chats.
    pub user: UserId,
    /// The device's number, as text.
    device: String,
    /// Shown on each connection.
    pub access_token: String,
    /// Until when it counts, in ms since 1970.
    pub access_token_until_ms: u64,
    /// Gets the next one. None: that of before goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

impl SignedIn {
    /// The device.
    ///
    /// # Errors
    /// What the server said is no number.
    pub fn device(&self) -> Result<DeviceId, AccountError> {
        let number = self.device.parse().map_err(|_| AccountError::Unreachable {
            last: format!("it calls the device {:?}", self.device),
        })?;
        Ok(DeviceId::new(number))
    }
}

macro_rules! hides_secrets {
    ($($type:ident $field:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    )*};
}

hides_secrets!(Registration username, LogIn name, SignedIn user);

/// Another user, as far as they let themselves be seen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Person {
    /// Who they are in chats.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// How they want to be called.
    pub display_name: String,
}

/// Asks nodes about accounts, the nearest first.
#[derive(Clone)]
pub struct Accounts {
    edges: Vec<String>,
    tls: Arc<Tls>,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("edges", &self.edges).finish_non_exhaustive()
    }
}

impl Accounts {
    /// `edges` and `roots` as in [`crate::Config`].
    pub fn new(edges: impl IntoIterator<Item = impl Into<String>>, roots: Roots) -> Self {
        Self::by(edges.into_iter().map(Into::into).collect(), Tls::new(roots))
    }

    pub(crate) const fn by(edges: Vec<String>, tls: Arc<Tls>) -> Self {
        Self { edges, tls }
    }

    /// Makes an account, and logs this device in.
    ///
    /// # Errors
    /// [`AccountError`]; `name_taken` where another user has the name.
    pub async fn register(&self, wish: &Registration) -> Result<SignedIn, AccountError> {
        self.post("/v1/register", wish).await
    }

    /// Logs this device in.
    ///
    /// # Errors
    /// [`AccountError`]; `bad_credentials` where the name or the password is wrong.
    pub async fn log_in(&self, wish: &LogIn) -> Result<SignedIn, AccountError> {
        self.post("/v1/login", wish).await
    }

    /// Gets another access token.
    ///
    /// # Errors
    /// [`AccountError`]; `device_revoked` where the device was logged out.
    pub async fn refresh(&self, refresh_token: &str) -> Result<SignedIn, AccountError> {
        self.post("/v1/refresh", &serde_json::json!({ "refresh_token": refresh_token })).await
    }

    /// Logs a device out.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn log_out(&self, access_token: &str) -> Result<(), AccountError> {
        let caller = Caller::Token(access_token);
        let ask = Ask { method: Method::POST, path: "/v1/logout", caller, body: None };
        self.ask(&ask).await.map(drop)
    }

    /// Finds a user by name.
    ///
    /// # Errors
    /// [`AccountError`]; `unknown_account` where nobody has the name.
    pub async fn find(&self, access_token: &str, username: &str) -> Result<Person, AccountError> {
        self.find_by(Caller::Token(access_token), username).await
    }

    pub(crate) async fn find_by(&self, caller: Caller<'_>, username: &str) -> Result<Person, AccountError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
        if !username.chars().all(is_name) {
            let last = format!("{username:?} is no username");
            return Err(AccountError::Unreachable { last });
        }
        let path = format!("/v1/users?username={username}");
        let ask = Ask { method: Method::GET, path: &path, caller, body: None };
        read(&self.ask(&ask).await?)
    }

    pub(crate) async fn see_by(&self, caller: Caller<'_>, user: &UserId) -> Result<Person, AccountError> {
        let path = format!("/v1/users/{user}");
        read(&self.ask(&Ask { method: Method::GET, path: &path, caller, body: None }).await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AccountError> {
        let body = serde_json::to_vec(body).expect("a request has text keys only");
        let ask = Ask { method: Method::POST, path, caller: Caller::Nobody, body: Some(body.into()) };
        read(&self.ask(&ask).await?)
    }

    /// Asks each edge in turn, until one has answered with something that lasts.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Bytes, AccountError> {
        let mut failed = AccountError::Unreachable { last: "there is none".to_owned() };
        for edge in self.edges.iter().cycle().take(self.edges.len() * ROUNDS) {
            let wait_ms = match http::ask(edge, &self.tls, ask).await {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => {
                    let refused = refused(status, &body);
                    let wait_ms = refused.retry_after_ms;
                    let is_last = !refused.retryable;
                    failed = AccountError::Refused(refused);
                    if is_last {
                        return Err(failed);
                    }
                    wait_ms
                }
                Err(error) => {
                    failed = AccountError::Unreachable { last: format!("{edge}: {error}") };
                    None
                }
            };
            tokio::time::sleep(Duration::from_millis(wait_ms.unwrap_or(WAIT_MS).min(WAIT_MAX_MS))).await;
        }
        Err(failed)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AccountError> {
    serde_json::from_slice(body)
        .map_err(|error| AccountError::Unreachable { last: format!("its answer cannot be read: {error}") })
}

/// An RFC 9457 problem, or an answer of something that stands between.
fn refused(status: StatusCode, body: &[u8]) -> Refused {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        #[serde(default)]
        detail: String,
        #[serde(default)]
        retryable: bool,
        #[serde(default)]
        indeterminate: bool,
        retry_after_ms: Option<u64>,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Refused {
            code: problem.code,
            message: problem.detail,
            retryable: problem.retryable,
            indeterminate: problem.indeterminate,
            retry_after_ms: problem.retry_after_ms,
            common: None,
        },
        Err(_) => Refused {
            code: status.as_str().to_owned(),
            message: "the answer is no problem document".to_owned(),
            retryable: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
            indeterminate: status.is_server_error(),
            retry_after_ms: None,
            common: None,
        },
    }
}

/// Gives the access token for a connection.
pub trait Tokens: Send + Sync + 'static {
    /// A token that counts now; another one than `refused`, which an edge called ended.
    fn token(&self, refused: Option<String>) -> BoxFuture<'_, Result<String, AccountError>>;
}

/// Who shows tokens for a client.
#[derive(Clone)]
pub struct Credentials(Arc<dyn Tokens>);

impl Credentials {
    /// These tokens.
    pub fn new(tokens: impl Tokens) -> Self {
        Self(Arc::new(tokens))
    }

    /// A token that counts now.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn token(&self, refused: Option<String>) -> Result<String, AccountError> {
        self.0.token(refused).await
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Credentials {}
