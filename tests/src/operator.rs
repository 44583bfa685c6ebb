//! An operator at the command line: the binary, what it says, and how it ends.

use lab::Lab;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The exit code of a command that was understood and not carried out.
const REFUSED: i32 = 1;
/// The exit code of a command line that says nothing that can be done.
const MISUSED: i32 = 2;

/// Runs `hearth admin …` against one deployment.
#[derive(Debug, Clone)]
pub struct Operator {
    program: PathBuf,
    directory: String,
}

/// An entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// In whose name; empty for the directory itself.
    pub who: String,
    /// What was done.
    pub what: String,
    /// When, in ms since 1970.
    pub at_ms: u64,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Operator {
    /// An operator who knows every replica of the directory.
    pub fn new(program: impl AsRef<Path>, lab: &Lab) -> Self {
        Self::at(program, lab.directory_addresses().join(","))
    }

    /// An operator who knows these addresses of the directory.
    pub fn at(program: impl AsRef<Path>, directory: String) -> Self {
        Self { program: program.as_ref().to_owned(), directory }
    }

    async fn run(&self, args: &[&str]) -> Said {
        let mut command = Command::new(&self.program);
        command.arg("admin").args(args).args(["--directory", &self.directory]).kill_on_drop(true);
        let ended = command.output().await.expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) }
    }

    /// What a command says that is carried out.
    ///
    /// # Panics
    /// When it is not.
    pub async fn ok(&self, args: &[&str]) -> String {
        self.asks(args).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// What a command says, if it is carried out.
    ///
    /// # Errors
    /// It is not.
    pub async fn asks(&self, args: &[&str]) -> anyhow::Result<String> {
        let said = self.run(args).await;
        anyhow::ensure!(said.code == Some(0), "{args:?} says {}{}", said.out, said.err);
        Ok(said.out)
    }

    /// Likewise, in the name of ann.
    ///
    /// # Panics
    /// When it is not carried out.
    pub async fn ann(&self, args: &[&str]) -> String {
        self.ok(&[args, &["--by", "ann"]].concat()).await
    }

    /// What a command says that is refused.
    ///
    /// # Panics
    /// When it is carried out, or says nothing.
    pub async fn refused(&self, args: &[&str]) -> String {
        let said = self.run(args).await;
        assert_eq!(said.code, Some(REFUSED), "{args:?} says {}{}", said.out, said.err);
        assert!(said.err.starts_with("hearth: "), "{args:?} says {}", said.err);
        said.err
    }

    /// What a command line is told that cannot be meant.
    ///
    /// # Panics
    /// When it was taken.
    pub async fn misused(&self, args: &[&str]) -> String {
        let said = self.run(args).await;
        assert_eq!(said.code, Some(MISUSED), "{args:?} says {}{}", said.out, said.err);
        said.err
    }

    /// What a command says with `--json`.
    ///
    /// # Panics
    /// When it is no JSON.
    pub async fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["--json"]].concat()).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error} in {out}"))
    }

    /// The audit trail, the newest first.
    ///
    /// # Panics
    /// When it has another form.
    pub async fn audit(&self) -> Vec<Audited> {
        let trail = self.json(&["audit", "--limit", "500"]).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let events = trail.as_array().expect("events").iter();
        let event = |event: &Value| Audited {
            who: text(&event["who"]),
            what: text(&event["what"]),
            at_ms: event["at_ms"].as_u64().expect("a time"),
        };
        events.map(event).collect()
    }

    /// Sees that somebody did something that reads so, at a time that is known.
    ///
    /// # Panics
    /// When the audit trail does not say so.
    pub async fn sees(&self, who: &str, what: &str) {
        let trail = self.audit().await;
        let event = trail.iter().find(|event| event.who == who && event.what.contains(what));
        assert!(event.is_some_and(|event| event.at_ms > 0), "{who} did not {what:?}: {trail:#?}");
    }
}
