//! Circles: groups whose members change while they are written to.
//!
//! In each region there is a keeper, who owns a circle of guests from all regions, and for each circle a guest.
//!
//! | who | does |
//! |---|---|
//! | keeper | writes messages and deletes them, removes guests and adds them, one thing after the other |
//! | guest | follows the circle; leaves it at times; while it is out, tries to read on, pages through what there is, and joins again by an invite at times |
//!
//! All of them ask through a bare connection, the same until it has an end: what a failover leaves open is asked again
//! under its message id.

mod asks;
mod guest;
mod keeper;

pub(super) use guest::run as guest;
pub(super) use keeper::run as keeper;

use bytes::Bytes;
use types::LogId;

/// The role that keeps a circle.
pub(crate) const KEEPER: &str = "keeper";
/// The role that comes and goes.
pub(crate) const GUEST: &str = "guest";

/// What the invite to a circle is made of: whoever knows the circle knows it.
fn secret(circle: LogId) -> Bytes {
    Bytes::copy_from_slice(&xxhash_rust::xxh3::xxh3_128(&circle.to_bytes()).to_le_bytes())
}
