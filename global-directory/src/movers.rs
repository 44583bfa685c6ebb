//! Carries out what the controller says of planned moves. Each thing goes on beside the others: while writes wait
//! for one step of one move, nothing else is waited for.

use crate::{
    bounds, channel,
    command::{Command, NewMove, Refusal},
    controller::{Input, MoveAction, MoveInput, Stand, Wish, WishError},
    driver::envelope,
    engine::{Engine, SubmitError},
};
use parking_lot::Mutex;
use proto::node::{AwaitSealRequest, PartitionStatus, StatusRequest, node_client::NodeClient};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;
use types::{
    Epoch, Lsn, MoveId, NodeId, NodeRow, PartitionId, RegionId, Replica, RequestId, StoreId, limits,
};

/// What an operator wants, and where the answer goes.
pub(crate) struct Asked {
    pub(crate) request: RequestId,
    pub(crate) partition: PartitionId,
    pub(crate) region: RegionId,
    pub(crate) by: String,
    pub(crate) reply: oneshot::Sender<Result<MoveId, WishError>>,
}

/// See the module.
pub(crate) struct Movers {
    engine: Engine,
    dial: BTreeMap<NodeId, String>,
    asked: mpsc::Receiver<Asked>,
    answers: mpsc::Sender<Input>,
    answered: mpsc::Receiver<Input>,
    channels: Mutex<BTreeMap<NodeId, (String, Channel)>>,
    calls: Mutex<BTreeMap<u64, oneshot::Sender<Result<MoveId, WishError>>>>,
    next_call: u64,
}

impl Movers {
    /// Movers with the desk at which operators ask.
    pub(crate) fn new(engine: Engine, dial: BTreeMap<NodeId, String>) -> (Self, mpsc::Sender<Asked>) {
        let (desk, asked) = mpsc::channel(bounds::WISHES_MAX);
        let (answers, answered) = mpsc::channel(bounds::FENCE_ANSWERS_MAX);
        let movers = Self {
            engine,
            dial,
            asked,
            answers,
            answered,
            channels: Mutex::default(),
            calls: Mutex::default(),
            next_call: 0,
        };
        (movers, desk)
    }

    /// The next thing that the controller is to be told. Cancel-safe.
    pub(crate) async fn hear(&mut self) -> Option<Input> {
        tokio::select! {
            answer = self.answered.recv() => answer,
            Some(asked) = self.asked.recv() => {
                let Asked { request, partition, region, by, reply } = asked;
                self.next_call += 1;
                self.calls.lock().insert(self.next_call, reply);
                let wish = Wish { call: self.next_call, request, partition, region, by };
                Some(Input::Moving(MoveInput::Wished(wish)))
            }
        }
    }

    /// Starts what is to be done; what comes of it is heard.
    pub(crate) fn carry_out(&self, action: MoveAction) {
        match action {
            MoveAction::Survey(node) => self.survey(node),
            MoveAction::Begin(request, new) => self.begin(request, new),
            MoveAction::AwaitSeal { node, partition, epoch, id } => {
                self.await_seal(node, partition, epoch, id);
            }
            MoveAction::End(command) => self.end(command),
            MoveAction::Answer(call, result) => {
                if let Some(reply) = self.calls.lock().remove(&call) {
                    let _gone = reply.send(result);
                }
            }
        }
    }

    /// Who wished for a move from a controller that is gone learns that nobody will answer.
    pub(crate) fn forget_calls(&self) {
        self.calls.lock().clear();
    }

    fn survey(&self, node: NodeRow) {
        let (channel, answers) = (self.channel(&node), self.answers.clone());
        tokio::spawn(async move {
            let within = Duration::from_millis(bounds::SURVEY_TIMEOUT_MS);
            let stands = match timeout(within, survey(channel)).await {
                Ok(Ok(stands)) => Some(stands),
                Ok(Err(error)) => {
                    tracing::warn!(node = %node.node, error, "a node does not tell how its homes stand");
                    None
                }
                Err(_) => None,
            };
            let _stopped = answers.send(Input::Moving(MoveInput::Surveyed(node.node, stands))).await;
        });
    }

    fn begin(&self, request: Option<RequestId>, new: NewMove) {
        let (engine, answers) = (self.engine.clone(), self.answers.clone());
        tokio::spawn(async move {
            let partition = new.partition;
            let mut envelope = envelope(Command::BeginMove(new));
            envelope.request = request.unwrap_or(envelope.request);
            let not_begun = |why: String| WishError::NotBegun { partition, why };
            let result = match engine.submit(envelope).await {
                Ok(crate::command::Answer::Moving(id)) => Ok(id),
                Ok(_) => Err(not_begun("the request id was used for another command".into())),
                Err(SubmitError::Refused(Refusal::Move(error))) => Err(error.into()),
                Err(error) => Err(not_begun(error.to_string())),
            };
            count(if result.is_ok() { "begun" } else { "not_begun" });
            let _stopped = answers.send(Input::Moving(MoveInput::Begun(partition, result))).await;
        });
    }

    fn await_seal(&self, node: NodeRow, partition: PartitionId, epoch: Epoch, id: MoveId) {
        let (channel, answers) = (self.channel(&node), self.answers.clone());
        tokio::spawn(async move {
            let seal = seal_at(channel, partition, epoch, id).await;
            let _stopped = answers.send(Input::Moving(MoveInput::Sealed { partition, id, seal })).await;
        });
    }

    fn end(&self, command: Command) {
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let name = command.name();
            match engine.submit(envelope(command)).await {
                Ok(_) => count(if name == "finish_move" { "done" } else { "given_up" }),
                Err(error) => tracing::warn!(command = name, %error, "a move was not ended"),
            }
        });
    }

    /// A connection that is kept, so that none has to be made while writes wait; `None` for an address that is none.
    fn channel(&self, node: &NodeRow) -> Option<Channel> {
        let address = self.dial.get(&node.node).unwrap_or(&node.address).clone();
        let mut channels = self.channels.lock();
        if let Some((known, channel)) = channels.get(&node.node)
            && *known == address
        {
            return Some(channel.clone());
        }
        let channel = channel::to(&address).ok()?;
        channels.insert(node.node.clone(), (address, channel.clone()));
        Some(channel)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("hearth_moves_total", "outcome" => outcome).increment(1);
}

async fn survey(channel: Option<Channel>) -> Result<Vec<Stand>, String> {
    let channel = channel.ok_or("its address is none")?;
    let mut client = NodeClient::new(channel).max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let reply = client.status(StatusRequest { partitions: true }).await;
    let reply = reply.map_err(|status| status.to_string())?.into_inner();
    Ok(reply.partitions.into_iter().filter(|status| status.home).map(read_stand).collect())
}

fn read_stand(status: PartitionStatus) -> Stand {
    let in_sync = status.followers.into_iter().filter(|follower| follower.in_sync && follower.matched);
    let in_sync =
        in_sync.filter_map(|follower| Some((Replica::try_from(follower.replica?).ok()?, follower.lag_ms)));
    Stand {
        partition: PartitionId::new(status.partition),
        epoch: Epoch::new(status.epoch),
        in_sync: in_sync.collect(),
    }
}

/// Asks the target until it holds SEAL or the time is over; a call that breaks is made again.
async fn seal_at(
    channel: Option<Channel>,
    partition: PartitionId,
    epoch: Epoch,
    id: MoveId,
) -> Option<(Lsn, StoreId)> {
    let mut client = NodeClient::new(channel?);
    let deadline = Instant::now() + Duration::from_millis(bounds::MOVE_TIMEOUT_MS);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let request = AwaitSealRequest {
            partition: partition.get(),
            epoch: epoch.get(),
            move_id: id.get(),
            wait_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        match timeout(left, client.await_seal(request)).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                let store = proto::store_id("await_seal.store", &reply.store).ok()?;
                let seal = reply.seal.filter(|seal| seal.epoch == epoch.get())?;
                return Some((Lsn::new(seal.lsn), store));
            }
            Ok(Err(error)) => {
                tracing::warn!(%partition, %epoch, %error, "the target of a move does not tell of the seal");
                sleep(Duration::from_millis(bounds::FENCE_RETRY_MS)).await;
            }
            Err(_) => return None,
        }
    }
}
