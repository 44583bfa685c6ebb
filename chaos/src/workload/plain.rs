//! A bare connection that writes each message once: what the server itself answers, with nobody to repeat it.

use super::{Place, Shared, body, sdk::opened};
use crate::history::{Ack, BodySum, Device, Kind, Message, Resends};
use client::bare::{BareError, Connection};
use proto::client::{
    AckPolicy, Error, Ping, Send, Sent, ServerFrame, client_frame::Frame, server_frame::Frame as Answer,
};
use std::{
    collections::HashMap,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::time::{Instant as Deadline, sleep, sleep_until, timeout};
use types::{Code, LogId};

/// How long a node may hold a write.
const DEADLINE_MS: u32 = 8_000;
/// How far a writer may be behind its pace.
const BEHIND_MAX: Duration = Duration::from_millis(100);
/// A connection on which a write has not been answered for so long is given up.
const SILENCE: Duration = Duration::from_secs(12);
/// A node that has not answered by then is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(5);

struct Plain {
    shared: Shared,
    place: Place,
    device: Device,
    logs: Vec<LogId>,
    sent: u64,
    waiting: HashMap<u64, (Message, LogId, Instant)>,
}

/// Runs until the workload stops.
pub(super) async fn run(shared: Shared, place: Place, every: Duration) {
    let device = shared.recorder.device(&place.user, place.device, &place.region);
    let logs = shared.chats.of(&place.user).map(|chat| chat.id).collect();
    let stop = shared.stop.clone();
    let mut plain = Plain { shared, place, device, logs, sent: 0, waiting: HashMap::new() };
    let mut edge = 0;
    while !stop.is_cancelled() {
        let url = plain.place.edges[edge % plain.place.edges.len()].clone();
        let connecting = Connection::open(&url, &plain.place.user, plain.place.device, vec![]);
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(mut connection)) => {
                // Whatever breaks it: the outcome of what was on its way is unknown.
                let _ = stop.run_until_cancelled(plain.write(&mut connection, every)).await;
                plain.give_up_waiting();
                edge += 1;
            }
            _ => {
                edge += 1;
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Plain {
    async fn write(&mut self, connection: &mut Connection, every: Duration) -> Result<(), BareError> {
        let mut next = Deadline::now();
        let mut pinged = Instant::now();
        loop {
            tokio::select! {
                frame = connection.next() => self.answered(frame?),
                () = sleep_until(next) => {
                    // What could not be sent in time is sent now, if it is not much.
                    next = (next + self.place.pause(every)).max(Deadline::now() - BEHIND_MAX);
                    if self.shared.writing.load(Ordering::Relaxed) {
                        let (request, frame) = self.draw();
                        connection.feed(request, frame).await?;
                    }
                    if pinged.elapsed() > PING_EVERY {
                        pinged = Instant::now();
                        connection.feed(0, Frame::Ping(Ping { nonce: 1 })).await?;
                    }
                    connection.flush().await?;
                }
            }
            if self.waiting.values().any(|(.., since)| since.elapsed() > SILENCE) {
                return Ok(());
            }
        }
    }

    fn draw(&mut self) -> (u64, Frame) {
        self.sent += 1;
        let id = self.logs[self.sent as usize % self.logs.len()];
        let message_id = self.place.message_id();
        let ciphertext = body(message_id, self.shared.load.body_bytes);
        let recorder = &self.shared.recorder;
        let message = recorder.message(recorder.log(id), self.device, message_id);
        let body = BodySum::of(&ciphertext);
        recorder.record(Kind::Invoke { message, body, after: None, resends: Resends::Never });
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        self.waiting.insert(self.sent, (message, id, Instant::now()));
        let ack = if self.shared.load.plain_home_acks { AckPolicy::Home } else { AckPolicy::Replicated };
        let send = Send {
            log: id.to_string(),
            message_id: message_id.to_string(),
            ciphertext,
            ack: ack.into(),
            deadline_ms: DEADLINE_MS,
            after_message_id: String::new(),
            ..Send::default()
        };
        (self.sent, Frame::Send(send))
    }

    fn answered(&mut self, frame: ServerFrame) {
        let Some((message, log, _)) = self.waiting.get(&frame.request_id).copied() else { return };
        match frame.frame {
            Some(Answer::Sent(sent)) => self.acked(message, log, &sent),
            Some(Answer::Error(error)) => self.refused(message, &error),
            _ => return,
        }
        self.waiting.remove(&frame.request_id);
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
    }

    fn acked(&self, message: Message, log: LogId, sent: &Sent) {
        let Some(at) = opened(&self.shared, log, &sent.position) else { return };
        let ack = if sent.ack() == AckPolicy::Replicated { Ack::Replicated } else { Ack::Home };
        let accepted_at_ms = sent.accepted_at_ms;
        let kind = Kind::Ok { message, at, ack, epoch: None, passed_us: None, accepted_at_ms };
        self.shared.recorder.record(kind);
    }

    fn refused(&self, message: Message, error: &Error) {
        let code: Option<Code> = error.code.parse().ok();
        let kind = match code {
            Some(code) if !error.indeterminate => Kind::Fail { message, code },
            code => Kind::Indeterminate { message, code },
        };
        self.shared.recorder.record(kind);
    }

    fn give_up_waiting(&mut self) {
        let mut waiting: Vec<_> = self.waiting.drain().collect();
        waiting.sort_by_key(|(request, _)| *request);
        for (_, (message, ..)) in waiting {
            self.shared.recorder.record(Kind::Indeterminate { message, code: None });
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
