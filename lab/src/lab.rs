//! The library's face: a deployment that tests and `hearth up` start, hurt and stop.

use crate::{
    control,
    deployment::{Deployment, LabError, LinkChange},
    description::Description,
    event::Event,
    launch::{StartError, launch},
    options::Options,
    process::{Process, ProcessError},
    wan::Wan,
};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::NodeId;

/// How long children have to end after SIGTERM, before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A running deployment. Dropping it kills its processes; [`Lab::stop`] ends them in order.
///
/// Regions and nodes are named by text, and the directory is a place called `directory`; an unknown name is
/// [`LabError::UnknownPlace`], which names the known places. Where one node is asked for, a region's name
/// stands for its first one.
#[derive(Debug)]
pub struct Lab {
    deployment: Arc<Deployment>,
    _serving: DropGuard,
}

impl Lab {
    /// Starts all processes. They run when this returns; see [`Lab::wait_ready`].
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let serving = stop.clone().drop_guard();
        let (deployment, listener) = launch(&options, &stop).await?;
        tokio::spawn(control::serve(listener, Arc::clone(&deployment), stop));
        Ok(Self { deployment, _serving: serving })
    }

    /// Waits until every node is ready and every partition has a home.
    ///
    /// # Errors
    /// [`LabError::NotYet`] says what is missing, [`LabError::Ended`] which process has given up.
    pub async fn wait_ready(&self, patience: Duration) -> Result<(), LabError> {
        self.deployment.wait_ready(patience).await
    }

    /// Waits until, beyond that, every partition is in sync at all its replicas.
    ///
    /// # Errors
    /// As [`Lab::wait_ready`].
    pub async fn wait_in_sync(&self, patience: Duration) -> Result<(), LabError> {
        self.deployment.wait_in_sync(patience).await
    }

    /// SIGKILLs the processes of a region (or the directory) and makes its links silent, so that the
    /// others see what they would see of a region without power: nothing. Of a node that is killed alone
    /// they see what they would see of a crash: its connections break.
    ///
    /// # Errors
    /// [`LabError`], as for all verbs here.
    pub async fn kill(&self, target: &str) -> Result<(), LabError> {
        self.deployment.kill(target).await
    }

    /// Starts what does not run in a region (or the directory's place), or a node, and lets the links carry
    /// again. It is not waited for: see [`Lab::wait_ready`].
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn restart(&self, target: &str) -> Result<(), LabError> {
        self.deployment.start(target).await
    }

    /// SIGSTOPs the processes of a region (or the directory), or a node.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn pause(&self, target: &str) -> Result<(), LabError> {
        self.deployment.pause(target).await
    }

    /// SIGCONTs them.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn resume(&self, target: &str) -> Result<(), LabError> {
        self.deployment.resume(target).await
    }

    /// Cuts the link between two places, both ways or only from `a` to `b`.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn cut(&self, a: &str, b: &str, one_way: bool) -> Result<(), LabError> {
        self.deployment.cut(a, b, one_way)
    }

    /// Ends every cut and every stall. A killed region stays silent.
    pub fn heal(&self) {
        self.deployment.heal();
    }

    /// Changes the link between two places, both ways or only from `a` to `b`.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn change_link(&self, a: &str, b: &str, one_way: bool, change: LinkChange) -> Result<(), LabError> {
        self.deployment.change_link(a, b, one_way, change)
    }

    /// The anycast front for clients in a region's place: a WebSocket URL.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn front(&self, region: &str) -> Result<String, LabError> {
        Ok(format!("ws://{}/v1/ws", self.deployment.region(region)?.front))
    }

    /// A node: a WebSocket URL, with no link in between.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn edge(&self, node: &str) -> Result<String, LabError> {
        Ok(format!("ws://{}/v1/ws", self.deployment.node(node)?.service.address))
    }

    /// Every node as a client in `region` reaches it, the nearest first: WebSocket URLs.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn edges(&self, region: &str) -> Result<Vec<String>, LabError> {
        let edges = &self.deployment.region(region)?.edges;
        Ok(edges.iter().map(|edge| format!("ws://{}/v1/ws", edge.address)).collect())
    }

    /// A node, for REST, health and metrics: `http://host:port`.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn http(&self, node: &str) -> Result<String, LabError> {
        Ok(format!("http://{}", self.deployment.node(node)?.service.address))
    }

    /// The names of a region's nodes.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn node_ids(&self, region: &str) -> Result<Vec<NodeId>, LabError> {
        Ok(self.deployment.region(region)?.nodes.iter().map(|node| node.id.clone()).collect())
    }

    /// The name of a region's first node.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn node_id(&self, region: &str) -> Result<NodeId, LabError> {
        Ok(self.deployment.region(region)?.first_node().id.clone())
    }

    /// A node as a process, to be killed, paused or stopped alone; its links go on carrying.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn node(&self, node: &str) -> Result<&Process, LabError> {
        Ok(&self.deployment.node(node)?.service.process)
    }

    /// SIGTERM to a node, which sends its sessions elsewhere and ends; SIGKILL if it has not in time.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn stop_node(&self, node: &str) -> Result<(), LabError> {
        Ok(self.deployment.node(node)?.service.process.stop(STOP_TIMEOUT).await?)
    }

    /// A region's replicator as a process.
    ///
    /// # Errors
    /// [`LabError::UnknownPlace`].
    pub fn replicator(&self, region: &str) -> Result<&Process, LabError> {
        Ok(&self.deployment.region(region)?.replicator.process)
    }

    /// The directory as a process; one that runs, if there are several.
    pub fn directory(&self) -> &Process {
        &self.deployment.directory().process
    }

    /// Each process of the directory.
    pub fn directories(&self) -> impl Iterator<Item = &Process> {
        self.deployment.directories().map(|service| &service.process)
    }

    /// The address of the directory, or of a replica of it that runs, with no link in between:
    /// `http://host:port`.
    pub fn directory_address(&self) -> String {
        format!("http://{}", self.deployment.directory().address)
    }

    /// The addresses of all its processes.
    pub fn directory_addresses(&self) -> Vec<String> {
        self.deployment.directories().map(|service| format!("http://{}", service.address)).collect()
    }

    /// Where the control API listens.
    pub fn control(&self) -> SocketAddr {
        self.deployment.control
    }

    /// The links themselves.
    pub fn wan(&self) -> &Wan {
        &self.deployment.wan
    }

    /// Where data, configurations and logs are.
    pub fn dir(&self) -> &Path {
        self.deployment.dir()
    }

    /// The folder is removed in the end.
    pub fn is_temporary(&self) -> bool {
        self.deployment.folder.is_temporary()
    }

    /// Everything there is to know from outside.
    pub fn describe(&self) -> Description {
        self.deployment.describe()
    }

    /// What happens from now on. A reader that is too slow misses the oldest events, and is told so.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.deployment.events.subscribe()
    }

    /// Ends all processes: SIGTERM, and SIGKILL for those that have not ended in time.
    ///
    /// # Errors
    /// The first process that could not be ended; the others were ended.
    pub async fn stop(self) -> Result<(), ProcessError> {
        let mut stopping = JoinSet::new();
        let count = self.deployment.processes().count();
        for index in 0..count {
            let deployment = Arc::clone(&self.deployment);
            stopping.spawn(async move {
                match deployment.processes().nth(index) {
                    Some(process) => process.stop(STOP_TIMEOUT).await,
                    None => Ok(()),
                }
            });
        }
        stopping.join_all().await.into_iter().collect()
    }
}
