//! A session that sends on time, whatever becomes of what it sent, and never sends anything twice.

use crate::session::message;
use client::bare::{BareError, Connection};
use proto::client::{client_frame::Frame, server_frame::Frame as Answer};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

/// What became of a load.
#[derive(Debug, Default)]
pub struct Report {
    /// The message ids of what was acked.
    pub ids: Vec<String>,
    /// What was refused, and why.
    pub failed: Vec<String>,
    /// What has no answer.
    pub unanswered: usize,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    stop: oneshot::Sender<()>,
    acked: Arc<AtomicUsize>,
    task: JoinHandle<Report>,
}

impl Load {
    /// Sends a message every so often, until it is stopped or the server says that it goes away.
    pub fn start(session: Connection, log: &str, every: Duration) -> Self {
        let (stop, stopped) = oneshot::channel();
        let acked = Arc::default();
        let task = tokio::spawn(run(session, log.to_owned(), every, stopped, Arc::clone(&acked)));
        Self { stop, acked, task }
    }

    /// How many were acked so far.
    pub fn acked(&self) -> usize {
        self.acked.load(Ordering::Relaxed)
    }

    /// Stops sending, and waits for the answers that are due.
    ///
    /// # Panics
    /// When the load has panicked.
    pub async fn stop(self) -> Report {
        // One that was sent away has stopped by itself.
        let _ = self.stop.send(());
        self.task.await.expect("the load does not panic")
    }
}

async fn run(
    mut session: Connection,
    log: String,
    every: Duration,
    mut stop: oneshot::Receiver<()>,
    acked: Arc<AtomicUsize>,
) -> Report {
    const LAST_ANSWERS: Duration = Duration::from_secs(20);
    let mut report = Report::default();
    let mut open: HashMap<u64, String> = HashMap::new();
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut request_id = 1_000;
    loop {
        tokio::select! {
            _ = &mut stop => break,
            _ = tick.tick() => {
                request_id += 1;
                let message = message(&log, &format!("load {request_id}"));
                open.insert(request_id, message.message_id.clone());
                let sent = async {
                    session.feed(request_id, Frame::Send(message)).await?;
                    session.flush().await
                };
                if sent.await.is_err() {
                    break;
                }
            }
            answer = session.next() => {
                if !take(answer, &mut open, &mut report) {
                    break;
                }
                acked.store(report.ids.len(), Ordering::Relaxed);
            }
        }
    }
    let last = async { while !open.is_empty() && take(session.next().await, &mut open, &mut report) {} };
    let _late = timeout(LAST_ANSWERS, last).await;
    report.unanswered = open.len();
    report
}

/// Takes one frame; `false` when nothing more is to be sent.
fn take(
    answer: Result<proto::client::ServerFrame, BareError>,
    open: &mut HashMap<u64, String>,
    report: &mut Report,
) -> bool {
    let Ok(frame) = answer else { return false };
    match frame.frame {
        Some(Answer::Sent(_)) => {
            if let Some(id) = open.remove(&frame.request_id) {
                report.ids.push(id);
            }
        }
        Some(Answer::Error(error)) if open.remove(&frame.request_id).is_some() => {
            report.failed.push(format!("{}: {}", error.code, error.message));
        }
        Some(Answer::GoAway(_)) => return false,
        _ => {}
    }
    true
}
