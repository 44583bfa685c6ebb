//! region-node
