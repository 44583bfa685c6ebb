//! Whether a node serves, as seen from outside.

use crate::http;
use hyper::{Method, StatusCode};
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A node that has not answered within this does not serve.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Looks in a row that found nobody, before a node counts as unreachable.
const MISSES_MAX: u32 = 3;

/// What the last looks at a node found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers that it is ready.
    Ready,
    /// It answers that it is not, or has missed a look.
    NotReady,
    /// Nobody answers.
    Unreachable,
}

/// Asks a node once whether it is ready.
pub(crate) async fn is_ready(node: SocketAddr) -> bool {
    matches!(http::call(Method::GET, node, "/readyz", None, POLL_TIMEOUT).await, Ok((StatusCode::OK, _)))
}

/// Looks at `GET /readyz` again and again, until `stop`.
pub(crate) fn follow(node: SocketAddr, stop: CancellationToken) -> watch::Receiver<Health> {
    let (changes, health) = watch::channel(Health::Unreachable);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut misses = MISSES_MAX;
        loop {
            let now = match http::call(Method::GET, node, "/readyz", None, POLL_TIMEOUT).await {
                Ok((StatusCode::OK, _)) => {
                    misses = 0;
                    Health::Ready
                }
                Ok(_) => {
                    misses = 0;
                    Health::NotReady
                }
                Err(_) => {
                    misses = misses.saturating_add(1);
                    if misses >= MISSES_MAX { Health::Unreachable } else { Health::NotReady }
                }
            };
            changes.send_if_modified(|health| std::mem::replace(health, now) != now);
            sleep(POLL_INTERVAL).await;
        }
    }));
    health
}
