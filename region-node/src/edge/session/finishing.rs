//! What has become of what a session had started.

use super::{super::errors::Problem, *};

impl Session {
    pub(super) fn finished(&mut self, finished: Finished, out: &mut Vec<Output>) {
        match finished {
            Finished::Authenticated { result } => self.authenticated(result, out),
            Finished::Appended { request_id, log, message_id, bytes, result } => {
                self.writes = self.writes.saturating_sub(1);
                self.write_bytes = self.write_bytes.saturating_sub(bytes);
                match result {
                    Ok(acked) => {
                        out.push(Output::Answer { request_id, frame: sent(log, message_id, &acked) })
                    }
                    Err(refusal) => {
                        about(request_id, refusal.into(), &log.to_string(), &message_id.to_string(), out);
                    }
                }
            }
            Finished::Opened { request_id, result } => {
                self.reads = self.reads.saturating_sub(1);
                match result {
                    Ok((log, position)) => {
                        let opened =
                            client::ChatOpened { log: log.to_string(), position: token(log, position) };
                        out.push(Output::Answer { request_id, frame: Frame::ChatOpened(opened) });
                    }
                    Err(refusal) => refuse(request_id, refusal, out),
                }
            }
            Finished::Read { request_id, log, result } => {
                self.reads = self.reads.saturating_sub(1);
                match result {
                    Ok(page) => out.push(Output::Answer { request_id, frame: history_page(log, &page) }),
                    Err(refusal) => {
                        about(request_id, Problem::of_read(log, refusal), &log.to_string(), "", out)
                    }
                }
            }
            Finished::Watched { request_id, known } => {
                self.reads = self.reads.saturating_sub(1);
                out.push(Output::Answer { request_id, frame: live::presence(&known) });
            }
            Finished::Receipts { request_id, log, result } => {
                self.reads = self.reads.saturating_sub(1);
                match result {
                    Ok(page) => out.push(Output::Answer {
                        request_id,
                        frame: Frame::ReceiptsPage(receipts_page(log, &page)),
                    }),
                    Err(refusal) => {
                        about(request_id, Problem::of_read(log, refusal), &log.to_string(), "", out);
                    }
                }
            }
            Finished::ToldOfChat { request_id, log, result } => {
                self.reads = self.reads.saturating_sub(1);
                match result {
                    Ok(frame) => out.push(Output::Answer { request_id, frame }),
                    Err(refusal) => about(request_id, refusal.into(), &log.to_string(), "", out),
                }
            }
            Finished::Located { request_id, log, follow, position, result } => {
                self.locates = self.locates.saturating_sub(1);
                if self.followed.get(&log) == Some(&follow) {
                    self.located(request_id, log, position, result, out);
                }
            }
        }
    }

    fn located(
        &mut self,
        id: u64,
        log: LogId,
        position: Position,
        result: Result<(PinSegment, LocateAnswer), ReadRefusal>,
        out: &mut Vec<Output>,
    ) {
        let name = log.to_string();
        let (pin, answer) = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                self.followed.remove(&log);
                let error = Problem::of_read(log, refusal).into_client();
                return resumed(id, &name, resumed::Answer::Error(error), out);
            }
        };
        let (from, answer_frame) = match answer.located {
            Located::Continue => (
                position,
                resumed::Answer::Continue(client::Continue {
                    head: token(log, answer.head),
                    replicated: token(log, answer.replicated),
                    head_offset: answer.head.offset.get(),
                    replicated_offset: answer.replicated.offset.get(),
                }),
            ),
            Located::Diverged { common } => (
                common,
                resumed::Answer::Diverged(client::Diverged {
                    log: name.clone(),
                    common: token(log, common),
                    common_offset: common.offset.get(),
                }),
            ),
            Located::Ahead => {
                self.followed.remove(&log);
                let error = Problem::of_read(log, ReadRefusal::Ahead).into_client();
                return resumed(id, &name, resumed::Answer::Error(error), out);
            }
        };
        if let Some(until) = answer.until.filter(|until| from.offset >= *until) {
            self.followed.remove(&log);
            let why = format!("the user is no member of chat {log} since offset {until}");
            let error = proto::client_error(&Refusal::new(Code::Forbidden, why));
            return resumed(id, &name, resumed::Answer::Error(error), out);
        }
        resumed(id, &name, answer_frame, out);
        let Some((user, _)) = &self.who else { return };
        out.push(Output::Join(Join {
            log,
            pin,
            user: user.clone(),
            position: from,
            checked: (answer.generation, answer.epoch),
            at_end: from.offset >= answer.head.offset,
        }));
    }
}
