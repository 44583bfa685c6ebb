//! The load: parties of one sender and its readers, carried by few threads.
//!
//! The cores ([`course`], [`ledger`], [`tally`]) are told what happened and when; [`driver`] moves bytes.

mod course;
mod crowd;
mod driver;
mod ledger;
mod message_ids;
mod party;
mod tally;

pub(super) use course::{Pace, Span};
pub(super) use crowd::Crowd;
pub(super) use driver::{HEADER_BYTES, Plan};
pub(super) use party::{Party, Shape, connect_all};
pub(super) use tally::{SLICE_US, Tally, latencies};

use std::thread;

/// Runs parties on `threads` threads: what all of them counted.
pub(super) fn run(plan: &Plan, parties: Vec<Party>, threads: usize) -> anyhow::Result<Tally> {
    let of = parties.len();
    let start = plan.now();
    let mut shares: Vec<(Vec<Party>, Vec<u64>)> = (0..threads.min(of)).map(|_| Default::default()).collect();
    for (number, party) in parties.into_iter().enumerate() {
        // Senders of an open loop are spread over an interval, so that all together send evenly.
        let phase = match plan.pace {
            Pace::Every(interval) => (interval * number as f64 / of as f64) as u64,
            Pace::Window(_) => 0,
        };
        let at = number % shares.len();
        shares[at].0.push(party);
        shares[at].1.push(start + phase);
    }
    thread::scope(|scope| {
        let drive = |(parties, firsts): (Vec<Party>, Vec<u64>)| move || driver::drive(plan, parties, &firsts);
        let running: Vec<_> = shares.into_iter().map(|share| scope.spawn(drive(share))).collect();
        let mut sum: Option<Tally> = None;
        for thread in running {
            let tally = thread.join().expect("a panic aborts")?;
            match &mut sum {
                Some(sum) => sum.add(tally),
                None => sum = Some(tally),
            }
        }
        Ok(sum.unwrap_or_else(|| Tally::new(0)))
    })
}
