//! Answers canaries: takes them the way of a write.

use crate::{clock::boot_ms, grpc::check_version, home::NodeHomes, lease::Lease, ready::Identity};
use proto::node::{CanaryReply, CanaryRequest, canaries_server::Canaries};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::{Request, Response, Status};

/// Canaries that are under way here at a time: more than the regions of a deployment send.
const AT_ONCE_MAX: usize = 256;
/// How long one is tried at most; whoever sent it has gone by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// The `Canaries` service of a node.
#[derive(Debug, Clone)]
pub(crate) struct CanaryService {
    homes: Arc<NodeHomes>,
    identity: Arc<Identity>,
    leases: watch::Receiver<Option<Arc<Lease>>>,
    places: Arc<Semaphore>,
}

impl CanaryService {
    pub(crate) fn new(
        homes: Arc<NodeHomes>,
        identity: Arc<Identity>,
        leases: watch::Receiver<Option<Arc<Lease>>>,
    ) -> Self {
        Self { homes, identity, leases, places: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }

    fn is_leased(&self) -> bool {
        self.leases.borrow().as_ref().is_some_and(|lease| lease.left_ms(boot_ms()) > 0)
    }
}

#[tonic::async_trait]
impl Canaries for CanaryService {
    async fn sing(&self, request: Request<CanaryRequest>) -> Result<Response<CanaryReply>, Status> {
        let CanaryRequest { protocol_version, node, incarnation } = request.into_inner();
        check_version(protocol_version)?;
        let me = self.identity.home();
        if (node.as_str(), incarnation) != (me.node.as_str(), me.incarnation.get()) {
            return Err(Status::failed_precondition(format!(
                "this is node {} in incarnation {}",
                me.node, me.incarnation
            )));
        }
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Status::resource_exhausted(format!("{AT_ONCE_MAX} canaries are under way already")));
        };
        let sung = timeout(PATIENCE, self.homes.sing()).await;
        let sung = sung.map_err(|_| Status::deadline_exceeded("the homes here do not answer"))?;
        let sung = sung.map_err(|why| Status::unavailable(why.to_string()))?;
        if sung.homes > 0 && sung.unopened == sung.homes {
            return Err(Status::unavailable(format!("none of the {} homes here is open", sung.homes)));
        }
        // Right before the reply, like that of a write.
        if !self.is_leased() {
            return Err(Status::unavailable("the lease does not run"));
        }
        Ok(Response::new(CanaryReply { homes: sung.homes, unopened: sung.unopened }))
    }
}
