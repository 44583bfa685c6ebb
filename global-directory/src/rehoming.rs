//! Runs the re-homings that are under way: shows the state machine the rows, carries out what it answers.

use crate::{
    bounds, clock,
    command::{Command, Rehome},
    controller::rehome::{Action, Ask, Rehomings, Said, Step},
    driver::envelope,
    engine::Engine,
    kv::Kv,
    rows,
    state::State,
};
use host::net::Connector;
use parking_lot::Mutex;
use proto::node::{
    ImportRequest, NotHome, Refused, SealRequest, import_reply, rehoming_client::RehomingClient, seal_reply,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use types::{Code, LogId, NodeId, NodeRow, Offset, RehomeId, limits};

/// A kept connection that is dead is found out within these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The re-homings with all that they act on.
pub(crate) struct Rehoming {
    pub(crate) state: Arc<State>,
    pub(crate) engine: Engine,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) dial: BTreeMap<NodeId, String>,
    pub(crate) shutdown: CancellationToken,
}

type Answers = mpsc::Sender<(LogId, RehomeId, Said)>;

impl Rehoming {
    /// Runs until shutdown. What is under way then goes on from the rows.
    pub(crate) async fn run(self) {
        // Who begins to lead begins anew: the rows tell how far each is.
        let (mut rehomings, mut term) = (Rehomings::default(), None);
        let connections = Connections::default();
        let (answers, mut heard) = mpsc::channel(bounds::REHOME_ANSWERS_MAX);
        let mut ticks = tokio::time::interval(Duration::from_millis(bounds::TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let mut actions = Vec::new();
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                Some((log, id, said)) = heard.recv() => {
                    rehomings.heard(clock::boot_ms(), log, id, said, &mut actions);
                }
                () = self.state.rehomings().notified() => {}
                _ = ticks.tick() => {}
            }
            let leads = self.engine.leads();
            if std::mem::replace(&mut term, leads) != leads {
                rehomings = Rehomings::default();
            }
            if leads.is_none() {
                continue;
            }
            match self.rows() {
                Ok(rows) => self.state.look(|view, _| {
                    rehomings.look(clock::boot_ms(), view, &rows, &mut actions);
                    metrics::gauge!("hearth_rehomes_under_way").set(rows.len() as f64);
                }),
                Err(error) => tracing::error!(%error, "the rows of re-homings cannot be read"),
            }
            for action in actions {
                self.carry_out(action, &connections, &answers).await;
            }
        }
    }

    fn rows(&self) -> Result<Vec<Rehome>, crate::kv::Error> {
        let mut under_way = Vec::new();
        self.kv.read(&mut |tx| {
            under_way = rows::rehomes(tx)?;
            Ok(())
        })?;
        Ok(under_way)
    }

    async fn carry_out(&self, action: Action, connections: &Connections, answers: &Answers) {
        match action {
            Action::Prepare(node) => {
                let (connections, address) = (connections.clone(), self.address(&node));
                tokio::spawn(async move { connections.to(&address).await.map(drop) });
            }
            Action::Ask(node, ask) => {
                let (connections, address) = (connections.clone(), self.address(&node));
                let answers = answers.clone();
                tokio::spawn(async move {
                    let (log, id) = (ask.log, ask.rehome);
                    let step = Duration::from_millis(bounds::REHOME_STEP_MS);
                    let said = timeout(step, connections.ask(&address, ask)).await;
                    let said = said.unwrap_or_else(|_| Said::NotNow("no answer in time".into()));
                    let _stopped = answers.send((log, id, said)).await;
                });
            }
            Action::Submit(command) => self.submit(command).await,
        }
    }

    fn address(&self, node: &NodeRow) -> String {
        self.dial.get(&node.node).unwrap_or(&node.address).clone()
    }

    async fn submit(&self, command: Command) {
        let name = command.name();
        match self.engine.submit(envelope(command)).await {
            Ok(_) => tracing::info!(command = name, "a re-homing is over"),
            Err(error) => tracing::warn!(command = name, %error, "a re-homing goes on"),
        }
        self.state.rehomings().notify_one();
    }
}

/// The connections to homes, kept: a log is not written to while one is made.
#[derive(Debug, Clone, Default)]
struct Connections(Arc<Mutex<HashMap<String, Channel>>>);

impl Connections {
    async fn to(&self, address: &str) -> Result<Channel, String> {
        if let Some(channel) = self.0.lock().get(address) {
            return Ok(channel.clone());
        }
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel =
            endpoint.connect_with_connector(Connector).await.map_err(|error| format!("{error:?}"))?;
        let mut known = self.0.lock();
        if known.len() >= bounds::NODES_MAX {
            known.clear();
        }
        known.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    async fn ask(&self, address: &str, ask: Ask) -> Said {
        let channel = match self.to(address).await {
            Ok(channel) => channel,
            Err(why) => return Said::NotNow(why),
        };
        let mut client =
            RehomingClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
        let (rehome, partition, generation) = (ask.rehome.get(), ask.partition.get(), ask.generation.get());
        let log = bytes::Bytes::copy_from_slice(&ask.log.to_bytes());
        let said = match ask.step {
            Step::Seal { held_in } => {
                let held_in = held_in.iter().map(ToString::to_string).collect();
                let request = SealRequest { rehome, log, partition, generation, held_in };
                client.seal(request).await.map(|reply| match reply.into_inner().reply {
                    Some(seal_reply::Reply::Sealed(sealed)) => {
                        Said::Sealed { head: Offset::new(sealed.head_offset), fold: sealed.fold }
                    }
                    Some(seal_reply::Reply::NotHome(not_home)) => elsewhere(&not_home),
                    Some(seal_reply::Reply::Refused(refused)) => refusal(refused),
                    None => Said::NotNow("the answer says nothing".into()),
                })
            }
            Step::Import { fold } => {
                let request = ImportRequest { rehome, log, partition, generation, fold };
                client.import(request).await.map(|reply| match reply.into_inner().reply {
                    Some(import_reply::Reply::Imported(_)) => Said::Imported,
                    Some(import_reply::Reply::NotHome(not_home)) => elsewhere(&not_home),
                    Some(import_reply::Reply::Refused(refused)) => refusal(refused),
                    None => Said::NotNow("the answer says nothing".into()),
                })
            }
        };
        said.unwrap_or_else(|status| {
            // It may have been cut without a word.
            self.0.lock().remove(address);
            Said::NotNow(status.to_string())
        })
    }
}

fn elsewhere(not_home: &NotHome) -> Said {
    Said::NotNow(format!("not home of partition {}", not_home.partition))
}

fn refusal(refused: Refused) -> Said {
    match refused.code.parse::<Code>() {
        Ok(code) if code.is_retryable() => Said::NotNow(refused.message),
        _ => Said::Refused(refused.message),
    }
}
