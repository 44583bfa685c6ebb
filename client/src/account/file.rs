//! A device's credentials in a file that its processes share.
//!
//! A refresh token is shown once: shown again later, it is taken for stolen. So only one process at a time refreshes,
//! under a lock beside the file, and reads anew what another has got meanwhile.

use super::{AccountError, Accounts, SignedIn, Tokens};
use futures_util::future::BoxFuture;
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use types::{DeviceId, UserId};

/// A token that ends sooner is not shown any more.
const MARGIN_MS: u64 = 30_000;

/// Credentials in a file that its owner alone can read.
#[derive(Debug, Clone)]
pub struct CredentialsFile {
    path: PathBuf,
    accounts: Accounts,
    user: UserId,
    device: DeviceId,
}

impl CredentialsFile {
    /// Keeps what a device was given when it logged in.
    ///
    /// # Errors
    /// [`AccountError::Credentials`]: the file is there already, or cannot be written.
    pub fn create(path: &Path, accounts: Accounts, signed_in: &SignedIn) -> Result<Self, AccountError> {
        let device = signed_in.device()?;
        if path.exists() {
            return Err(wrong(path, "it is there already; log out first"));
        }
        save(path, signed_in).map_err(|error| wrong(path, error))?;
        Ok(Self { path: path.to_owned(), accounts, user: signed_in.user.clone(), device })
    }

    /// The credentials of an earlier run.
    ///
    /// # Errors
    /// [`AccountError::Credentials`]: there is no such file, or it cannot be read.
    pub fn open(path: &Path, accounts: Accounts) -> Result<Self, AccountError> {
        let signed_in = load(path)?;
        let device = signed_in.device()?;
        Ok(Self { path: path.to_owned(), accounts, user: signed_in.user, device })
    }

    /// Whose they are.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Of which device.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Logs the device out, and removes the file.
    ///
    /// # Errors
    /// [`AccountError`]: the file is still there.
    pub async fn log_out(self) -> Result<(), AccountError> {
        let token = self.get(None).await?;
        self.accounts.log_out(&token).await?;
        fs::remove_file(&self.path).map_err(|error| wrong(&self.path, error))?;
        // Nobody needs the lock of what is gone.
        let _ = fs::remove_file(lock_path(&self.path));
        Ok(())
    }

    async fn get(&self, refused: Option<String>) -> Result<String, AccountError> {
        let path = self.path.clone();
        let lock = tokio::task::spawn_blocking(move || {
            let lock = File::create(lock_path(&path))?;
            lock.lock()?;
            io::Result::Ok(lock)
        });
        let _lock = match lock.await {
            Ok(lock) => lock.map_err(|error| wrong(&self.path, error))?,
            Err(error) => return Err(wrong(&self.path, error)),
        };
        let kept = load(&self.path)?;
        let counts = kept.access_token_until_ms > host::clock::wall_ms() + MARGIN_MS;
        if counts && refused.as_ref() != Some(&kept.access_token) {
            return Ok(kept.access_token);
        }
        let refresh_token =
            kept.refresh_token.ok_or_else(|| wrong(&self.path, "it holds no refresh token"))?;
        let mut fresh = self.accounts.refresh(&refresh_token).await?;
        fresh.refresh_token.get_or_insert(refresh_token);
        save(&self.path, &fresh).map_err(|error| wrong(&self.path, error))?;
        Ok(fresh.access_token)
    }
}

impl Tokens for CredentialsFile {
    fn token(&self, refused: Option<String>) -> BoxFuture<'_, Result<String, AccountError>> {
        Box::pin(self.get(refused))
    }
}

fn wrong(path: &Path, what: impl ToString) -> AccountError {
    AccountError::Credentials { path: path.to_owned(), what: what.to_string() }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn load(path: &Path) -> Result<SignedIn, AccountError> {
    let text = fs::read(path).map_err(|error| wrong(path, error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(path, format!("it holds no credentials: {error}")))
}

/// Puts the file in place as a whole, on disk, for its owner alone.
fn save(path: &Path, signed_in: &SignedIn) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".hearth-credentials-").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(signed_in)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
