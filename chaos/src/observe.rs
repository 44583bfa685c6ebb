//! What the deployment tells about itself while it is hurt: homes, watermarks, and in the end every copy.

mod archives;
mod finals;
mod placement;
mod status;

pub use archives::{record_archives, unsettled};
pub use finals::{Copies, Copy};
pub use placement::watch_placement;
pub use status::{PartitionView, partition_views, watch_watermarks};

use lab::{Lab, placement::PlacementError};
use std::time::Duration;
use types::PlacementDelta;

/// How long a process has to answer one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The whole placement, as the directory has it now.
///
/// # Errors
/// It does not answer.
pub async fn snapshot(lab: &Lab) -> Result<PlacementDelta, PlacementError> {
    lab::placement::snapshot(&lab.directory_address(), ANSWER_TIMEOUT).await
}
