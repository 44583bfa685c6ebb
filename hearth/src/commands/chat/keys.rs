//! What comes from standard input: lines of a pipe, or the keys of a terminal.

use anyhow::Context as _;
use nix::sys::{
    signal::Signal,
    termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios},
};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Stdin};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Lines, or handfuls of keys, that wait.
const AHEAD: usize = 64;
/// Keys that are read at once.
const KEYS: usize = 1_024;

/// What was typed.
#[derive(Debug)]
pub(super) enum Input {
    Line(String),
    Keys(Vec<u8>),
}

/// Whether keys are handed over one by one: where people type into a terminal and see what comes in it.
pub(super) fn are_handed_over(json: bool) -> bool {
    !json && io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Reads standard input until it ends.
pub(super) fn read(by_key: bool) -> mpsc::Receiver<Input> {
    let (sender, inputs) = mpsc::channel(AHEAD);
    // A thread of its own: a read from a terminal cannot be cancelled, and must not hold up the end.
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        if by_key {
            let mut keys = [0; KEYS];
            while let Ok(count @ 1..) = stdin.read(&mut keys) {
                if sender.blocking_send(Input::Keys(keys[..count].to_vec())).is_err() {
                    return;
                }
            }
            return;
        }
        for line in stdin.lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(Input::Line(line)).is_err() {
                return;
            }
        }
    });
    inputs
}

/// While it lives, the terminal hands over each key at once, and shows none by itself.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal over. Ctrl-C and the like stay signals.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn take() -> anyhow::Result<Self> {
        let before =
            termios::tcgetattr(io::stdin()).context("cannot ask the terminal how it hands over keys")?;
        let terminal = Self { before };
        terminal.take_again()?;
        Ok(terminal)
    }

    /// Whoever had it meanwhile may have changed it.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn take_again(&self) -> anyhow::Result<()> {
        let mut by_key = self.before.clone();
        by_key.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        by_key.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        by_key.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        set(&io::stdin(), &by_key).context("cannot have the terminal hand over keys")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = set(&io::stdin(), &self.before);
    }
}

fn set(stdin: &Stdin, to: &Termios) -> nix::Result<()> {
    termios::tcsetattr(stdin, SetArg::TCSANOW, to)
}

/// Tells each time that this process goes on after it was stopped.
///
/// # Errors
/// Signals cannot be heard.
pub(super) fn goes_on() -> anyhow::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::from_raw(Signal::SIGCONT as i32)).context("cannot listen to signals")
}
