//! C5: a message acked before another was sent precedes it in the same chat.
//!
//! Judged twice. As the devices saw it: the position of a message is above that of every message of the log
//! that was acked before it was sent, in the order of (generation, epoch, offset). And in the final state, for
//! every acked message that still stands where it was acked: one that was undone and came back (sent again, or
//! salvaged) stands behind what was written meanwhile.

use super::{
    Checker, Found, Violation,
    finals::{Finals, Held},
    writes::{Acked, Invoked, Writes},
};
use crate::history::{History, Log, Message};
use types::Position;

pub(super) fn check(history: &History) -> Vec<Violation> {
    let writes = Writes::of(history);
    let mut found = Found::new(Checker::C5);
    let mut by_log: Vec<Vec<(Message, Invoked, Acked)>> = vec![Vec::new(); history.names().logs().len()];
    for (message, write) in writes.iter() {
        if let (Some(invoked), Some(first)) = (write.invoked, write.first) {
            by_log[history.names().message(message).log.index()].push((message, invoked, first));
        }
    }
    for (number, acked) in by_log.iter_mut().enumerate() {
        as_acked(Log(number as u32), acked, &mut found);
    }
    for ((log, _), copy) in &Finals::of(history).copies {
        as_held(*log, copy, &writes, &mut found);
    }
    found.done()
}

/// In the order of invocation, the highest position acked so far is below each new one.
fn as_acked(log: Log, acked: &mut [(Message, Invoked, Acked)], found: &mut Found) {
    acked.sort_by_key(|(_, invoked, _)| invoked.at_us);
    let mut by_ack: Vec<usize> = (0..acked.len()).collect();
    by_ack.sort_by_key(|at| acked[*at].2.at_us);
    let mut heard = by_ack.into_iter().peekable();
    let mut highest: Option<(Position, Message, usize)> = None;
    for (message, invoked, first) in acked.iter() {
        while let Some(earlier) = heard.next_if(|at| acked[*at].2.at_us < invoked.at_us) {
            let (earlier, _, ack) = &acked[earlier];
            if highest.is_none_or(|(at, ..)| ack.at > at) {
                highest = Some((ack.at, *earlier, ack.event));
            }
        }
        if let Some((above, earlier, ack)) = highest
            && first.at <= above
        {
            let at = first.at;
            found.add([ack, invoked.event, first.event], || {
                format!("{message} of {log} stands at {at}, sent after {earlier} was acked at {above}")
            });
        }
    }
}

/// From the end of the copy to its start, nobody stands before an unmoved message that was acked before it
/// was sent.
fn as_held(log: Log, copy: &[Held], writes: &Writes, found: &mut Found) {
    let mut earliest: Option<(u64, &Held, usize)> = None;
    for held in copy.iter().rev() {
        let write = writes.get(held.message);
        if let (Some(invoked), Some((acked_us, behind, ack))) = (write.invoked, earliest)
            && acked_us < invoked.at_us
        {
            found.add([ack, invoked.event, held.event, behind.event], || {
                let (message, at) = (held.message, held.at);
                let (other, other_at) = (behind.message, behind.at);
                format!("{message} of {log} at {at} was sent after {other} at {other_at} was acked")
            });
        }
        if let Some(first) = write.first
            && first.at == held.at
            && earliest.is_none_or(|(acked_us, ..)| first.at_us < acked_us)
        {
            earliest = Some((first.at_us, held, first.event));
        }
    }
}
