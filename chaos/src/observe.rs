//! What the deployment tells about itself while it is hurt: homes, moves, watermarks, and in the end every copy.

mod archives;
mod directory;
mod finals;
mod placement;
mod status;

pub use archives::{record_archives, unsettled};
pub use directory::{leader, snapshot};
pub use finals::{Copies, Copy};
pub use placement::watch_placement;
pub use status::{PartitionView, partition_views, watch_watermarks};

use std::time::Duration;

/// How long a process has to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
