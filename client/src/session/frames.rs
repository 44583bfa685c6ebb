//! What the server says, each frame to the part that it is for.

use super::{
    Answer, Cx, Output, Page, SessionCore, Timer, calls::End, cx, link::Stage, local, requests::Request,
};
use crate::{Entry, HistoryError, LookError, OpenError, ReceiptsPage, Refused, look};
use proto::client::{self as wire, server_frame};
use std::{cmp::Reverse, fmt::Display};
use types::Code;

impl SessionCore {
    pub(super) fn frame(&mut self, now_ms: u64, frame: wire::ServerFrame, out: &mut Vec<Output>) {
        use server_frame::Frame;
        self.link.heard(now_ms);
        let request_id = frame.request_id;
        let request = self.requests.close(request_id);
        match frame.frame {
            Some(Frame::Welcome(welcome)) => self.welcomed(now_ms, welcome, out),
            Some(Frame::Error(error)) => self.refused(now_ms, request, error, out),
            Some(Frame::Sent(sent)) => match request {
                Some(Request::Send { log, message_id }) => {
                    self.on_log(now_ms, log, out, |log, cx| log.sent(&message_id, sent, cx));
                }
                _ => self.answered(request, out, || Answer::Changed(Ok(sent.into()))),
            },
            Some(Frame::ChatOpened(opened)) => self.opened(request, opened, out),
            Some(Frame::HistoryPage(page)) => self.page(now_ms, request, page, out),
            Some(Frame::Resumed(resumed)) => {
                if let Some(wire::resumed::Answer::Diverged(diverged)) = &resumed.answer {
                    self.marks_diverged(&resumed.log, diverged.common_offset);
                }
                self.on_named_log(now_ms, &resumed.log, out, |log, cx| {
                    log.resumed(request_id, resumed.answer, cx)
                });
                self.marks_soon(now_ms);
            }
            Some(Frame::Entries(entries)) => {
                self.on_named_log(now_ms, &entries.log, out, |log, cx| {
                    log.entries(entries.entries, cx);
                    Ok(())
                });
            }
            Some(Frame::Replicated(here)) => {
                self.on_named_log(now_ms, &here.log, out, |log, cx| {
                    log.replicated(here.position.into(), here.offset, cx);
                    Ok(())
                });
            }
            Some(Frame::Diverged(diverged)) => {
                let name = diverged.log.clone();
                self.marks_diverged(&name, diverged.common_offset);
                self.on_named_log(now_ms, &name, out, |log, cx| {
                    log.diverged(diverged, cx);
                    Ok(())
                });
            }
            Some(Frame::Behind(behind)) => {
                self.on_named_log(now_ms, &behind.log, out, |log, cx| {
                    log.behind(cx);
                    Ok(())
                });
            }
            Some(Frame::Removed(removed)) => {
                let message = format!("the user is no member since offset {}", removed.offset);
                let error = local(Code::Forbidden, message);
                self.on_named_log(now_ms, &removed.log, out, |log, cx| log.follow_refused(error, cx));
            }
            Some(Frame::GoAway(away)) => {
                let (after_ms, within_ms) = (away.reconnect_after_ms.into(), away.within_ms.into());
                self.link.send_away(now_ms, after_ms, within_ms, away.addresses);
                self.sent_away_for = away.reason;
            }
            Some(Frame::Receipts(told)) => self.receipts_told(told, out),
            Some(Frame::ReceiptsPage(page)) => {
                self.answered(request, out, || Answer::Receipts(receipts_page(page)));
            }
            Some(Frame::ChatInfo(info)) => self.answered(request, out, || Answer::Info(Ok(info.into()))),
            Some(Frame::MembersPage(page)) => self.answered(request, out, || {
                let page = page.try_into();
                Answer::Members(
                    page.map_err(|error: types::IdError| LookError::Refused(unreadable("members", &error))),
                )
            }),
            Some(Frame::InvitesPage(page)) => self.answered(request, out, || {
                Answer::Invites(
                    look::invites(page).map_err(|error| LookError::Refused(unreadable("invites", &error))),
                )
            }),
            Some(Frame::Presence(presence)) => Self::presence_told(presence, out),
            Some(Frame::TypingSeen(seen)) => self.typing_seen(&seen, out),
            Some(Frame::Pong(_)) | None => {}
        }
    }

    pub(super) fn refused(
        &mut self,
        now_ms: u64,
        request: Option<Request>,
        error: wire::Error,
        out: &mut Vec<Output>,
    ) {
        let error = Refused::from(error);
        match request {
            Some(Request::Send { log, message_id }) => {
                self.on_log(now_ms, log, out, |log, cx| log.send_refused(&message_id, error, cx));
            }
            Some(Request::Subscribe { log } | Request::FindEnd { log }) => {
                self.on_named_log(now_ms, &log.to_string(), out, |log, cx| log.follow_refused(error, cx));
            }
            Some(Request::Call { call }) => self.call_refused(now_ms, call, error, out),
            Some(Request::Hello) | None if matches!(self.link.stage, Stage::Handshake { .. }) => {
                let has_ended =
                    error.known() == Some(Code::TokenExpired) && self.config.credentials.is_some();
                if has_ended {
                    self.refused_token = Some(std::mem::take(&mut self.token));
                }
                match error.retryable || has_ended {
                    true => self.lost(now_ms, error.to_string(), true, out),
                    false => self.end(&error, out, now_ms),
                }
            }
            Some(Request::Hello) | None => {}
        }
    }

    pub(super) fn call_refused(&mut self, now_ms: u64, id: u64, error: Refused, out: &mut Vec<Output>) {
        if !error.retryable {
            if let Some(call) = self.calls.remove(id) {
                out.push(Output::Answer { call: id, answer: call.kind.failed(End::Refused(error)) });
            }
            return;
        }
        let mut cx = cx!(self, now_ms, out);
        if let Some(call) = self.calls.get_mut(id) {
            call.asked = false;
            call.retry_ms = now_ms + cx.wait_ms(call.attempts, error.retry_after_ms);
            call.attempts += 1;
            call.last = Some(error);
            cx.timers.push(Reverse((call.retry_ms, Timer::Calls)));
        }
    }

    pub(super) fn opened(
        &mut self,
        request: Option<Request>,
        opened: wire::ChatOpened,
        out: &mut Vec<Output>,
    ) {
        let Some(Request::Call { call }) = request else { return };
        if self.calls.remove(call).is_none() {
            return;
        }
        let answer = match opened.log.parse() {
            Ok(log) => Ok((log, opened.position.into())),
            Err(error) => Err(OpenError::Refused(local(Code::Internal, format!("chat opened: {error}")))),
        };
        out.push(Output::Answer { call, answer: Answer::Opened(answer) });
    }

    /// A call has its answer.
    fn answered(&mut self, request: Option<Request>, out: &mut Vec<Output>, answer: impl FnOnce() -> Answer) {
        if let Some(Request::Call { call }) = request
            && self.calls.remove(call).is_some()
        {
            out.push(Output::Answer { call, answer: answer() });
        }
    }

    pub(super) fn page(
        &mut self,
        now_ms: u64,
        request: Option<Request>,
        page: wire::HistoryPage,
        out: &mut Vec<Output>,
    ) {
        match request {
            Some(Request::FindEnd { log }) => {
                self.on_log(now_ms, log, out, |log, cx| log.end_found(page, cx));
            }
            Some(Request::Call { call }) if self.calls.remove(call).is_some() => {
                let entries = page.entries.into_iter().map(Entry::try_from).collect();
                let answer = match entries {
                    Ok(entries) => Ok(Page { entries, at_end: page.at_end }),
                    Err(error) => {
                        Err(HistoryError::Refused(local(Code::Internal, format!("history: {error}"))))
                    }
                };
                out.push(Output::Answer { call, answer: Answer::Page(answer) });
            }
            _ => {}
        }
    }
}

fn receipts_page(page: wire::ReceiptsPage) -> Result<ReceiptsPage, HistoryError> {
    let receipts: Result<_, types::IdError> = page.receipts.into_iter().map(TryInto::try_into).collect();
    match receipts {
        Ok(receipts) => Ok(ReceiptsPage { receipts, at_end: page.at_end }),
        Err(error) => Err(HistoryError::Refused(unreadable("receipts", &error))),
    }
}

/// The server's answer says something that no server of ours says.
fn unreadable(what: &str, error: &impl Display) -> Refused {
    local(Code::Internal, format!("{what}: {error}"))
}
