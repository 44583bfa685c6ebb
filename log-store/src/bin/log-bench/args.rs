//! What to measure.

use clap::Parser;
use std::path::PathBuf;

/// Measures the embedded log store.
#[derive(Debug, Clone, Parser)]
#[command(name = "log-bench", version)]
pub(crate) struct Args {
    /// A folder on the disk to measure; what is made in it is removed again.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// How many appends are under way at a time; each is measured on a new store.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1_024, 8_192])]
    pub(crate) in_flight: Vec<usize>,
    /// For how long appends are measured, each time.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// How many logs are written to, in turn.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) logs: u64,
    /// Over how many partitions they are spread.
    #[arg(long, default_value_t = 64)]
    pub(crate) partitions: u32,
    /// Random bytes in each message.
    #[arg(long, default_value_t = 400)]
    pub(crate) body_bytes: usize,
    /// Records in one append.
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Records in the store whose reopening and pages are measured; 0 leaves them out.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) records: u64,
    /// Pages to read, warm; of cold ones a tenth of it.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) pages: usize,
    /// How many readers read pages at the same time.
    #[arg(long, default_value_t = 1)]
    pub(crate) readers: usize,
    /// Entries in a page.
    #[arg(long, default_value_t = 50)]
    pub(crate) page_entries: usize,
    /// One JSON object per line in place of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the yardsticks of the machine out.
    #[arg(long)]
    pub(crate) skip_machine: bool,
    /// Fill a store with so many records and die without closing it.
    #[arg(long, hide = true)]
    pub(crate) fill_and_abort: Option<u64>,
}
