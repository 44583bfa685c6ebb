//! The pump as its bench drives it: matched and streaming.

use crate::pump::{Fetched, Followed, Input, Outcome, Output, Pump, Reply, Route};
use bytes::Bytes;
use proto::node::{Batch, EpochRun};
use std::time::Instant;
use types::{Epoch, Lsn, NodeId, PartitionPosition};

const EPOCH: Epoch = Epoch::FIRST;
const CREDIT_BYTES: u32 = 4 * 1024 * 1024;

/// A pump between a home and a follower that both do what they should.
#[derive(Debug)]
pub struct Carried {
    pump: Pump,
    now: Instant,
    held: Lsn,
    out: Vec<Output>,
}

impl Carried {
    /// A pump whose follower holds nothing and has been matched.
    ///
    /// # Panics
    /// Never: the name is valid.
    pub fn streaming() -> Self {
        let mut carried =
            Self { pump: Pump::new(CREDIT_BYTES), now: Instant::now(), held: Lsn::ZERO, out: Vec::new() };
        let home = NodeId::new("home-1").expect("a valid name");
        carried.tell(Input::Route { route: Some(Route { home, epoch: EPOCH }), up: true });
        carried.tell(Input::FollowUp);
        carried.answer();
        carried
    }

    /// Takes one batch of such records from the home, and the follower's answer; how many words that made.
    pub fn carry(&mut self, records: &[Bytes]) -> usize {
        let first_lsn = self.held.plus(1).get();
        self.held = Lsn::new(self.held.get() + records.len() as u64);
        let batch = Batch {
            records: records.to_vec(),
            watermark: first_lsn,
            end: Some(PartitionPosition::new(EPOCH, self.held).into()),
            sent_at_ms: 0,
            first_lsn,
            epochs: vec![EpochRun { epoch: EPOCH.get(), records: records.len() as u32 }],
        };
        let handed = self.tell(Input::Fetch(Fetched { epoch: EPOCH, reply: Reply::Batch(batch) }));
        handed + self.answer()
    }

    fn answer(&mut self) -> usize {
        let last =
            PartitionPosition::new(if self.held == Lsn::ZERO { Epoch::ZERO } else { EPOCH }, self.held);
        self.tell(Input::Follow(Followed { fence: EPOCH, last, outcome: Outcome::Done }))
    }

    fn tell(&mut self, input: Input) -> usize {
        self.out.clear();
        self.pump.handle(self.now, input, &mut self.out);
        self.out.len()
    }
}
