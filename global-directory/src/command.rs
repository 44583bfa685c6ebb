//! The directory's commands: pure functions over an ordered-KV transaction.
//!
//! A command reads rows, checks, writes rows. It reads no clock, draws nothing at random and keeps nothing
//! between two calls, so every engine and every replica that runs the same commands in the same order holds
//! the same rows. A refused command writes nothing. Every one carries a request id; the answer of one that
//! was carried out is remembered, so that a retry after an unknown commit answers the same and does nothing.
//!
//! A partition's states, and the commands that lead from one to the next:
//!
//! ```text
//!            assign_homes            begin_move
//!   Vacant ───────────────▶ Homed(e) ──────────▶ Draining(e)
//!                            ▲ ▲  │                │    │ bump, register
//!                            │ └──┼────────────────┘    │
//!                            │    │  finish_move: the target, e + 1
//!                            │    │  abort_move: the same home, e + 1
//!                            │    │ bump, register      ▼
//!                            │    └──────────────▶ FailingOver(e): the home's boot is over; it joins `waiting`
//!                            └────────────────────────┘
//!                                promote, promote_unsafe: another (node, incarnation), e + 1
//! ```
//!
//! `clear_waiting` takes boots out of `waiting` that were waited out, in any state. There is no way back
//! from `FailingOver(e)` or `Draining(e)` to `Homed(e)`, so an epoch, once sealed, stays so.

mod bump;
mod deployment;
mod drain;
mod emergency;
mod end_home;
mod home;
mod isr;
mod key;
mod moving;
mod name;
mod pin;
mod promote;
mod register;
pub(crate) mod rehome;
mod replicas;
mod retire;
mod waiting;

pub use bump::BumpError;
pub use deployment::{Deployment, DeploymentError, found};
pub use drain::{FailbackWish, RegionError, RegionWish};
pub use emergency::{AloneWish, EmergencyError, FailOverWish, UnsafePromotion};
pub use home::FirstHome;
pub use isr::{IsrError, IsrProposal};
pub use key::{KeyError, NewKey};
pub use moving::{AbortedMove, MoveError, NewMove, SealedMove};
pub use name::{NameClaim, NameError, NameRow, NameState, NameTakeOver, NameWish};
pub use pin::{PinError, PinWish};
pub use promote::Promotion;
pub use register::{RegisterError, Registration};
pub use rehome::{AbortedRehome, Follow, FollowingWish, ImportedRehome, NewRehome, Rehome, RehomeError};
pub use replicas::{DroppedReplica, NewReplica};
pub use retire::{NodeRetirement, RetireError};

use crate::{
    kv::{Error as KvError, Overlay, Transaction},
    rows::{self, Rows},
};
use serde::{Deserialize, Serialize};
use types::{Home, Incarnation, MoveId, NodeId, PlacementDelta, RequestId};

/// One command, with what it may not find out by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Drawn by the one who asks; the same for every retry.
    pub request: RequestId,
    /// The wall clock of the one who submits it; for people to read, never for deciding.
    pub at_ms: u64,
    /// What to do.
    pub command: Command,
}

/// What an operator has done that changes no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorNote {
    /// In whose name.
    pub by: String,
    /// What was done.
    pub what: String,
}

/// What can be done to the placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A node has booted: it gets a new incarnation, and what its earlier one was home of fails over.
    Register(Registration),
    /// Takes the leases of these boots away for good, all or none.
    Bump(Vec<Home>),
    /// Names new homes for partitions that are failing over. Those whose row has moved on are passed over.
    Promote(Vec<Promotion>),
    /// These boots were waited out.
    ClearWaiting(Vec<Home>),
    /// Names the first homes of vacant partitions. Those whose row has moved on are passed over.
    AssignHomes(Vec<FirstHome>),
    /// Lets further nodes keep copies. Those whose row has moved on are passed over.
    AddReplicas(Vec<NewReplica>),
    /// Copies that are not needed any more. Those whose row has moved on are passed over.
    DropReplicas(Vec<DroppedReplica>),
    /// A node leaves the deployment, or stays after all.
    RetireNode(NodeRetirement),
    /// A region leaves the deployment with all its nodes.
    RetireRegion(RegionWish),
    /// A region joins the deployment.
    AddRegion(RegionWish),
    /// These nodes have nothing left. Those that have are passed over.
    FinishRetirement(Vec<NodeId>),
    /// A home changes the in-sync set of its partition.
    ProposeIsr(IsrProposal),
    /// Takes a partition out of its home's hands, on the way to another.
    BeginMove(NewMove),
    /// Names the target of a move home: it holds all that the former home wrote.
    FinishMove(SealedMove),
    /// Gives a move up: the former home goes on, in the next epoch.
    AbortMove(AbortedMove),
    /// Has the homes of a region moved away, and gives it no new ones.
    Drain(RegionWish),
    /// Lets a region have homes again.
    Undrain(RegionWish),
    /// Says whether partitions go back to the regions that they prefer.
    SetFailback(FailbackWish),
    /// Promotes a copy that is not in sync.
    PromoteUnsafe(UnsafePromotion),
    /// Lets one region do without another for a time.
    AllowAlone(AloneWish),
    /// Takes the leases of all nodes of a region away, by an operator's word.
    FailOver(FailOverWish),
    /// Claims names for a user.
    ClaimNames(NameClaim),
    /// A user's account has these names.
    HoldNames(NameWish),
    /// Claims of an account that can never begin go to another user.
    TakeOverNames(NameTakeOver),
    /// A user's account has these names no more, or never will.
    ReleaseNames(NameWish),
    /// A node signs access tokens with a new key.
    PublishKey(NewKey),
    /// Pins the logs that are not pinned yet.
    Pin(Vec<PinWish>),
    /// A log is to be homed in another region.
    BeginRehome(NewRehome),
    /// Pins a log to where it was imported.
    FinishRehome(ImportedRehome),
    /// Gives a re-homing up: the log stays where it is, in the next generation.
    AbortRehome(AbortedRehome),
    /// Says whether logs follow those who write them.
    SetFollowing(FollowingWish),
    /// Records something that an operator wants to find later.
    Note(String),
    /// Records what an operator has done, in its name.
    NoteBy(OperatorNote),
}

impl Command {
    /// Its name in metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::Bump(_) => "bump",
            Self::Promote(_) => "promote",
            Self::ClearWaiting(_) => "clear_waiting",
            Self::AssignHomes(_) => "assign_homes",
            Self::AddReplicas(_) => "add_replicas",
            Self::DropReplicas(_) => "drop_replicas",
            Self::RetireNode(_) => "retire_node",
            Self::RetireRegion(_) => "retire_region",
            Self::AddRegion(_) => "add_region",
            Self::FinishRetirement(_) => "finish_retirement",
            Self::ProposeIsr(_) => "propose_isr",
            Self::BeginMove(_) => "begin_move",
            Self::FinishMove(_) => "finish_move",
            Self::AbortMove(_) => "abort_move",
            Self::Drain(_) => "drain",
            Self::Undrain(_) => "undrain",
            Self::SetFailback(_) => "set_failback",
            Self::PromoteUnsafe(_) => "promote_unsafe",
            Self::AllowAlone(_) => "allow_alone",
            Self::FailOver(_) => "fail_over",
            Self::ClaimNames(_) => "claim_names",
            Self::HoldNames(_) => "hold_names",
            Self::TakeOverNames(_) => "take_over_names",
            Self::ReleaseNames(_) => "release_names",
            Self::PublishKey(_) => "publish_key",
            Self::Pin(_) => "pin",
            Self::BeginRehome(_) => "begin_rehome",
            Self::FinishRehome(_) => "finish_rehome",
            Self::AbortRehome(_) => "abort_rehome",
            Self::SetFollowing(_) => "set_following",
            Self::Note(_) => "note",
            Self::NoteBy(_) => "note_by",
        }
    }
}

/// What a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was carried out.
    Done,
    /// The boot that was registered.
    Registered(Incarnation),
    /// The version of the in-sync set after the proposal.
    IsrVersion(u64),
    /// Rows that were changed; the others had moved on.
    Applied(u64),
    /// The move that has begun.
    Moving(MoveId),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the asker is told.
    pub answer: Answer,
    /// How the placement changed, if it did.
    pub delta: Option<PlacementDelta>,
}

/// A command was not carried out, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A registration.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A bump.
    #[error(transparent)]
    Bump(#[from] BumpError),
    /// A proposal.
    #[error(transparent)]
    Isr(#[from] IsrError),
    /// A pin.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A planned move.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The re-homing of a log.
    #[error(transparent)]
    Rehome(#[from] RehomeError),
    /// What an operator wants of a region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// What an operator wants in an emergency.
    #[error(transparent)]
    Emergency(#[from] EmergencyError),
    /// A retirement, or a new region.
    #[error(transparent)]
    Retire(#[from] RetireError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a command did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The rows do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] KvError),
}

macro_rules! refused {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Refused(error.into())
            }
        })*
    };
}
refused!(
    RegisterError,
    BumpError,
    IsrError,
    PinError,
    MoveError,
    RegionError,
    EmergencyError,
    RehomeError,
    RetireError,
    NameError,
    KeyError
);

/// Runs one command.
///
/// # Errors
/// [`Failure`]; nothing was written then.
pub fn execute(tx: &mut dyn Transaction, envelope: &Envelope) -> Result<Outcome, Failure> {
    let mut overlay = Overlay::new(tx);
    let meta = rows::meta(&overlay)?.ok_or_else(|| KvError::Engine {
        what: "execute",
        why: "no deployment was founded in this store".into(),
    })?;
    let mut rows = Rows::new(&mut overlay, meta, envelope.at_ms);
    if let Some(answer) = rows.remembered(envelope.request)? {
        return Ok(Outcome { answer, delta: None });
    }
    let answer = dispatch(&mut rows, &envelope.command)?;
    rows.remember(envelope.request, answer)?;
    let delta = rows.finish()?;
    overlay.keep()?;
    Ok(Outcome { answer, delta })
}

fn dispatch(rows: &mut Rows<'_>, command: &Command) -> Result<Answer, Failure> {
    match command {
        Command::Register(registration) => register::register(rows, registration),
        Command::Bump(boots) => bump::bump(rows, boots),
        Command::Promote(promotions) => promote::promote(rows, promotions),
        Command::ClearWaiting(boots) => waiting::clear(rows, boots),
        Command::AssignHomes(homes) => home::assign(rows, homes),
        Command::AddReplicas(replicas) => replicas::add(rows, replicas),
        Command::DropReplicas(replicas) => replicas::drop_some(rows, replicas),
        Command::RetireNode(wanted) => retire::node(rows, wanted),
        Command::RetireRegion(wish) => retire::region(rows, wish),
        Command::AddRegion(wish) => retire::add_region(rows, wish),
        Command::FinishRetirement(nodes) => retire::finish(rows, nodes),
        Command::ProposeIsr(proposal) => isr::propose(rows, proposal),
        Command::BeginMove(new) => moving::begin(rows, new),
        Command::FinishMove(sealed) => moving::finish(rows, sealed),
        Command::AbortMove(aborted) => moving::abort(rows, aborted),
        Command::Drain(wish) => drain::drain(rows, wish),
        Command::Undrain(wish) => drain::undrain(rows, wish),
        Command::SetFailback(wish) => drain::set_failback(rows, wish),
        Command::PromoteUnsafe(promotion) => emergency::promote_unsafe(rows, promotion),
        Command::AllowAlone(wish) => emergency::allow_alone(rows, wish),
        Command::FailOver(wish) => emergency::fail_over(rows, wish),
        Command::ClaimNames(wanted) => name::claim(rows, wanted),
        Command::HoldNames(wish) => name::hold(rows, wish),
        Command::TakeOverNames(wanted) => name::take_over(rows, wanted),
        Command::ReleaseNames(wish) => name::release(rows, wish),
        Command::PublishKey(new) => key::publish(rows, new),
        Command::Pin(wishes) => pin::pin(rows, wishes),
        Command::BeginRehome(new) => rehome::begin(rows, new),
        Command::FinishRehome(imported) => rehome::finish(rows, imported),
        Command::AbortRehome(aborted) => rehome::abort(rows, aborted),
        Command::SetFollowing(wish) => rehome::set_following(rows, wish),
        Command::Note(what) => {
            rows.note(what.as_str())?;
            Ok(Answer::Done)
        }
        Command::NoteBy(OperatorNote { by, what }) => {
            rows.note_by(by, what.as_str())?;
            Ok(Answer::Done)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
