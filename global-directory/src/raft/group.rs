//! Groups what waits into entries of the log: one entry, and so one sync at each replica, for all commands and
//! renewals that came while the ones before were on their way.

use super::types::{Outcomes, Proposal, Raft, Types};
use crate::{
    bounds,
    command::{Answer, Envelope},
    engine::{RenewFailure, SubmitError},
};
use openraft::{
    error::{ClientWriteError, ForwardToLeader},
    raft::ClientWriteResult,
};
use std::time::Duration;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use types::Home;

/// Something that is to be committed.
pub(super) enum Job {
    Command(Box<Envelope>, oneshot::Sender<Result<Answer, SubmitError>>),
    Renewal(Home, oneshot::Sender<Result<(), RenewFailure>>),
}

/// Hands jobs to the log. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<Job>,
}

/// Who waits for an entry.
#[derive(Default)]
struct Waiting {
    commands: Vec<oneshot::Sender<Result<Answer, SubmitError>>>,
    renewals: Vec<oneshot::Sender<Result<(), RenewFailure>>>,
}

impl Queue {
    /// Starts the task; it ends when every handle is gone.
    pub(super) fn start(raft: Raft) -> Self {
        let (jobs, queue) = mpsc::channel(bounds::QUEUE_MAX);
        tokio::spawn(propose_all(raft, queue));
        Self { jobs }
    }

    fn push(&self, job: Job) -> Result<(), SubmitError> {
        self.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Indeterminate("it has stopped".into()),
        })
    }

    pub(super) async fn submit(&self, envelope: Envelope) -> Result<Answer, SubmitError> {
        let bytes = encoded_len(&envelope);
        if bytes > bounds::COMMAND_MAX_BYTES {
            return Err(SubmitError::TooLarge(bytes));
        }
        let (reply, answer) = oneshot::channel();
        self.push(Job::Command(Box::new(envelope), reply))?;
        in_time(answer).await.unwrap_or_else(|why| Err(SubmitError::Indeterminate(why)))
    }

    pub(super) async fn renew(&self, home: Home) -> Result<(), RenewFailure> {
        let (reply, answer) = oneshot::channel();
        self.push(Job::Renewal(home, reply))?;
        in_time(answer).await.unwrap_or_else(|why| Err(SubmitError::Indeterminate(why).into()))
    }
}

/// A leader that has lost its majority answers nothing; whoever waits for it is told in time to ask another.
async fn in_time<T>(answer: oneshot::Receiver<T>) -> Result<T, String> {
    let patience = Duration::from_millis(bounds::COMMIT_TIMEOUT_MS);
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err("it has stopped".into()),
        Err(_) => {
            Err(format!("no majority of replicas has answered within {} ms", bounds::COMMIT_TIMEOUT_MS))
        }
    }
}

async fn propose_all(raft: Raft, mut queue: mpsc::Receiver<Job>) {
    let mut under_way = JoinSet::new();
    let mut waiting: Vec<Job> = Vec::with_capacity(bounds::GROUP_MAX);
    loop {
        if waiting.is_empty() {
            tokio::select! {
                Some(_) = under_way.join_next(), if !under_way.is_empty() => continue,
                taken = queue.recv_many(&mut waiting, bounds::GROUP_MAX),
                    if under_way.len() < bounds::GROUPS_UNDER_WAY =>
                {
                    if taken == 0 {
                        return;
                    }
                }
            }
        } else if under_way.len() >= bounds::GROUPS_UNDER_WAY {
            under_way.join_next().await;
            continue;
        }
        let (proposal, asked) = take_group(&mut waiting);
        metrics::histogram!("hearth_directory_commit_commands").record(proposal.commands.len() as f64);
        match raft.client_write_ff(proposal).await {
            Ok(written) => {
                under_way.spawn(async move {
                    match written.await {
                        Ok(result) => answer(asked, result),
                        Err(_) => fail(asked, &SubmitError::Indeterminate("it has stopped".into())),
                    }
                });
            }
            Err(fatal) => fail(asked, &SubmitError::Indeterminate(fatal.to_string())),
        }
    }
}

/// As it stands in an entry of the log.
fn encoded_len(envelope: &Envelope) -> usize {
    serde_json::to_vec(envelope).map_or(usize::MAX, |json| json.len())
}

/// Takes as many jobs as make one entry, and leaves the others.
fn take_group(waiting: &mut Vec<Job>) -> (Proposal, Waiting) {
    let (mut proposal, mut asked, mut bytes) = (Proposal::default(), Waiting::default(), 0);
    let mut taken = 0;
    for job in waiting.iter() {
        if let Job::Command(envelope, _) = job {
            bytes += encoded_len(envelope);
            if taken > 0 && bytes > bounds::GROUP_MAX_BYTES {
                break;
            }
        }
        taken += 1;
    }
    for job in waiting.drain(..taken) {
        match job {
            Job::Command(envelope, reply) => {
                proposal.commands.push(*envelope);
                asked.commands.push(reply);
            }
            Job::Renewal(home, reply) => {
                proposal.renewals.push(home);
                asked.renewals.push(reply);
            }
        }
    }
    (proposal, asked)
}

fn answer(asked: Waiting, result: ClientWriteResult<Types>) {
    match result {
        Ok(written) => {
            let Outcomes { commands, renewals } = written.data;
            for (reply, outcome) in asked.commands.into_iter().zip(commands) {
                let _gone = reply.send(outcome.map_err(SubmitError::Refused));
            }
            for (reply, outcome) in asked.renewals.into_iter().zip(renewals) {
                let _gone = reply.send(outcome.map_err(RenewFailure::Refused));
            }
        }
        Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. })) => {
            fail(asked, &SubmitError::NotLeader(leader_id));
        }
        Err(error @ ClientWriteError::ChangeMembershipError(_)) => {
            fail(asked, &SubmitError::Indeterminate(error.to_string()));
        }
    }
}

fn fail(asked: Waiting, error: &SubmitError) {
    for reply in asked.commands {
        let _gone = reply.send(Err(error.clone()));
    }
    for reply in asked.renewals {
        let _gone = reply.send(Err(error.clone().into()));
    }
}
