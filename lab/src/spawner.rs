//! The one thread that starts every child.
//!
//! Linux ties a child's parent-death signal to the *thread* that started it. A runtime's threads may end
//! while the process lives on, and would take the children with them; this one lives as long as the process.

use std::{
    io,
    sync::{OnceLock, mpsc},
    thread,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

/// Children that wait to be started.
const QUEUE_MAX: usize = 64;

struct Job {
    command: Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Child>>,
}

/// Starts a child, which is driven by the caller's runtime.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (reply, started) = oneshot::channel();
    let job = Job { command, runtime: Handle::current(), reply };
    jobs()?.try_send(job).map_err(|error| io::Error::other(error.to_string()))?;
    started.await.map_err(|_| gone())?
}

fn jobs() -> io::Result<&'static mpsc::SyncSender<Job>> {
    static JOBS: OnceLock<io::Result<mpsc::SyncSender<Job>>> = OnceLock::new();
    let started = JOBS.get_or_init(|| {
        let (jobs, queue) = mpsc::sync_channel(QUEUE_MAX);
        thread::Builder::new().name("lab-spawner".to_owned()).spawn(move || serve(&queue))?;
        Ok(jobs)
    });
    started.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

fn serve(queue: &mpsc::Receiver<Job>) {
    while let Ok(Job { mut command, runtime, reply }) = queue.recv() {
        let _entered = runtime.enter();
        // Whoever asked may be gone; the child is then killed as it is dropped.
        let _ = reply.send(command.spawn());
    }
}
