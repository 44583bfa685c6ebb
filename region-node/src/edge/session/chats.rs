//! What clients ask about chats beside messages: changes are writes, questions are reads.

use super::{Output, Session, about, refuse};
use crate::edge::{
    groups::page_limit,
    request::{self, changes},
};
use proto::client::client_frame::Frame;
use types::{Code, DeviceId, LogId, Refusal, UserId};

/// A question about a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskOfChat {
    /// Name, terms and size.
    Info,
    /// Who is in it.
    Members { after: Option<UserId>, limit: usize },
    /// By what others may come.
    Invites,
}

impl Session {
    pub(super) fn chat_request(
        &mut self,
        id: u64,
        who: (UserId, DeviceId),
        frame: Frame,
        out: &mut Vec<Output>,
    ) {
        let (subject, message) = match frame {
            Frame::ChangeMembers(wire) => {
                ((wire.log.clone(), wire.message_id.clone()), changes::members(&wire))
            }
            Frame::ChangeSettings(wire) => {
                ((wire.log.clone(), wire.message_id.clone()), changes::settings(wire))
            }
            Frame::MakeInvite(wire) => ((wire.log.clone(), wire.message_id.clone()), changes::invite(&wire)),
            Frame::RevokeInvite(wire) => {
                ((wire.log.clone(), wire.message_id.clone()), changes::revocation(&wire))
            }
            Frame::JoinChat(wire) => ((wire.log.clone(), wire.message_id.clone()), changes::joining(&wire)),
            Frame::DeleteMessages(wire) => {
                ((wire.log.clone(), wire.message_id.clone()), changes::deletion(&wire))
            }
            Frame::ReadChat(wire) => return self.ask(id, who.0, &wire.log, Ok(AskOfChat::Info), out),
            Frame::ReadInvites(wire) => return self.ask(id, who.0, &wire.log, Ok(AskOfChat::Invites), out),
            Frame::ReadMembers(wire) => {
                return self.ask(id, who.0, &wire.log, members(&wire.after, wire.limit), out);
            }
            _ => {
                let why = "the frame is of a kind that is not known here";
                return refuse(id, Refusal::new(Code::BadRequest, why), out);
            }
        };
        self.write(id, who, subject, message, out);
    }

    fn ask(
        &mut self,
        request_id: u64,
        user: UserId,
        name: &str,
        ask: Result<AskOfChat, Refusal>,
        out: &mut Vec<Output>,
    ) {
        let asked: Result<(LogId, AskOfChat), Refusal> = request::log(name).and_then(|log| Ok((log, ask?)));
        match asked {
            Ok((log, ask)) => {
                if self.may_read(request_id, out) {
                    out.push(Output::AskOfChat { request_id, user, log, ask });
                }
            }
            Err(refusal) => about(request_id, refusal.into(), name, "", out),
        }
    }
}

/// A page of members behind a name; empty: from the first.
pub(crate) fn members(after: &str, limit: u32) -> Result<AskOfChat, Refusal> {
    let after = if after.is_empty() { None } else { Some(request::user("after", after)?) };
    Ok(AskOfChat::Members { after, limit: page_limit(limit)? })
}
