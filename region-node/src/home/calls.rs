//! The calls that wait for an answer of a core.

use super::{
    core::{Handed, Ticket},
    homes::{RehomeReply, SubscribeReply},
};
use crate::{
    bus::BusSink,
    service::{Acked, NotHome, Subscribed, WriteError, WriteReply},
};
use host::RandomState;
use metrics::{Counter, Histogram};
use std::{collections::HashMap, time::Instant};
use types::AckPolicy;

#[derive(Debug)]
enum Call {
    Write { reply: WriteReply, begun: Instant },
    Subscribe { reply: SubscribeReply, sink: BusSink },
    Rehome { reply: RehomeReply },
}

/// See the module. The cores answer every ticket once, so nothing stays here.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: u64,
    open: HashMap<Ticket, Call, RandomState>,
    meters: Meters,
}

impl Calls {
    pub(super) fn write(&mut self, reply: WriteReply) -> Ticket {
        self.add(Call::Write { reply, begun: Instant::now() })
    }

    pub(super) fn subscribe(&mut self, reply: SubscribeReply, sink: BusSink) -> Ticket {
        self.add(Call::Subscribe { reply, sink })
    }

    pub(super) fn rehome(&mut self, reply: RehomeReply) -> Ticket {
        self.add(Call::Rehome { reply })
    }

    fn add(&mut self, call: Call) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.open.insert(ticket, call);
        ticket
    }

    pub(super) fn answer_write(&mut self, ticket: Ticket, result: Result<Acked, WriteError>) {
        match (self.open.remove(&ticket), result) {
            (Some(Call::Write { reply, begun }), result) => {
                self.meters.count(&result, begun);
                reply.give(result);
            }
            // The directory asks again when it hears nothing.
            (Some(Call::Rehome { reply }), Err(error)) => drop(reply.send(Err(error))),
            _ => {}
        }
    }

    pub(super) fn answer_rehoming(&mut self, ticket: Ticket, handed: Handed) {
        if let Some(Call::Rehome { reply }) = self.open.remove(&ticket) {
            let _ = reply.send(Ok(handed));
        }
    }

    /// Answers a subscription; the sink is to be served if somebody took the answer.
    pub(super) fn answer_subscribe(
        &mut self,
        ticket: Ticket,
        result: Result<Subscribed, NotHome>,
    ) -> Option<BusSink> {
        let Some(Call::Subscribe { reply, sink }) = self.open.remove(&ticket) else { return None };
        let subscribed = result.is_ok();
        // A subscriber that has gone is found out at the first event.
        let _ = reply.send(result);
        subscribed.then_some(sink)
    }
}

/// What is counted of each write, looked up once.
#[derive(Debug)]
struct Meters {
    home: Acks,
    replicated: Acks,
}

#[derive(Debug)]
struct Acks {
    total: Counter,
    seconds: Histogram,
}

impl Acks {
    fn of(ack: &'static str) -> Self {
        Self {
            total: metrics::counter!("hearth_home_appends_total", "outcome" => ack),
            seconds: metrics::histogram!("hearth_home_ack_seconds", "ack" => ack),
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self { home: Acks::of("home"), replicated: Acks::of("replicated") }
    }
}

impl Meters {
    fn count(&self, result: &Result<Acked, WriteError>, begun: Instant) {
        let outcome = match result {
            Ok(acked) => {
                let acks = match acked.ack {
                    AckPolicy::Home => &self.home,
                    AckPolicy::Replicated => &self.replicated,
                };
                acks.total.increment(1);
                acks.seconds.record(begun.elapsed().as_secs_f64());
                return;
            }
            Err(WriteError::NotHome(_)) => "not_home",
            Err(WriteError::Refused(refusal)) => refusal.code.as_str(),
            Err(WriteError::Moved { .. }) => "moved",
            Err(WriteError::Indeterminate { .. }) => "indeterminate",
        };
        metrics::counter!("hearth_home_appends_total", "outcome" => outcome).increment(1);
    }
}
