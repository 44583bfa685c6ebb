//! Deployments to be hurt.

use lab::{DirectoryShape, Lab, Options};
use std::{path::Path, time::Duration};

/// The regions of a test, unless it says otherwise.
pub const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];

/// The lease of the tests: 3 s, or `HEARTH_TEST_LEASE_MS`.
///
/// # Panics
/// When the variable is no number.
pub fn lease() -> Duration {
    let ms = std::env::var("HEARTH_TEST_LEASE_MS")
        .map_or(3_000, |text| text.parse().expect("HEARTH_TEST_LEASE_MS is a number of milliseconds"));
    Duration::from_millis(ms)
}

/// How long a test waits for what must come: many leases, so that only what never comes fails.
pub fn patience() -> Duration {
    lease() * 15
}

/// Three regions with few partitions and short links, and a directory that faults of regions do not hit, and that
/// goes by silence alone: tests cut links for longer than observers would bear. `program` is the binary under test.
pub fn options(program: impl AsRef<Path>) -> Options {
    let mut options = Options::new(program.as_ref());
    options.directory = Some(DirectoryShape::One);
    options.partitions_per_region = Some(4);
    options.lease_ttl = lease();
    options.overlay.directory.insert("canary-failover".to_owned(), false.into());
    options
}

/// The same as `hearth up` runs it: a replica of the directory in each region, which dies with it, and a directory that
/// goes by what observers tell. For tests that leave links alone.
pub fn whole(program: impl AsRef<Path>) -> Options {
    let mut options = options(program);
    options.directory = Some(DirectoryShape::Group);
    options.overlay.directory.remove("canary-failover");
    options
}

/// Starts a deployment and waits until it serves and every copy is in sync.
///
/// # Panics
/// When it does not come up.
pub async fn start(options: Options) -> Lab {
    let lab = Lab::start(options).await.expect("the deployment starts");
    lab.wait_ready(patience()).await.expect("the deployment is ready");
    lab.wait_in_sync(patience()).await.expect("every copy is in sync");
    lab
}
