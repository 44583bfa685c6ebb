//! What an account adds up to, from the node that knows to the one that asks.

use super::{log_bytes, not_home_from, read_refused, refusal, unreadable};
use crate::service::{AccountAnswer, ReadRefusal};
use proto::{Malformed, node, node::peer_reply::Reply, node::peer_request::Request};
use std::sync::Arc;
use types::{Generation, LogId, PartitionId, account::Account};

/// Which account is asked for, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AccountAsked {
    pub(crate) partition: PartitionId,
    pub(crate) log: LogId,
    /// Any matched copy may answer.
    pub(crate) any_copy: bool,
    /// Without contacts, blocked users and chats.
    pub(crate) brief: bool,
}

pub(crate) fn account_request(asked: &AccountAsked) -> Request {
    let AccountAsked { partition, log, any_copy, brief } = *asked;
    Request::ReadAccount(node::ReadAccount {
        log: log_bytes(log),
        partition: partition.get(),
        any_copy,
        brief,
    })
}

pub(crate) fn account_asked(wire: &node::ReadAccount) -> Result<AccountAsked, Malformed> {
    Ok(AccountAsked {
        partition: PartitionId::new(wire.partition),
        log: proto::log_id("read_account.log", &wire.log)?,
        any_copy: wire.any_copy,
        brief: wire.brief,
    })
}

pub(crate) fn account_reply(answer: &Result<AccountAnswer, ReadRefusal>, brief: bool) -> Reply {
    match answer {
        Ok(AccountAnswer { account, closed }) => Reply::AccountRead(node::AccountRead {
            account: account.as_deref().map(|account| told(account, brief)),
            closed_generation: closed.get(),
        }),
        Err(error) => read_refused(error),
    }
}

fn told(account: &Account, brief: bool) -> proto::log::Account {
    if !brief {
        return account.into();
    }
    let open = account.open.as_ref().map(|open| {
        let mut open = open.clone();
        open.contacts.clear();
        open.blocked.clear();
        open.chats.clear();
        open.joined.clear();
        open
    });
    (&Account { standing: account.standing, open, ..Account::default() }).into()
}

pub(crate) fn account(reply: Reply) -> Result<AccountAnswer, ReadRefusal> {
    match reply {
        Reply::AccountRead(wire) => {
            let account = wire.account.map(Account::try_from).transpose().map_err(unreadable)?;
            let closed = Generation::new(wire.closed_generation);
            Ok(AccountAnswer { account: account.map(Arc::new), closed })
        }
        Reply::NotHome(wire) => Err(not_home_from(&wire).into()),
        Reply::Refused(wire) => Err(refusal(wire).into()),
        _ => Err(unreadable("it answers something else")),
    }
}
