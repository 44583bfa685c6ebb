//! What the replicator counts. Few label values: regions and nodes, never partitions.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use types::{NodeId, RegionId};

/// How the partitions between one home region and one follower stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) partitions: u64,
    pub(crate) streaming: u64,
    pub(crate) lag_records: u64,
    pub(crate) lag_records_max: u64,
    pub(crate) under_way_bytes: usize,
}

pub(crate) fn describe() {
    describe_gauge!("hearth_replicator_partitions", "Partitions fetched from a home region");
    describe_gauge!("hearth_replicator_partitions_streaming", "Those of them that are matched and streaming");
    describe_gauge!(
        "hearth_replicator_lag_records",
        "Records a follower has yet to hold durably, all partitions"
    );
    describe_gauge!(
        "hearth_replicator_lag_records_max",
        "The same, of the partition that is furthest behind"
    );
    describe_gauge!("hearth_replicator_under_way_bytes", "Bytes received and not durable at the follower");
    describe_counter!("hearth_replicator_batches_total", "Batches handed to a follower");
    describe_counter!("hearth_replicator_records_total", "Records handed to a follower");
    describe_counter!("hearth_replicator_bytes_total", "Bytes of records handed to a follower, uncompressed");
    describe_counter!("hearth_replicator_reconnects_total", "Streams that broke or could not be opened");
    describe_counter!("hearth_replicator_diverged_total", "Times a follower's tail was found diverged");
    describe_counter!(
        "hearth_replicator_troubles_total",
        "Times a partition had to wait before asking again"
    );
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(crate) fn standing(home_region: &RegionId, follower: &NodeId, standing: Standing) {
    let labels =
        || [("home_region", home_region.as_str().to_owned()), ("follower", follower.as_str().to_owned())];
    gauge!("hearth_replicator_partitions", &labels()).set(standing.partitions as f64);
    gauge!("hearth_replicator_partitions_streaming", &labels()).set(standing.streaming as f64);
    gauge!("hearth_replicator_lag_records", &labels()).set(standing.lag_records as f64);
    gauge!("hearth_replicator_lag_records_max", &labels()).set(standing.lag_records_max as f64);
    gauge!("hearth_replicator_under_way_bytes", &labels()).set(standing.under_way_bytes as f64);
}

/// Counters of what goes from one home to one follower; made once per stream.
#[derive(Clone)]
pub(crate) struct Traffic {
    batches: metrics::Counter,
    records: metrics::Counter,
    bytes: metrics::Counter,
}

impl Traffic {
    pub(crate) fn new(home_region: &RegionId, follower: &NodeId) -> Self {
        let labels =
            [("home_region", home_region.as_str().to_owned()), ("follower", follower.as_str().to_owned())];
        Self {
            batches: counter!("hearth_replicator_batches_total", &labels),
            records: counter!("hearth_replicator_records_total", &labels),
            bytes: counter!("hearth_replicator_bytes_total", &labels),
        }
    }

    pub(crate) fn handed(&self, records: usize, bytes: usize) {
        self.batches.increment(1);
        self.records.increment(records as u64);
        self.bytes.increment(bytes as u64);
    }
}

pub(crate) fn reconnect(stream: &'static str, peer: &NodeId, follower: &NodeId) {
    let labels = [
        ("stream", stream.to_owned()),
        ("node", peer.as_str().to_owned()),
        ("follower", follower.as_str().to_owned()),
    ];
    counter!("hearth_replicator_reconnects_total", &labels).increment(1);
}

pub(crate) fn diverged(follower: &NodeId) {
    counter!("hearth_replicator_diverged_total", "follower" => follower.as_str().to_owned()).increment(1);
}

pub(crate) fn trouble(follower: &NodeId) {
    counter!("hearth_replicator_troubles_total", "follower" => follower.as_str().to_owned()).increment(1);
}
