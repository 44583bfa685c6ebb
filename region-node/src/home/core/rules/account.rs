//! The rules of account logs: whose change may follow.

use super::{PENDING_RETRY_MS, Verdict};
use crate::service::Write;
use log_store::{
    account::{self, Misfit},
    fold::LogState,
};
use types::{
    Code, LogId, Refusal,
    account::{Account, AccountChange},
};

/// Judges a change of an account. Only its own user's writes come here: nodes write in a user's name once they
/// know who it is.
pub(super) fn judge(
    write: &Write,
    change: &AccountChange,
    state: Option<&LogState>,
) -> Result<Verdict, Refusal> {
    let log = write.log;
    if LogId::account(&write.sender) != log {
        let message = format!("log {log} is not the account of {}", write.sender);
        return Err(Refusal::new(Code::Forbidden, message));
    }
    // A device's id is never used again, so that to revoke it once more undoes nothing; all else of a control
    // change that was never acked is for its user to repeat.
    if write.salvage.is_some() && !matches!(change, AccountChange::DevicesRevoked(_)) {
        let message = format!("a change of account {log} that was never acked is not put back");
        return Err(Refusal::new(Code::BadRequest, message));
    }
    let is_caused = matches!(change, AccountChange::Blocked(_) | AccountChange::Unblocked(_));
    if is_caused && state.is_some_and(|state| !state.has_room_to_cause()) {
        let message = format!("too much that account {log} said of others is not known in its chats yet");
        return Err(Refusal::new(Code::Overloaded, message).retry_after_ms(PENDING_RETRY_MS));
    }
    let none = Account::default();
    let account = state.and_then(|state| state.account.as_deref()).unwrap_or(&none);
    account::check(account, change).map(|()| Verdict::Append).map_err(|misfit| refusal(log, misfit))
}

fn refusal(log: LogId, misfit: Misfit) -> Refusal {
    let code = match misfit {
        Misfit::Begun => Code::AccountExists,
        Misfit::NotOpen => Code::UnknownAccount,
        Misfit::UnknownDevice(_) => Code::UnknownDevice,
        Misfit::DeviceExists(_) | Misfit::TokenMoved(_) | Misfit::NamesMoved => Code::Conflict,
        Misfit::TooMany { .. } => Code::TooLarge,
    };
    Refusal::new(code, format!("account log {log}: {misfit}"))
}
