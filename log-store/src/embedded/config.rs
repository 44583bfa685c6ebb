//! The engine's bounds, all in one place.

/// How an embedded store is run. The defaults suit a node of two cores and a few GB of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The size that a segment is prepared with, in bytes. A group that does not fit into the rest of
    /// one goes into the next. Between 4 KiB and 1 GiB. Default 64 MiB.
    pub segment_bytes: u32,
    /// The most bytes that wait for the writer; beyond it an append is answered `Busy`. Default 64 MiB.
    pub queue_bytes: usize,
    /// The most bytes that go into one write and one sync. Default 4 MiB.
    pub group_bytes: usize,
    /// How many records the fold may lag behind before they are folded; also what a reopening store
    /// replays at most, about twice over. Default 262,144.
    pub fold_records: usize,
    /// How long a record may stay unfolded on an idle store, in ms. Default 5,000.
    pub fold_interval_ms: u64,
    /// How many logs' folded states are kept in memory. Default 65,536.
    pub state_cache_logs: usize,
    /// Of how many entries it is kept in memory where they stand, for reading them again, at 8 bytes
    /// each. Default 1,048,576.
    pub run_cache_locations: usize,
    /// The block cache of the fold, in bytes. Default 64 MiB.
    pub fold_cache_bytes: u64,
    /// How many segments are kept open for reading. Default 256.
    pub open_segments: usize,
    /// How many checkpoints of derived state each partition keeps for truncations. Default 4.
    pub checkpoints: usize,
    /// Bugs to plant.
    #[cfg(feature = "test-switches")]
    pub switches: Switches,
}

/// Bugs that a test plants, to see them caught.
#[cfg(feature = "test-switches")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// Ack a group before it is synced.
    pub ack_before_sync: bool,
    /// Serve the recovered tail before it is synced.
    pub serve_unsynced_tail: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            queue_bytes: 64 * 1024 * 1024,
            group_bytes: 4 * 1024 * 1024,
            fold_records: 262_144,
            fold_interval_ms: 5_000,
            state_cache_logs: 65_536,
            run_cache_locations: 1 << 20,
            fold_cache_bytes: 64 * 1024 * 1024,
            open_segments: 256,
            checkpoints: 4,
            #[cfg(feature = "test-switches")]
            switches: Switches::default(),
        }
    }
}

impl Config {
    /// Moves each value into its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.clamp(4 * 1024, 1024 * 1024 * 1024);
        self.queue_bytes = self.queue_bytes.max(1024 * 1024);
        self.group_bytes = self.group_bytes.clamp(4 * 1024, 64 * 1024 * 1024);
        self.fold_records = self.fold_records.max(1);
        self.fold_interval_ms = self.fold_interval_ms.max(1);
        self.state_cache_logs = self.state_cache_logs.max(16);
        self.run_cache_locations = self.run_cache_locations.max(1024);
        self.open_segments = self.open_segments.max(2);
        self.checkpoints = self.checkpoints.max(1);
        self
    }
}
