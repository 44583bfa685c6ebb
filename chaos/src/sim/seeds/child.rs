//! A seed in a process of its own.

use host::planted::Bug;
use std::{
    io,
    process::{Command, Stdio},
};

/// What came of a seed.
pub(super) struct Ended {
    pub(super) seed: u64,
    pub(super) is_clean: bool,
    /// All that it said, its verdict first.
    pub(super) said: String,
}

impl Ended {
    /// For how long its world went on, in ms; 0 where it did not say so.
    pub(super) fn lasted_ms(&self) -> u64 {
        let mut words = self.said.split_whitespace().skip_while(|word| *word != "trace").skip(2);
        words.next().and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// Runs a seed, with a bug or without one, and waits for its end.
pub(super) fn run(seed: u64, bug: Option<Bug>) -> io::Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--seed", &seed.to_string()]).stdin(Stdio::null());
    if let Some(bug) = bug {
        command.args(["--bug", bug.name()]);
    }
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(Ended { seed, is_clean: output.status.success(), said })
}

/// How somebody sees for himself.
pub(super) fn replay(seed: u64, bug: Option<Bug>) -> String {
    let bug = bug.map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    format!("cargo run --release -p chaos -- sim --seed {seed}{bug} --trace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_tells_how_long_its_world_went_on() {
        let ended = |said: &str| Ended { seed: 3, is_clean: true, said: said.to_owned() };
        assert_eq!(ended("seed 3 trace 0af3 34420 ms in turn\n34.4 s in 1.64 s").lasted_ms(), 34_420);
        assert_eq!(ended("seed 3: host 4 does not come to rest in step 17").lasted_ms(), 0);
    }
}
