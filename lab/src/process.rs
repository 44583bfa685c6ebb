//! A child process: started, watched, signalled by pid, its output kept in a log file.
//!
//! ```text
//!            start                    pause
//!  Stopped ─────────▶ Running(pid) ─────────▶ Paused(pid)
//!     ▲                 │  ▲                     │ │
//!     └── exits, kill ──┘  └────── resume ───────┘ │
//!     └───────────────── kill ─────────────────────┘
//! ```
//!
//! One task owns the child, and only it sends signals: a pid is never signalled after the child was
//! reaped, so never someone else's.

use crate::spawner;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Orders that wait for a process; each caller waits for its own, so there are few.
const ORDERS_MAX: usize = 16;
/// How long a killed process has until the kernel reports its death.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells a child who its parent is, so that it can die with it (see [`crate::die_with_parent`]).
pub(crate) const PARENT_PID_ENV: &str = "HEARTH_PARENT_PID";

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// For people, and the name of the log file.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the lab's own environment.
    pub env: Vec<(String, String)>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
}

/// What a process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running {
        /// Its pid.
        pid: u32,
    },
    /// It is stopped by SIGSTOP: alive, and silent.
    Paused {
        /// Its pid.
        pid: u32,
    },
    /// It does not run.
    Stopped {
        /// How the last run ended, where there was one.
        status: Option<ExitStatus>,
        /// It was told to end.
        expected: bool,
    },
}

impl State {
    /// The pid, where there is a process.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid } | Self::Paused { pid } => Some(*pid),
            Self::Stopped { .. } => None,
        }
    }
}

/// How a process ended, for people.
pub(crate) fn status_text(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string())
}

/// An order that a process cannot obey.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It runs already.
    #[error("{name} is running, pid {pid}")]
    Running {
        /// The process.
        name: String,
        /// Its pid.
        pid: u32,
    },
    /// There is no process to signal.
    #[error("{0} is not running")]
    NotRunning(String),
    /// The binary or the log file cannot be opened.
    #[error("cannot start {name} ({program}): {source}")]
    Start {
        /// The process.
        name: String,
        /// The binary.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses the signal.
    #[error("cannot signal {name}: {source}")]
    Signal {
        /// The process.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// It did not end although it was killed.
    #[error("{0} has not ended in time")]
    Stuck(String),
}

enum Order {
    Start,
    Signal(Signal),
}

type Reply = oneshot::Sender<Result<(), ProcessError>>;

/// A process that can be started and stopped again and again. When it is dropped, the child is killed.
#[derive(Debug)]
pub struct Process {
    spec: Arc<Spec>,
    orders: mpsc::Sender<(Order, Reply)>,
    state: watch::Receiver<State>,
}

impl Process {
    /// Describes a process; it is not started yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(spec: Spec) -> Self {
        let spec = Arc::new(spec);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let (changes, state) = watch::channel(State::Stopped { status: None, expected: true });
        tokio::spawn(supervise(Arc::clone(&spec), inbox, changes));
        Self { spec, orders, state }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it is doing now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Follows what it is doing.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Starts it. It runs when this returns; whether it is ready is another question.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn start(&self) -> Result<(), ProcessError> {
        self.order(Order::Start).await
    }

    /// SIGKILL; returns when it is dead.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn kill(&self) -> Result<(), ProcessError> {
        self.order(Order::Signal(Signal::SIGKILL)).await?;
        self.wait_stopped(KILL_TIMEOUT).await
    }

    /// SIGSTOP: it stays alive, does nothing and answers nothing.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn pause(&self) -> Result<(), ProcessError> {
        self.order(Order::Signal(Signal::SIGSTOP)).await
    }

    /// SIGCONT: it goes on where it was.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn resume(&self) -> Result<(), ProcessError> {
        self.order(Order::Signal(Signal::SIGCONT)).await
    }

    /// SIGTERM, and SIGKILL if it has not ended within `patience`. A process that does not run is stopped.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn stop(&self, patience: Duration) -> Result<(), ProcessError> {
        // A paused process takes SIGTERM only once it goes on.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            match self.order(Order::Signal(signal)).await {
                Err(ProcessError::NotRunning(_)) => return Ok(()),
                other => other?,
            }
        }
        if self.wait_stopped(patience).await.is_ok() {
            return Ok(());
        }
        match self.kill().await {
            Err(ProcessError::NotRunning(_)) => Ok(()),
            other => other,
        }
    }

    async fn wait_stopped(&self, patience: Duration) -> Result<(), ProcessError> {
        let mut state = self.state.clone();
        let stopped = state.wait_for(|state| matches!(state, State::Stopped { .. }));
        let in_time = timeout(patience, stopped).await.is_ok();
        if in_time { Ok(()) } else { Err(ProcessError::Stuck(self.spec.name.clone())) }
    }

    async fn order(&self, order: Order) -> Result<(), ProcessError> {
        let (reply, answer) = oneshot::channel();
        let gone = || ProcessError::NotRunning(self.spec.name.clone());
        self.orders.send((order, reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn supervise(
    spec: Arc<Spec>,
    mut inbox: mpsc::Receiver<(Order, Reply)>,
    changes: watch::Sender<State>,
) {
    let mut child: Option<Child> = None;
    let mut expected = false;
    loop {
        tokio::select! {
            status = exit(&mut child) => {
                child = None;
                changes.send_replace(State::Stopped { status, expected });
            }
            order = inbox.recv() => {
                // Dropping the child kills it.
                let Some((order, reply)) = order else { return };
                let answer = match order {
                    Order::Start => start(&spec, &mut child, &changes).await.inspect(|()| expected = false),
                    Order::Signal(signal) => signal_child(&spec, child.as_ref(), signal, &changes).inspect(|()| {
                        expected |= matches!(signal, Signal::SIGKILL | Signal::SIGTERM);
                    }),
                };
                // Whoever gave the order may have stopped waiting.
                let _ = reply.send(answer);
            }
        }
    }
}

async fn exit(child: &mut Option<Child>) -> Option<ExitStatus> {
    match child {
        Some(child) => child.wait().await.ok(),
        None => std::future::pending().await,
    }
}

async fn start(
    spec: &Spec,
    child: &mut Option<Child>,
    changes: &watch::Sender<State>,
) -> Result<(), ProcessError> {
    if let Some(pid) = child.as_ref().and_then(Child::id) {
        return Err(ProcessError::Running { name: spec.name.clone(), pid });
    }
    let failed = |source| ProcessError::Start {
        name: spec.name.clone(),
        program: spec.program.display().to_string(),
        source,
    };
    let command = command(spec).map_err(failed)?;
    let started = spawner::spawn(command).await.map_err(failed)?;
    let pid = started.id().unwrap_or_default();
    *child = Some(started);
    changes.send_replace(State::Running { pid });
    Ok(())
}

fn command(spec: &Spec) -> io::Result<Command> {
    let log = OpenOptions::new().create(true).append(true).open(&spec.log)?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .env(PARENT_PID_ENV, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C at the terminal reaches only the lab, which then ends its children in order.
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

fn signal_child(
    spec: &Spec,
    child: Option<&Child>,
    signal: Signal,
    changes: &watch::Sender<State>,
) -> Result<(), ProcessError> {
    let Some(pid) = child.and_then(Child::id) else {
        return Err(ProcessError::NotRunning(spec.name.clone()));
    };
    let target = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    kill(target, signal)
        .map_err(|errno| ProcessError::Signal { name: spec.name.clone(), source: errno.into() })?;
    match signal {
        Signal::SIGSTOP => drop(changes.send_replace(State::Paused { pid })),
        Signal::SIGCONT => drop(changes.send_replace(State::Running { pid })),
        _ => {}
    }
    Ok(())
}
