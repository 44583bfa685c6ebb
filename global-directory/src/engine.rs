//! What carries commands out: one process with one store, or a group of replicas. Everything else is the same
//! for both.

use crate::{
    bounds, clock,
    command::{Answer, Deployment, Envelope, Refusal},
    raft::{Group, ReplicaId, Voters},
    state::{RenewError, State},
    writer::Writer,
};
use std::{collections::BTreeSet, sync::Arc};
use types::{Home, RegionId};

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    /// One process: it is always the one to ask.
    One {
        /// Its writer.
        writer: Writer,
        /// Where renewals are stamped.
        state: Arc<State>,
    },
    /// A replica of a group.
    Group(Group),
}

/// A command did not get its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmitError {
    /// It was not carried out, and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many commands are waiting; it was not taken.
    #[error("{} commands are waiting for the directory's writer already", bounds::QUEUE_MAX)]
    Overloaded,
    /// The command is too long; it was not taken.
    #[error("the command is {0} bytes long: at most {max} are allowed", max = bounds::COMMAND_MAX_BYTES)]
    TooLarge(usize),
    /// Another replica has to be asked; it was not carried out.
    #[error("this replica of the directory does not lead the others{}", hint(*.0))]
    NotLeader(Option<ReplicaId>),
    /// Whether it was carried out is not known; repeating it with the same request id is safe.
    #[error("the directory did not answer in time, and the outcome is not known: {0}")]
    Indeterminate(String),
}

fn hint(leader: Option<ReplicaId>) -> String {
    leader.map_or_else(String::new, |leader| format!(": replica {leader} does"))
}

/// A renewal was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewFailure {
    /// Its boot is not the current one.
    #[error(transparent)]
    Refused(#[from] RenewError),
    /// Whether it was stamped is not known.
    #[error(transparent)]
    Unanswered(#[from] SubmitError),
}

impl Engine {
    /// Has a command carried out; `Ok` means committed and published. Dropping the future does not take the
    /// command back.
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<Answer, SubmitError> {
        match self {
            Self::One { writer, .. } => writer.submit(envelope).await,
            Self::Group(group) => group.submit(envelope).await,
        }
    }

    /// Renews a lease; `Ok` means that whoever may judge the holder later has stamped this attempt.
    pub(crate) async fn renew(&self, home: Home) -> Result<(), RenewFailure> {
        match self {
            Self::One { state, .. } => Ok(state.renew(&home, clock::boot_ms())?),
            Self::Group(group) => group.renew(home).await,
        }
    }

    /// Waits until the rows here hold everything that was acknowledged anywhere before this call.
    pub(crate) async fn read_barrier(&self) -> Result<(), SubmitError> {
        match self {
            Self::One { .. } => Ok(()),
            Self::Group(group) => group.read_barrier().await,
        }
    }

    /// Since when this process is the one that decides, as a number that is another one each time.
    pub(crate) fn leads(&self) -> Option<u64> {
        match self {
            Self::One { .. } => Some(0),
            Self::Group(group) => group.leads(),
        }
    }

    /// The failure domains that voters stand in; none where one process has no voters beside it.
    pub(crate) fn voter_regions(&self) -> BTreeSet<RegionId> {
        match self {
            Self::One { .. } => BTreeSet::new(),
            Self::Group(group) => group.voter_regions(),
        }
    }

    /// Makes the deployment where there is none yet. Called by the one that leads.
    pub(crate) async fn found(&self, deployment: &Deployment) -> Result<(), SubmitError> {
        match self {
            // The rows were read before anything else.
            Self::One { .. } => Ok(()),
            Self::Group(group) => group.found(deployment).await,
        }
    }

    /// The voters as they answer now; none where one process has no voters beside it.
    pub(crate) async fn voters(&self) -> Option<Voters> {
        match self {
            Self::One { .. } => None,
            Self::Group(group) => Some(group.voters().await),
        }
    }

    /// Whether what it tells watchers may be old, because it has lost the others.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.group().is_some_and(Group::is_cut_off)
    }

    /// The group, if there is one.
    pub(crate) const fn group(&self) -> Option<&Group> {
        match self {
            Self::One { .. } => None,
            Self::Group(group) => Some(group),
        }
    }
}
