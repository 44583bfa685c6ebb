//! One file per mode: its options, and its run.

mod catch_up;
mod distance;
mod groups;
mod history;
mod idle;
mod lag;
mod pairs;
mod proxied;

pub(crate) use catch_up::CatchUp;
pub(crate) use groups::Groups;
pub(crate) use history::History;
pub(crate) use idle::Idle;
pub(crate) use lag::Lag;
pub(crate) use pairs::Pairs;
pub(crate) use proxied::Proxied;

use super::{
    args::{Places, Writing},
    load::{self, Plan, Shape, Tally},
    machine::{self, Yardsticks},
    report::Report,
    servers::{Deployment, Seen, Servers},
};
use anyhow::Result;
use std::path::Path;

/// What every mode runs against.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) deployment: Deployment,
    pub(crate) machine: Option<Yardsticks>,
}

impl Bench {
    /// Measures the machine, unless told not to.
    pub(crate) async fn new(deployment: Deployment, with_machine: bool) -> Result<Self> {
        let dir = deployment.described.dir.clone();
        let machine = match with_machine {
            true => Some(blocking(move || machine::measure(Path::new(&dir))).await?),
            false => None,
        };
        Ok(Self { deployment, machine })
    }

    /// An empty report of a mode.
    pub(crate) fn report(&self, mode: &'static str, what: String) -> Report {
        let mut report = Report::new(mode, what);
        let regions = self.deployment.described.regions.iter();
        report.regions = regions.map(|place| place.region.to_string()).collect();
        report.machine.clone_from(&self.machine);
        report
    }

    /// Where the members of parties connect.
    pub(crate) fn shape(&self, places: &Places, members: usize, chats: usize) -> Result<Shape> {
        let senders = self.deployment.region(places.senders.as_ref())?;
        let receivers = match &places.receivers[..] {
            [] => vec![senders],
            some => some.iter().map(|name| self.deployment.region(Some(name))).collect::<Result<_>>()?,
        };
        let home = places.home.as_ref().map_or(Ok(senders), |name| self.deployment.region(Some(name)))?;
        Ok(Shape {
            home_edge: home.edge.clone(),
            sender_edge: senders.edge.clone(),
            reader_edges: receivers.into_iter().map(|place| place.edge.clone()).collect(),
            members,
            chats,
        })
    }

    /// Connects parties, lets them write, and watches the servers meanwhile.
    pub(crate) async fn load(
        &self,
        shape: Shape,
        parties: usize,
        writing: &Writing,
        adjust: impl FnOnce(Plan) -> Plan + Send + 'static,
    ) -> Result<Loaded> {
        let (servers, writing) = (Servers::of(&self.deployment), writing.clone());
        blocking(move || {
            let connected = load::connect_all(&shape, parties)?;
            let plan = adjust(writing.plan(parties));
            let (tally, seen) = servers.watch(&plan, || load::run(&plan, connected, writing.threads))?;
            Ok(Loaded { tally, seen, servers })
        })
        .await
    }
}

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) tally: Tally,
    pub(crate) seen: Seen,
    pub(crate) servers: Servers,
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
