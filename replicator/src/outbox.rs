//! What a feeder has to say on its streams. Bounds: per partition one report; for the follower the batches
//! under way, which the credit bounds, and a few questions.

use crate::pump::Fetch;
use proto::{node, outbox::Queue};
use std::collections::{BTreeMap, VecDeque};
use types::PartitionId;

/// Said to a follower, in order.
#[derive(Debug, Default)]
pub(crate) struct Sayings(VecDeque<node::FollowRequest>);

impl Sayings {
    pub(crate) fn push(&mut self, request: node::FollowRequest) {
        self.0.push_back(request);
    }
}

impl Queue for Sayings {
    type Item = node::FollowRequest;
    fn pop(&mut self) -> Option<node::FollowRequest> {
        self.0.pop_front()
    }
}

/// Fetches to a home: the newest of each partition, in the order in which the partitions asked.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    hello: Option<node::FetchHello>,
    order: VecDeque<PartitionId>,
    unsent: BTreeMap<PartitionId, Fetch>,
}

impl Reports {
    pub(crate) fn new(hello: node::FetchHello) -> Self {
        Self { hello: Some(hello), ..Self::default() }
    }

    pub(crate) fn push(&mut self, partition: PartitionId, fetch: Fetch) {
        if let Some(unsent) = self.unsent.get_mut(&partition) {
            *unsent = fetch.replaces(*unsent);
        } else {
            self.unsent.insert(partition, fetch);
            self.order.push_back(partition);
        }
    }
}

impl Queue for Reports {
    type Item = node::FetchRequest;
    fn pop(&mut self) -> Option<node::FetchRequest> {
        use node::fetch_request::Request;
        if let Some(hello) = self.hello.take() {
            return Some(node::FetchRequest { request: Some(Request::Hello(hello)) });
        }
        let partition = self.order.pop_front()?;
        let fetch = self.unsent.remove(&partition)?;
        let fetch = node::Fetch {
            partition: partition.get(),
            epoch: fetch.epoch.get(),
            last: Some(fetch.last.into()),
            credit_bytes: fetch.credit_bytes,
            restart: fetch.restart,
        };
        Some(node::FetchRequest { request: Some(Request::Fetch(fetch)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, Lsn, PartitionPosition};

    fn fetch(lsn: u64, restart: bool) -> Fetch {
        let last = PartitionPosition::new(Epoch::FIRST, Lsn::new(lsn));
        Fetch { epoch: Epoch::FIRST, last, credit_bytes: 1, restart }
    }

    #[test]
    fn an_unsent_report_is_replaced_and_a_restart_is_kept() {
        let mut reports = Reports::default();
        reports.push(PartitionId::new(1), fetch(1, true));
        reports.push(PartitionId::new(2), fetch(7, false));
        reports.push(PartitionId::new(1), fetch(5, false));
        let said: Vec<_> = std::iter::from_fn(|| reports.pop())
            .map(|request| match request.request {
                Some(node::fetch_request::Request::Fetch(fetch)) => {
                    (fetch.partition, fetch.last.map_or(0, |last| last.lsn), fetch.restart)
                }
                other => panic!("not a fetch: {other:?}"),
            })
            .collect();
        assert_eq!(said, [(1, 5, true), (2, 7, false)]);
    }
}
