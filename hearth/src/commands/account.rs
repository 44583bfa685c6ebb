//! `hearth register | login | logout`: accounts, and the file with a device's credentials.

use super::edges::EdgeArgs;
use anyhow::{Context as _, bail};
use client::account::{Accounts, CredentialsFile, LogIn, Registration, SignedIn};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use std::{
    io::{BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// Where the password comes from, where the environment does not say it.
const PASSWORD: &str = "HEARTH_PASSWORD";

/// The device that is meant.
#[derive(Debug, clap::Args)]
struct DeviceArgs {
    #[command(flatten)]
    edges: EdgeArgs,
    /// The file with the device's credentials. Who has it is you: keep it to yourself.
    #[arg(long, value_name = "FILE")]
    credentials: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `hearth register` is asked to do. The password is HEARTH_PASSWORD, or the first line of standard
/// input, which a terminal does not show.
#[derive(Debug, clap::Args)]
pub struct Register {
    #[command(flatten)]
    device: DeviceArgs,
    /// Your name: unique in the world, 3 to 32 of a-z, 0-9, . and _.
    #[arg(long)]
    username: String,
    /// How you want to be called [default: the username].
    #[arg(long)]
    display_name: Option<String>,
    /// Your phone number, with its +.
    #[arg(long)]
    phone: Option<String>,
    /// What you call this device.
    #[arg(long, default_value = "hearth")]
    device_name: String,
}

/// What `hearth login` is asked to do. The password is HEARTH_PASSWORD, or the first line of standard
/// input, which a terminal does not show.
#[derive(Debug, clap::Args)]
pub struct Login {
    #[command(flatten)]
    device: DeviceArgs,
    /// Your username, or your phone number.
    #[arg(long)]
    name: String,
    /// What you call this device.
    #[arg(long, default_value = "hearth")]
    device_name: String,
}

/// What `hearth logout` is asked to do.
#[derive(Debug, clap::Args)]
pub struct Logout {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Makes an account, and logs this device in.
///
/// # Errors
/// The server says no, or the credentials cannot be kept.
pub async fn register(args: Register) -> anyhow::Result<()> {
    let accounts = args.device.accounts().await?;
    let wish = Registration {
        request_id: Uuid::new_v4(),
        display_name: args.display_name.unwrap_or_else(|| args.username.clone()),
        username: args.username,
        password: password()?,
        device_name: args.device_name,
        phone: args.phone,
    };
    let signed_in = accounts.register(&wish).await?;
    args.device.keep(accounts, &signed_in)
}

/// Logs this device in.
///
/// # Errors
/// The server says no, or the credentials cannot be kept.
pub async fn log_in(args: Login) -> anyhow::Result<()> {
    let accounts = args.device.accounts().await?;
    let (request_id, password) = (Uuid::new_v4(), password()?);
    let wish = LogIn { request_id, name: args.name, password, device_name: args.device_name };
    let signed_in = accounts.log_in(&wish).await?;
    args.device.keep(accounts, &signed_in)
}

/// Logs this device out.
///
/// # Errors
/// The server says no, or there are no credentials.
pub async fn log_out(args: Logout) -> anyhow::Result<()> {
    let edges = &args.device.edges;
    let accounts = Accounts::new(edges.edges().await?, edges.roots()?);
    CredentialsFile::open(&args.device.credentials, accounts)?.log_out().await?;
    eprintln!("hearth: logged out");
    Ok(())
}

impl DeviceArgs {
    /// Whom to ask; asked only where there is room for what comes of it.
    async fn accounts(&self) -> anyhow::Result<Accounts> {
        refuse_existing(&self.credentials)?;
        Ok(Accounts::new(self.edges.edges().await?, self.edges.roots()?))
    }

    fn keep(&self, accounts: Accounts, signed_in: &SignedIn) -> anyhow::Result<()> {
        let file = CredentialsFile::create(&self.credentials, accounts, signed_in)?;
        if self.json {
            let device = file.device().get().to_string();
            println!(
                "{}",
                serde_json::json!({ "event": "signed_in", "user": file.user(), "device": device })
            );
        }
        eprintln!(
            "hearth: logged in as {}; the credentials are in {}",
            file.user(),
            self.credentials.display()
        );
        Ok(())
    }
}

fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.try_exists().with_context(|| format!("cannot look at {}", path.display()))? {
        bail!("{} is there already: log out first, or name another file", path.display());
    }
    Ok(())
}

fn password() -> anyhow::Result<String> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    let input = std::io::stdin();
    let unseen = if input.is_terminal() { Unseen::begin(&input)? } else { None };
    if unseen.is_some() {
        eprint!("hearth: your password (or set {PASSWORD}): ");
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line).context("cannot read the password");
    if unseen.is_some() {
        // Nor has the end of the line been seen.
        eprintln!();
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// While it lives, the terminal does not show what is typed. Ctrl-C ends the process and leaves it so; then `stty echo`
/// brings it back, as after any program that reads a password.
struct Unseen<'a> {
    input: &'a std::io::Stdin,
    before: Termios,
}

impl<'a> Unseen<'a> {
    fn begin(input: &'a std::io::Stdin) -> anyhow::Result<Option<Self>> {
        let before =
            termios::tcgetattr(input).context("cannot ask the terminal how it shows what is typed")?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(input, SetArg::TCSAFLUSH, &silent)
            .context("cannot keep the terminal from showing the password")?;
        Ok(Some(Self { input, before }))
    }
}

impl Drop for Unseen<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = termios::tcsetattr(self.input, SetArg::TCSANOW, &self.before);
    }
}
