//! Wall clocks that can be stepped, one for each process, by `libfaketime`.
//!
//! Only the wall clock is faked: leases run on `CLOCK_BOOTTIME`, timers on the monotonic clock, and both stay
//! as they are. A process of a deployment is this very binary; before it becomes a service it starts itself
//! anew with the library loaded and a file of its own that says how far its clock is off.

use anyhow::Context as _;
use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// The folder of the clocks' files.
const FOLDER_ENV: &str = "HEARTH_CHAOS_CLOCKS";
const LIBRARY_ENV: &str = "HEARTH_CHAOS_FAKETIME";
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];
const SERVICES: [&str; 3] = ["directory", "node", "replicator"];

/// The clocks of a deployment.
#[derive(Debug)]
pub(super) struct Clocks {
    folder: PathBuf,
    library: PathBuf,
}

impl Clocks {
    pub(super) fn lay_out(folder: PathBuf) -> anyhow::Result<Self> {
        let library = LIBRARIES.iter().map(PathBuf::from).find(|library| library.exists());
        let library = library.context("libfaketime is not installed (Debian package `faketime`)")?;
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, library })
    }

    pub(super) fn env(&self) -> [(String, String); 2] {
        [
            (FOLDER_ENV.to_owned(), self.folder.display().to_string()),
            (LIBRARY_ENV.to_owned(), self.library.display().to_string()),
        ]
    }

    /// Sets the clocks of all processes whose names have `part` in them off by so many seconds.
    pub(super) fn step(&self, part: &str, by_s: i64) -> anyhow::Result<()> {
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "clock") && stem.contains(part) {
                let next = path.with_extension("next");
                fs::write(&next, format!("{by_s:+}s\n"))?;
                fs::rename(&next, &path)?;
            }
        }
        Ok(())
    }
}

/// Becomes a service of a deployment, where the command line asks for that.
pub fn act_as_service() -> Option<ExitCode> {
    let args: Vec<OsString> = env::args_os().collect();
    let is_service = args.get(1).is_some_and(|name| SERVICES.iter().any(|service| name == service));
    if !is_service {
        return None;
    }
    if let (Some(folder), Some(library), None) =
        (env::var_os(FOLDER_ENV), env::var_os(LIBRARY_ENV), env::var_os("LD_PRELOAD"))
    {
        let error = start_anew(&args, Path::new(&folder), &library);
        eprintln!("chaos: cannot start anew with a clock of its own: {error:#}");
        return Some(ExitCode::FAILURE);
    }
    Some(hearth::main())
}

/// Does not come back where it works.
fn start_anew(args: &[OsString], folder: &Path, library: &OsString) -> anyhow::Error {
    let config = args.iter().skip_while(|arg| *arg != "--config").nth(1);
    let stem = config.and_then(|config| Path::new(config).file_stem()).unwrap_or_default();
    let clock = folder.join(stem).with_extension("clock");
    let prepared = clock.exists() || fs::write(&clock, "+0s\n").is_ok();
    if !prepared {
        return anyhow::anyhow!("the clock {} cannot be written", clock.display());
    }
    let error = Command::new(&args[0])
        .args(&args[1..])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_DONT_RESET", "1")
        .exec();
    error.into()
}
