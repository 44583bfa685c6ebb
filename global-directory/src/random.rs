//! The random ids of a directory process. Only the drivers draw them.

use types::{RequestId, StoreId};

/// A fresh request id.
pub(crate) fn request_id() -> RequestId {
    RequestId::from(host::random::id())
}

/// A fresh name of a disk.
pub(crate) fn store_id() -> StoreId {
    StoreId::from_bytes(*host::random::id().as_bytes())
}
