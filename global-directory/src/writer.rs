//! The one writer: groups queued commands into one commit each, publishes it, then answers. A thread, or a
//! task where the store never waits for a disk.
//!
//! A command whose caller has gone is carried out all the same. When a commit fails its outcome is unknown
//! and the store is not trusted any further: everyone is told so, and the directory stops.

use crate::{
    bounds, clock,
    command::{self, Answer, Envelope, Failure, Outcome, Refusal},
    engine::SubmitError,
    kv::{Error as KvError, Kv},
    raft::registered,
    state::State,
};
use std::{sync::Arc, thread, time::Instant};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task,
};
use tokio_util::sync::CancellationToken;

/// Hands commands to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
}

struct Job {
    envelope: Envelope,
    reply: oneshot::Sender<Result<Answer, SubmitError>>,
}

impl Writer {
    /// Starts it. It ends when every handle is gone or the store fails, and then cancels `ended`.
    pub(crate) fn start(
        kv: Arc<dyn Kv>,
        state: Arc<State>,
        ended: CancellationToken,
    ) -> std::io::Result<(Self, Writing)> {
        let (queue, jobs) = mpsc::channel(bounds::QUEUE_MAX);
        let blocks = kv.blocks();
        let writing = async move {
            // Without its writer a directory is of no use, whatever ended it, a panic included.
            let _ended = ended.drop_guard();
            write_all(&*kv, &state, jobs).await
        };
        let writing = if blocks {
            let runtime = Handle::current();
            let thread = thread::Builder::new().name("directory-writer".into());
            Writing::Thread(thread.spawn(move || runtime.block_on(writing))?)
        } else {
            Writing::Task(tokio::spawn(writing))
        };
        Ok((Self { queue }, writing))
    }

    /// Has a command carried out; `Ok` means committed and published. Dropping the future does not take the
    /// command back.
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<Answer, SubmitError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Job { envelope, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Indeterminate("it has stopped".into()),
        })?;
        answer.await.unwrap_or_else(|_| Err(SubmitError::Indeterminate("it has stopped".into())))
    }
}

/// A writer at work.
#[derive(Debug)]
pub(crate) enum Writing {
    Thread(thread::JoinHandle<Result<(), KvError>>),
    Task(task::JoinHandle<Result<(), KvError>>),
}

impl Writing {
    /// How it ended; none if it has panicked.
    pub(crate) async fn ended(self) -> Option<Result<(), KvError>> {
        match self {
            Self::Thread(thread) => task::spawn_blocking(move || thread.join()).await.ok()?.ok(),
            Self::Task(task) => task.await.ok(),
        }
    }
}

async fn write_all(kv: &dyn Kv, state: &State, mut jobs: mpsc::Receiver<Job>) -> Result<(), KvError> {
    let mut group = Vec::with_capacity(bounds::GROUP_MAX);
    while jobs.recv_many(&mut group, bounds::GROUP_MAX).await > 0 {
        if let Err(error) = write_group(kv, state, &mut group) {
            // Nothing more is taken from the queue: those who wait in it see it close.
            tracing::error!(%error, "the directory's store failed: the directory stops");
            return Err(error);
        }
    }
    Ok(())
}

fn write_group(kv: &dyn Kv, state: &State, group: &mut Vec<Job>) -> Result<(), KvError> {
    let started = Instant::now();
    let mut outcomes: Vec<Result<Outcome, Refusal>> = Vec::with_capacity(group.len());
    let committed = kv.write(&mut |tx| {
        // An engine may run this again.
        outcomes.clear();
        for job in group.iter() {
            match command::execute(tx, &job.envelope) {
                Ok(outcome) => outcomes.push(Ok(outcome)),
                Err(Failure::Refused(refusal)) => outcomes.push(Err(refusal)),
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        Ok(())
    });
    if let Err(error) = committed {
        for job in group.drain(..) {
            let _gone = job.reply.send(Err(SubmitError::Indeterminate(error.to_string())));
        }
        return Err(error);
    }
    metrics::histogram!("hearth_directory_commit_seconds").record(started.elapsed().as_secs_f64());
    metrics::histogram!("hearth_directory_commit_commands").record(group.len() as f64);
    for (job, outcome) in group.drain(..).zip(outcomes) {
        let name = job.envelope.command.name();
        let kind = if outcome.is_ok() { "done" } else { "refused" };
        metrics::counter!("hearth_directory_commands_total", "command" => name, "outcome" => kind)
            .increment(1);
        let answer = outcome.map(|outcome| {
            publish(state, &job.envelope, outcome.answer, outcome.delta);
            outcome.answer
        });
        let _gone = job.reply.send(answer.map_err(SubmitError::Refused));
    }
    Ok(())
}

fn publish(state: &State, envelope: &Envelope, answer: Answer, delta: Option<types::PlacementDelta>) {
    let Some(delta) = delta else { return };
    let registered = registered(envelope, answer);
    state.publish(delta, registered.as_ref(), clock::boot_ms());
}
