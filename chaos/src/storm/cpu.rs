//! Whose processor time a storm takes: this process's, which is the crowd, the links and the others, and each service's.

use std::{collections::BTreeMap, fs, path::Path};

/// Ticks of the kernel's accounting in a second.
const TICKS_PER_S: f64 = 100.0;
/// Where the fields behind the name of a process in `/proc/PID/stat` have its parent, and its time in both modes.
const PARENT: usize = 1;
const TIMES: std::ops::RangeInclusive<usize> = 11..=12;

/// Seconds that each process has taken so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(BTreeMap<String, f64>);

impl Taken {
    /// Of this process and those that it has started; the time of one that is gone is not known.
    pub(super) fn now() -> Self {
        let own = std::process::id();
        let mut taken = BTreeMap::from([("crowd".to_owned(), times(own).map_or(0.0, |(_, s)| s))]);
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some((pid, (parent, seconds))) = pid.and_then(|pid: u32| Some((pid, times(pid)?))) else {
                continue;
            };
            if parent == own {
                taken.insert(name(pid), seconds);
            }
        }
        Self(taken)
    }

    /// What each has taken since.
    pub(super) fn since(&self, before: &Self) -> BTreeMap<String, f64> {
        let since = |(name, s): (&String, &f64)| (name.clone(), s - before.0.get(name).unwrap_or(&0.0));
        self.0.iter().map(since).collect()
    }
}

/// The parent, and the seconds taken.
fn times(pid: u32) -> Option<(u32, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat)
}

fn parse(stat: &str) -> Option<(u32, f64)> {
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks: u64 = fields.get(TIMES)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some((fields.get(PARENT)?.parse().ok()?, ticks as f64 / TICKS_PER_S))
}

/// A service is named by its configuration.
fn name(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let config = words.split('\0').find(|word| word.ends_with(".toml"));
    let stem = config.and_then(|path| Path::new(path).file_stem()?.to_str().map(str::to_owned));
    stem.unwrap_or_else(|| pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_behind_the_name() {
        let line = "42 (a) name) S 7 42 42 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 3 0 99";
        assert_eq!(parse(line), Some((7, 3.0)));
    }
}
