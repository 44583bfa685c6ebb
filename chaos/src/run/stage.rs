//! What every run and measurement stands on: a deployment with clients and observers, all of it recorded.

use super::{Deployed, Options, Outcome, finish, observe_all};
use crate::{
    check,
    history::{Header, Recorder},
    workload::{Chats, Load, Workload},
};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The chats that clients write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// A group on every partition, and direct chats.
    Everywhere,
    /// A group on every partition homed in the region of this number.
    In(usize),
    /// One group, homed in the first region.
    One,
}

/// See the module.
pub struct Stage {
    /// The deployment.
    pub deployed: Deployed,
    /// Where all that happens is noted down.
    pub recorder: Recorder,
    /// The chats.
    pub chats: Arc<Chats>,
    /// The clients.
    pub workload: Workload,
    observers: JoinSet<()>,
    stop: CancellationToken,
}

impl Stage {
    /// Starts all of it; `name` is the history's.
    ///
    /// # Errors
    /// The deployment or the chats do not come up, or this machine lacks what they need: nothing was tried.
    pub async fn set(
        name: &str,
        options: &Options,
        opened: Opened,
        load: Load,
        progress: impl Fn(&str),
    ) -> anyhow::Result<Self> {
        progress("starting three regions");
        let deployed = Deployed::start(options).await?;
        let header = Header::new(name, options.seed, false);
        let recorder = Recorder::to_file(&options.history, header)
            .with_context(|| format!("the history {}", options.history.display()))?;
        let stop = CancellationToken::new();
        let mut observers = JoinSet::new();
        observe_all(&deployed, &recorder, &stop, &mut observers);
        let chats =
            Chats::open(&deployed.lab, &deployed.regions, opened, load.circles, &recorder, options.seed)
                .await?;
        let chats = Arc::new(chats);
        progress(&format!("{} chats on {} partitions; load", chats.all().len(), deployed.partitions));
        let edges = deployed.edges()?;
        let workload = Workload::start(recorder.clone(), Arc::clone(&chats), &edges, load, options.seed);
        Ok(Self { deployed, recorder, chats, workload, observers, stop })
    }

    /// Heals what is broken, waits until all has converged, ends everything, and judges. `failures` are what went
    /// wrong before.
    ///
    /// # Errors
    /// A process cannot be ended, or the history cannot be read back.
    pub async fn finish(self, mut failures: Vec<String>, progress: impl Fn(&str)) -> anyhow::Result<Outcome> {
        let Self { deployed, recorder, chats, workload, mut observers, stop } = self;
        progress("healing");
        failures.extend(finish(&deployed, &workload, &chats, &recorder).await);
        failures.extend(deployed.ended_by_themselves());
        workload.stop().await;
        stop.cancel();
        while observers.join_next().await.is_some() {}
        deployed.stop().await?;
        progress("checking");
        let history = recorder.finish()?;
        let violations = check::all(&history);
        Ok(Outcome { history, violations, failures })
    }
}
