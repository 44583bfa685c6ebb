//! What the integration tests share: deployments of real processes, bare sessions, patience.
//!
//! The tests themselves are in `tests/tests/regions/`, one binary. Each starts its own deployment on free loopback
//! ports in a temporary folder, and its processes die with it. `HEARTH_TEST_LEASE_MS` lengthens the leases
//! for a slow machine; every wait scales with them.

pub mod deployment;
pub mod history;
pub mod hold;
pub mod load;
pub mod operator;
pub mod peer;
pub mod placing;
pub mod rest;
pub mod session;
pub mod view;

use std::{future::Future, time::Duration};
use tokio::time::{Instant, sleep};

/// Asks again until the answer is there. The condition says what it waits for by its error.
///
/// # Panics
/// With the last error, when `patience` is over.
pub async fn eventually<T, F>(what: &str, patience: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    let until = Instant::now() + patience;
    loop {
        match condition().await {
            Ok(answer) => return answer,
            Err(error) if Instant::now() > until => panic!("{what}: not within {patience:?}: {error:#}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
