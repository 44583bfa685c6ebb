//! Passwords: hashed slowly, a few at a time, and never told apart from unknown users by time.
//!
//! Argon2id with 19 MiB, two passes and one lane, as OWASP's Password Storage Cheat Sheet has it. Such a hash takes tens
//! of ms of a core and its memory on purpose, so a node makes a bounded number at a time, and refuses when too many
//! wait: whoever floods the log-in does not take the node from those who chat.

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;
use types::{Code, Refusal, account::PasswordHash};

/// The shortest password, in characters (NIST SP 800-63B).
pub(crate) const PASSWORD_MIN_CHARS: usize = 8;
/// The longest, in bytes: longer ones would only cost time.
pub(crate) const PASSWORD_MAX_BYTES: usize = 256;
/// Hashes that may wait for a core; more are refused.
const WAITING_MAX: usize = 64;
/// When to come again, where too many wait, in ms.
const RETRY_AFTER_MS: u64 = 1_000;
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What an unknown user's password is compared with, so that it takes as long as a known one's.
static NOBODYS: LazyLock<Option<PasswordHash>> = LazyLock::new(|| hash_now(b"nobody has this password").ok());

/// The node's hashing of passwords. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    cores: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    /// Hashes on half of the cores at most.
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            cores: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// `bad_request` for one that is too short or too long, `overloaded` where too many are hashed now.
    pub(crate) async fn hash(&self, password: &str) -> Result<PasswordHash, Refusal> {
        check(password)?;
        let password = password.to_owned();
        self.on_a_core(move || hash_now(password.as_bytes())).await?
    }

    /// Whether a password is the one that was hashed; `None`: there is no such user, which takes as long.
    ///
    /// # Errors
    /// `overloaded` where too many are hashed now, `internal` for a hash that cannot be read.
    pub(crate) async fn verify(&self, password: &str, known: Option<PasswordHash>) -> Result<bool, Refusal> {
        if password.len() > PASSWORD_MAX_BYTES {
            return Err(too_long());
        }
        let password = password.to_owned();
        let is_known = known.is_some();
        let is_right = self
            .on_a_core(move || {
                let Some(against) = known.or_else(|| NOBODYS.clone()) else { return Ok(false) };
                verify_now(password.as_bytes(), &against)
            })
            .await??;
        Ok(is_right && is_known)
    }

    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            metrics::counter!("hearth_passwords_refused_total").increment(1);
            let refusal = Refusal::new(Code::Overloaded, "too many log in just now");
            return Err(refusal.retry_after_ms(RETRY_AFTER_MS));
        };
        let core = self.cores.clone().acquire_owned().await.map_err(|_| not_ready())?;
        let hashed = host::task::blocking(move || {
            let done = work();
            drop(core);
            done
        });
        hashed.await.map_err(|_| not_ready())
    }
}

fn not_ready() -> Refusal {
    Refusal::new(Code::NotReady, "the node is going down")
}

fn too_long() -> Refusal {
    Refusal::new(Code::BadRequest, format!("the password is longer than {PASSWORD_MAX_BYTES} bytes"))
}

/// Whether a password may be one. No rule but its length: rules make passwords worse (NIST SP 800-63B).
fn check(password: &str) -> Result<(), Refusal> {
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(too_long());
    }
    if password.chars().count() < PASSWORD_MIN_CHARS {
        let message = format!("the password is shorter than {PASSWORD_MIN_CHARS} characters");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    Ok(())
}

fn hasher() -> Result<Argon2<'static>, Refusal> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| defect(&error))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_now(password: &[u8]) -> Result<PasswordHash, Refusal> {
    let salt = host::random::bytes::<16>();
    let hashed = hasher()?.hash_password_with_salt(password, &salt).map_err(|error| defect(&error))?;
    PasswordHash::new(&hashed.to_string()).map_err(|error| defect(&error))
}

fn verify_now(password: &[u8], known: &PasswordHash) -> Result<bool, Refusal> {
    let known = argon2::PasswordHash::new(known.reveal()).map_err(|error| defect(&error))?;
    // The parameters are those that the hash was made with, and the comparison takes constant time.
    Ok(hasher()?.verify_password(password, &known).is_ok())
}

fn defect(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a password cannot be hashed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_itself_and_no_other() {
        let passwords = Passwords::new(2);
        let hash = passwords.hash("correct horse").await.expect("hashed");
        assert!(hash.reveal().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.reveal());
        assert_eq!(passwords.verify("correct horse", Some(hash.clone())).await, Ok(true));
        assert_eq!(passwords.verify("correct house", Some(hash.clone())).await, Ok(false));
        let again = passwords.hash("correct horse").await.expect("hashed");
        assert_ne!(hash, again, "each has its own salt");
    }

    #[tokio::test]
    async fn nobody_has_no_password_and_is_hashed_all_the_same() {
        let passwords = Passwords::new(2);
        assert_eq!(passwords.verify("nobody has this password", None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_password_has_a_length_and_no_other_rule() {
        let passwords = Passwords::new(2);
        let refused = |refused: Result<PasswordHash, Refusal>| refused.expect_err("refused").message;
        assert_eq!(refused(passwords.hash("short").await), "the password is shorter than 8 characters");
        let long = refused(passwords.hash(&"x".repeat(257)).await);
        assert_eq!(long, "the password is longer than 256 bytes");
        assert!(passwords.verify(&"x".repeat(257), None).await.is_err());
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_refused() {
        let passwords = Passwords::new(2);
        let all = passwords.waiting.clone().try_acquire_many_owned(WAITING_MAX as u32).expect("all");
        let refusal = passwords.hash("correct horse").await.expect_err("refused");
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::Overloaded, Some(RETRY_AFTER_MS)));
        drop(all);
        passwords.hash("correct horse").await.expect("there is room again");
    }
}
