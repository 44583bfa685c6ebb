//! Registers the node and keeps its lease.

use super::client::{Directory, is_answer};
use crate::{
    Config,
    canary::Observer,
    clock::boot_ms,
    lease::{Canary, Lease},
    ready::{Identity, Readiness},
};
use bytes::Bytes;
use log_store::{LogStore, StoreError};
use parking_lot::Mutex;
use proto::directory::{self as wire, directory_client::DirectoryClient};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use types::{Incarnation, limits};

/// How long to wait before a registration that failed is tried again.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// Renewals that may be unanswered at a time.
const RENEWALS_MAX: usize = 8;
/// How long a replica of the directory may take to answer a renewal before the next one is asked.
const RENEW_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before the next replica is asked: there may be no leader for a moment.
const RENEW_AGAIN: Duration = Duration::from_millis(100);
/// How often the store's canary sings.
const CANARY_INTERVAL: Duration = Duration::from_millis(500);

/// Sings for a store, and remembers how it went.
#[derive(Debug)]
pub struct StoreCanary {
    state: Mutex<Canary>,
    closed: Mutex<Option<StoreError>>,
    damage: watch::Sender<Option<StoreError>>,
    condemned: AtomicBool,
}

impl StoreCanary {
    /// Sings until `shutdown`, which a store that has closed brings about: what it did not ack is of
    /// unknown fate until it is opened again.
    pub fn spawn(
        store: Arc<dyn LogStore>,
        readiness: Arc<Readiness>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let canary = Arc::new(Self {
            state: Mutex::new(Canary::UnderWay { since_ms: boot_ms() }),
            closed: Mutex::default(),
            damage: watch::Sender::new(None),
            condemned: AtomicBool::new(false),
        });
        let singer = Arc::clone(&canary);
        tokio::spawn(async move {
            let sing = singer.sing(&*store, &readiness);
            tokio::select! {
                () = shutdown.cancelled() => {}
                closed = sing => {
                    *singer.closed.lock() = Some(closed);
                    shutdown.cancel();
                }
            }
        });
        canary
    }

    async fn sing(&self, store: &dyn LogStore, readiness: &Readiness) -> StoreError {
        loop {
            *self.state.lock() = Canary::UnderWay { since_ms: boot_ms() };
            let sung = store.canary().await;
            readiness.update(|conditions| conditions.store_open = sung.is_ok());
            if let Some(error) = store.damage()
                && self.damage.borrow().is_none()
            {
                tracing::error!(%error, "THE STORE IS DAMAGED: this node steps down");
                metrics::gauge!("hearth_store_damaged").set(1.0);
                readiness.update(|conditions| conditions.damaged = true);
                self.damage.send_replace(Some(error));
            }
            match sung {
                Ok(()) => *self.state.lock() = Canary::Sang,
                Err(error) => {
                    *self.state.lock() = Canary::Died;
                    tracing::error!(%error, "the store's canary failed: the lease is not renewed");
                    if matches!(error, StoreError::Closed { .. }) {
                        return error;
                    }
                }
            }
            sleep(CANARY_INTERVAL).await;
        }
    }

    /// Why the store has closed, if it has.
    pub fn closed(&self) -> Option<StoreError> {
        self.closed.lock().clone()
    }

    /// Returns once the store is known to be damaged. Cancel-safe.
    pub async fn damaged(&self) {
        // The sender lives as long as this.
        let _ = self.damage.subscribe().wait_for(Option::is_some).await;
    }

    /// The node has parted with everything that somebody else could take: if its store is damaged, it is not to be
    /// opened again.
    pub fn condemn(&self) {
        self.condemned.store(true, Ordering::Release);
    }

    /// Why the store is not to be opened again, if that is so.
    pub fn condemned(&self) -> Option<StoreError> {
        self.damage.borrow().clone().filter(|_| self.condemned.load(Ordering::Acquire))
    }

    fn allows_renewal(&self, stall_limit_ms: u64) -> bool {
        self.state.lock().allows_renewal(boot_ms(), stall_limit_ms)
    }
}

/// Registers, renews, and registers again when a renewal is refused.
#[derive(Debug)]
pub struct Registration {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// Where it registers.
    pub directory: Directory,
    /// Its store.
    pub store: Arc<dyn LogStore>,
    /// Told who the node is.
    pub identity: Arc<Identity>,
    /// Told of registration and lease.
    pub readiness: Arc<Readiness>,
    /// Asked before each renewal.
    pub canary: Arc<StoreCanary>,
    /// Asked before each renewal what it tells of other nodes.
    pub(crate) observer: Arc<Mutex<Observer>>,
    /// Told of each new lease, and again when it is over.
    pub leases: watch::Sender<Option<Arc<Lease>>>,
}

/// What a registration gave.
struct Registered {
    lease: Arc<Lease>,
    renew_interval: Duration,
}

impl Registration {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.register_and_renew() => {}
        }
    }

    async fn register_and_renew(&self) {
        loop {
            let Registered { lease, renew_interval } = self.register().await;
            self.identity.set_incarnation(lease.incarnation());
            self.leases.send_replace(Some(Arc::clone(&lease)));
            self.readiness.update(|conditions| conditions.registered = true);
            self.renew_until_refused(&lease, renew_interval).await;
            tracing::warn!(incarnation = %lease.incarnation(), "a renewal was refused: every home here ends");
            self.readiness.update(|conditions| {
                conditions.registered = false;
                conditions.lease_held = false;
            });
            self.leases.send_replace(Some(lease));
        }
    }

    async fn register(&self) -> Registered {
        // One request id a boot: an answer that was lost on its way is given again.
        let request = wire::RegisterRequest {
            protocol_version: limits::PROTOCOL_VERSION,
            request_id: Bytes::copy_from_slice(host::random::id().as_bytes()),
            node: self.config.node.to_string(),
            region: self.config.region.to_string(),
            address: self.config.advertise.clone(),
            store: Bytes::copy_from_slice(self.store.id().as_bytes()),
        };
        loop {
            let attempt = request.clone();
            match self.directory.call(|mut client| async move { client.register(attempt).await }).await {
                Ok(reply) => {
                    let incarnation = Incarnation::new(reply.incarnation);
                    tracing::info!(%incarnation, lease_ttl_ms = reply.lease_ttl_ms, "registered");
                    return Registered {
                        lease: Arc::new(Lease::new(incarnation, u64::from(reply.lease_ttl_ms))),
                        renew_interval: Duration::from_millis(u64::from(reply.renew_interval_ms.max(10))),
                    };
                }
                Err(status) if is_answer(&status) => {
                    tracing::error!(%status, "the directory refuses this node");
                    sleep(REGISTER_AGAIN * 10).await;
                }
                Err(status) => {
                    tracing::debug!(%status, "could not register");
                    sleep(REGISTER_AGAIN).await;
                }
            }
        }
    }

    /// Sends a renewal at each interval, whether or not those before were answered.
    async fn renew_until_refused(&self, lease: &Arc<Lease>, renew_interval: Duration) {
        let mut attempts = JoinSet::new();
        let mut due = interval(renew_interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !lease.is_over() {
            tokio::select! {
                _ = due.tick() => {
                    let stall_limit_ms = self.config.stall_limit_ms;
                    if !self.canary.allows_renewal(stall_limit_ms) {
                        tracing::warn!("the store does not write: the lease is not renewed");
                    } else if attempts.len() < RENEWALS_MAX {
                        attempts.spawn(renew(self.directory.clone(), self.identity.clone(), lease.clone(), self.observer.clone()));
                    }
                }
                Some(_) = attempts.join_next() => {}
            }
            let left_ms = lease.left_ms(boot_ms());
            metrics::gauge!("hearth_lease_left_ms").set(left_ms as f64);
            self.readiness.update(|conditions| conditions.lease_held = left_ms > 0);
        }
    }
}

/// Asks one replica of the directory after the other until one answers, so that the loss of one costs no
/// lease. Each attempt is a renewal of its own, counted from when it was sent.
async fn renew(
    directory: Directory,
    identity: Arc<Identity>,
    lease: Arc<Lease>,
    observer: Arc<Mutex<Observer>>,
) {
    for _ in 0..directory.replicas() {
        let sent_at_ms = boot_ms();
        let observed =
            observer.lock().report(sent_at_ms).into_iter().map(|(boot, failing_ms)| wire::Observed {
                node: boot.node.to_string(),
                incarnation: boot.incarnation.get(),
                failing_ms: u32::try_from(failing_ms).unwrap_or(u32::MAX),
            });
        let attempt = wire::RenewRequest {
            node: identity.node().to_string(),
            incarnation: lease.incarnation().get(),
            observed: observed.collect(),
        };
        let renew = |mut client: DirectoryClient<Channel>| async move { client.renew(attempt).await };
        match directory.call_within(RENEW_TIMEOUT, renew).await {
            Ok(_) => return lease.renewed(sent_at_ms),
            Err(status) if is_refusal(&status) => return lease.refused(),
            Err(status) => tracing::debug!(%status, "a renewal was not answered"),
        }
        sleep(RENEW_AGAIN).await;
    }
}

/// Whether the directory says that the incarnation is not the current one.
fn is_refusal(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
}
