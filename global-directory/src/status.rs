//! Which gRPC status each error becomes. The message is the error's own: it names the offending value.

use crate::{
    command::{
        EmergencyError, IsrError, KeyError, MoveError, NameError, PinError, Refusal, RegionError,
        RegisterError, RehomeError, RetireError,
    },
    engine::{RenewFailure, SubmitError},
    kv,
    raft::MembershipError,
};
use proto::Malformed;
use tonic::{Code, Status};

/// `INVALID_ARGUMENT`: a request that does not make sense, whoever is asked and whenever.
pub(crate) fn malformed(error: &Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

/// `FAILED_PRECONDITION`: final for this boot. Anything else: the attempt counts for nothing, and the next may.
pub(crate) fn renew(error: &RenewFailure) -> Status {
    match error {
        RenewFailure::Refused(refused) => Status::failed_precondition(refused.to_string()),
        RenewFailure::Unanswered(error) => submit(error),
    }
}

/// A change of the group.
pub(crate) fn membership(error: &MembershipError) -> Status {
    match error {
        MembershipError::Unanswered(error) => submit(error),
        MembershipError::UsedBefore { .. } | MembershipError::HasGroup(_) | MembershipError::Remove(_) => {
            Status::failed_precondition(error.to_string())
        }
        MembershipError::TooMany => Status::resource_exhausted(error.to_string()),
        MembershipError::Unreachable(_) => Status::failed_precondition(error.to_string()),
        MembershipError::Library(_) => Status::unavailable(error.to_string()),
    }
}

/// What became of a command.
pub(crate) fn submit(error: &SubmitError) -> Status {
    let code = match error {
        SubmitError::Refused(refusal) => refusal_code(refusal),
        SubmitError::Overloaded => Code::ResourceExhausted,
        SubmitError::TooLarge(_) => Code::InvalidArgument,
        // A retry with the same request id answers what became of it.
        SubmitError::NotLeader(_) | SubmitError::Indeterminate(_) => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// The rows cannot be read.
pub(crate) fn store(error: &kv::Error) -> Status {
    Status::internal(error.to_string())
}

fn refusal_code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Register(RegisterError::UnknownRegion { .. }) => Code::NotFound,
        Refusal::Register(RegisterError::OtherRegion { .. }) => Code::AlreadyExists,
        Refusal::Register(RegisterError::TooManyNodes { .. }) => Code::ResourceExhausted,
        Refusal::Register(RegisterError::Retired { .. } | RegisterError::RegionRetires { .. }) => {
            Code::FailedPrecondition
        }
        Refusal::Retire(RetireError::UnknownNode(_) | RetireError::UnknownRegion(_)) => Code::NotFound,
        Refusal::Retire(RetireError::TooManyRegions { .. }) => Code::ResourceExhausted,
        Refusal::Retire(_) => Code::FailedPrecondition,
        // Only the directory's own controller bumps.
        Refusal::Bump(_) => Code::Aborted,
        Refusal::Isr(error) if error.has_moved() => Code::Aborted,
        Refusal::Isr(IsrError::UnknownPartition(_)) => Code::NotFound,
        Refusal::Isr(_) => Code::InvalidArgument,
        Refusal::Name(NameError::Taken { .. }) => Code::AlreadyExists,
        Refusal::Name(NameError::NotClaimed { .. }) => Code::FailedPrecondition,
        Refusal::Key(KeyError::NotLive(_)) => Code::FailedPrecondition,
        Refusal::Key(KeyError::Used(..)) => Code::AlreadyExists,
        Refusal::Pin(PinError::UnknownRegion { .. }) => Code::NotFound,
        Refusal::Pin(PinError::NoPartition { .. }) => Code::FailedPrecondition,
        Refusal::Move(error) => move_code(error),
        Refusal::Emergency(EmergencyError::UnknownPartition(_) | EmergencyError::UnknownRegion(_)) => {
            Code::NotFound
        }
        Refusal::Emergency(_) => Code::FailedPrecondition,
        Refusal::Rehome(
            RehomeError::Unpinned(_) | RehomeError::UnknownRegion(_) | RehomeError::NotMoving(_),
        ) => Code::NotFound,
        Refusal::Rehome(RehomeError::TooMany(_)) => Code::ResourceExhausted,
        Refusal::Rehome(RehomeError::Over(..)) => Code::Aborted,
        Refusal::Rehome(_) => Code::FailedPrecondition,
        Refusal::Region(RegionError::Unknown { .. }) => Code::NotFound,
        Refusal::Region(RegionError::Last(_) | RegionError::Retires(_)) => Code::FailedPrecondition,
    }
}

/// Why a move was not begun, finished or given up.
pub(crate) fn moving(error: &MoveError) -> Status {
    Status::new(move_code(error), error.to_string())
}

const fn move_code(error: &MoveError) -> Code {
    match error {
        MoveError::UnknownPartition(_) => Code::NotFound,
        MoveError::Over { .. } => Code::Aborted,
        _ => Code::FailedPrecondition,
    }
}
