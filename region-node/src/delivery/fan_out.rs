//! A feed and its sessions without anything around them: what benches drive.

use super::feed::{Feed, Input, Output, SessionId};
use crate::{bus::Published, peer::Channel, router::Route, service::Subscribed};
use std::sync::Arc;
use types::{Epoch, Generation, NodeId, Offset, PartitionId, PinSegment, Position, Record};

/// A feed whose sessions stand at the beginning of a log in its first epoch.
#[derive(Debug)]
pub struct FanOut {
    feed: Feed,
    out: Vec<Output>,
}

impl FanOut {
    /// A feed with so many sessions.
    pub fn new(sessions: u64) -> Self {
        let node = NodeId::new("eu-west-1").expect("a valid name");
        let route = Arc::new(Route { node, channel: Channel(1), epoch: Epoch::FIRST });
        let position = Position::START;
        let (epoch, generation) = (Epoch::FIRST, Generation::FIRST);
        let answer = Subscribed { head: position, replicated: position, epoch, generation };
        let (partition, first_offset) = (PartitionId::new(0), Offset::FIRST);
        let pin = PinSegment { generation, partition, first_offset };
        let mut fan_out = Self { feed: Feed::new(pin), out: Vec::new() };
        fan_out.say(Input::Route(Some(Arc::clone(&route))));
        fan_out.say(Input::Subscribed(route, Some(answer)));
        for session in 0..sessions {
            fan_out.say(Input::Join {
                session: SessionId(session),
                position,
                checked: (generation, epoch),
                at_end: true,
            });
        }
        fan_out
    }

    /// Publishes the next records of the log together; how many deliveries that makes.
    pub fn publish(&mut self, records: &[Record]) -> usize {
        let previous_era = |record: &Record| match record.entry() {
            Some(entry) if entry.offset != Offset::FIRST => (Generation::FIRST, Epoch::FIRST),
            _ => Position::START.era(),
        };
        let published = |record: &Record| {
            Arc::new(Published { record: record.clone(), previous_era: previous_era(record) })
        };
        self.say(Input::Published(records.iter().map(published).collect()));
        let deliveries = self.out.drain(..).map(|output| match output {
            Output::Deliver { entries, to, .. } => entries.len() * to.len(),
            _ => 0,
        });
        deliveries.sum()
    }

    fn say(&mut self, input: Input) {
        self.feed.handle(0, input, &mut self.out);
    }
}
