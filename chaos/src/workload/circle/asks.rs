//! A client that asks for one thing at a time, until it is told the end of it.

use crate::{
    history::{Ack, BodySum, Device, Kind, Message, Resends},
    workload::{Place, Shared, sdk::opened},
};
use client::bare::{BareError, Connection};
use proto::client::{AckPolicy, Error, Sent, client_frame::Frame, server_frame::Frame as Answer};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::{sleep, timeout};
use types::{Code, LogId, MessageId};

/// A server that has not answered by then is passed over.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Asks {
    pub(super) shared: Shared,
    pub(super) place: Place,
    pub(super) device: Device,
    pub(super) circle: LogId,
    connection: Option<Connection>,
    edge: usize,
}

/// A write that is to be asked for.
pub(super) struct Wish {
    pub(super) message: Message,
    pub(super) body: BodySum,
    pub(super) resends: Resends,
    pub(super) frame: Frame,
}

impl Asks {
    pub(super) fn new(shared: Shared, place: Place, circle: LogId) -> Self {
        let device = shared.recorder.device(&place.user, place.device, &place.region);
        Self { shared, place, device, circle, connection: None, edge: 0 }
    }

    /// A new message, and its name in the history.
    pub(super) fn message(&mut self) -> (MessageId, Message) {
        let (id, recorder) = (self.place.message_id(), &self.shared.recorder);
        (id, recorder.message(recorder.log(self.circle), self.device, id))
    }

    /// Notes the write, and asks for it until it is acked or refused for good.
    ///
    /// # Errors
    /// Why it was refused.
    pub(super) async fn write(&mut self, wish: Wish) -> Result<Sent, Option<Code>> {
        let Wish { message, body, resends, frame } = wish;
        self.shared.recorder.record(Kind::Invoke { message, body, after: None, resends });
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        let mut was_asked = false;
        let ended = loop {
            match self.ask(frame.clone()).await {
                Ok(Answer::Sent(sent)) => {
                    self.acked(message, &sent);
                    break Ok(sent);
                }
                Err(BareError::Refused(error)) if !error.retryable && !error.indeterminate => {
                    break Err(self.refused(message, &error, was_asked));
                }
                Err(BareError::Refused(error)) => {
                    let asked = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
                    sleep(asked.max(AGAIN_AFTER)).await;
                    was_asked = true;
                }
                Ok(_) | Err(_) => {
                    self.go_elsewhere();
                    sleep(AGAIN_AFTER).await;
                    was_asked = true;
                }
            }
        };
        self.shared.pending.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    /// Asks once.
    pub(super) async fn ask(&mut self, frame: Frame) -> Result<Answer, BareError> {
        let asking = async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    let edge = &self.place.edges[self.edge % self.place.edges.len()];
                    let opened = Connection::open(edge, &self.place.user, self.place.device, vec![]).await?;
                    none.insert(opened)
                }
            };
            connection.ask(frame).await
        };
        let answer = timeout(ANSWER_TIMEOUT, asking).await.unwrap_or(Err(BareError::Closed));
        if !matches!(answer, Ok(_) | Err(BareError::Refused(_))) {
            self.go_elsewhere();
        }
        answer
    }

    fn go_elsewhere(&mut self) {
        self.connection = None;
        self.edge += 1;
    }

    fn acked(&self, message: Message, sent: &Sent) {
        let Some(at) = opened(&self.shared, self.circle, &sent.position) else { return };
        let ack = if sent.ack() == AckPolicy::Replicated { Ack::Replicated } else { Ack::Home };
        let accepted_at_ms = sent.accepted_at_ms;
        let kind = Kind::Ok { message, at, ack, epoch: None, passed_us: None, accepted_at_ms };
        self.shared.recorder.record(kind);
    }

    fn refused(&self, message: Message, error: &Error, was_asked: bool) -> Option<Code> {
        let code: Option<Code> = error.code.parse().ok();
        let kind = match code {
            // An earlier try may have been written, and undone: it can come back.
            Some(code) if !was_asked => Kind::Fail { message, code },
            code => Kind::Indeterminate { message, code },
        };
        self.shared.recorder.record(kind);
        code
    }
}
