//! What this replica sends to one other, and what of it was answered.
//!
//! The library has one message under way to each replica. By itself it sends an entry when the answer to the message
//! before has come, be that only the news of a commit; a commit takes two to four round trips then. Here an entry
//! leaves as soon as it is durable at the leader, ahead of the library; when that comes to send it, the answer is there
//! or on its way.
//!
//! ```text
//!   log: durable here ──▶ ahead of the library ──┐
//!   library: append ── sent already? ── no ──────┼──▶ replica ──▶ answers ──▶ Flow
//!                           └── yes: waits for ──────────────────────────────┘
//! ```
//!
//! * A message that is sent ahead is one that the library will send: entries of this leader's term, with the entry
//!   before them. A replica may get it late, twice or out of order, as any append.
//! * Entries go ahead only right behind what is under way or matched. Whatever goes wrong ends that ([`Flow::sent`])
//!   until the library has sent something by itself.
//! * An answer is given to the library only if the replica gave it in the same term: it holds what is said to match.
//! * A message without entries is answered, on a link that has spoken before, by any answer that comes after it, if what
//!   it says to be held is known to be; how
//!   recently the replica has followed is counted from when the answered message left ([`Heard`]), not from when the
//!   library sent. On a new link it is answered by its own answer: that is how the library asks for a read
//!   whether it still leads.

use super::{
    network::{Failed, failed},
    types::{LogId, ReplicaId, Types, Vote},
    wire::{self as convert, Addressee},
};
use crate::bounds;
use bytes::Bytes;
use openraft::{
    AnyError,
    error::{PayloadTooLarge, RPCError, Unreachable},
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use parking_lot::Mutex;
use proto::directory::{self as wire, consensus_client::ConsensusClient};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tonic::transport::Channel;

type Response = AppendEntriesResponse<ReplicaId>;
type Answer = oneshot::Receiver<Result<Response, Failed>>;

/// When the newest message left that each replica has answered, and in whose term.
pub(super) type Heard = Arc<Mutex<BTreeMap<ReplicaId, (Vote, Instant)>>>;

/// Entries that have just become durable here.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) previous: LogId,
    pub(super) last: LogId,
    /// As they stand in the log.
    pub(super) entries: Vec<Bytes>,
}

/// What is known of one replica in one term. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Flow {
    /// The leader and its term.
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// What the replica has been told of that, in some message.
    told: Option<LogId>,
    /// Everything up to here has been sent; `None`: what is sent next may leave a gap.
    sent: Option<LogId>,
    /// The replica holds everything up to here.
    matched: Option<LogId>,
    /// Another one leads, or wants to.
    higher: Option<Vote>,
    /// Messages sent ahead without an answer.
    ahead: usize,
    /// Answers, other than those that name a higher vote.
    answers: u64,
}

impl Flow {
    /// The library speaks as this leader.
    fn lead(&mut self, vote: Vote, committed: Option<LogId>) {
        if self.vote != Some(vote) {
            *self = Self { vote: Some(vote), ahead: self.ahead, ..Self::default() };
        }
        self.committed = self.committed.max(committed);
    }

    /// Whether entries may be sent now that the library has not asked for.
    fn takes(&self, leads: Option<Vote>, fresh: &Fresh) -> bool {
        leads.is_some()
            && self.vote == leads
            && self.higher.is_none()
            && self.sent == Some(fresh.previous)
            && self.ahead < bounds::APPENDS_AHEAD_MAX
    }

    /// Whether an answer that is under way, or there, says of these entries that they are held.
    fn covers(&self, vote: Vote, last: LogId) -> bool {
        self.vote == Some(vote) && self.matched.max(self.sent) >= Some(last)
    }

    /// What the library is told of these entries; `None` where that is not known.
    fn held(&self, vote: Vote, previous: Option<LogId>, last: LogId) -> Option<Response> {
        match (self.vote == Some(vote), self.higher) {
            (false, _) => None,
            (true, Some(higher)) => Some(Response::HigherVote(higher)),
            (true, None) if self.matched >= Some(last) => Some(Response::Success),
            (true, None) => (self.matched > previous).then_some(Response::PartialSuccess(self.matched)),
        }
    }

    /// Whether a message without entries behind `previous` can be called answered: another one was, since there were
    /// `answers`, and the replica is known to hold what this one says that it holds.
    fn has_answered(&self, vote: Vote, answers: u64, previous: Option<LogId>) -> bool {
        self.vote == Some(vote) && self.answers > answers && self.matched >= previous
    }

    /// A message of this term was answered. `last` is what the replica holds if it has taken it.
    fn answered(&mut self, vote: Vote, last: Option<LogId>, answer: Option<&Response>) {
        if self.vote != Some(vote) {
            return;
        }
        match answer {
            Some(Response::Success) => self.matched = self.matched.max(last),
            Some(Response::PartialSuccess(held)) => {
                self.matched = self.matched.max(*held);
                self.sent = None;
            }
            Some(Response::HigherVote(higher)) => self.higher = Some(*higher),
            Some(Response::Conflict) | None => self.sent = None,
        }
        if answer.is_some_and(|answer| !matches!(answer, Response::HigherVote(_))) {
            self.answers += 1;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    to: Addressee,
    client: Result<ConsensusClient<Channel>, String>,
    flow: watch::Sender<Flow>,
    heard: Heard,
}

impl Lane {
    pub(super) fn new(to: Addressee, client: Result<ConsensusClient<Channel>, String>, heard: Heard) -> Self {
        Self { to, client, flow: watch::Sender::default(), heard }
    }

    pub(super) const fn to(&self) -> Addressee {
        self.to
    }

    pub(super) fn client(&self) -> Result<ConsensusClient<Channel>, Unreachable> {
        let unusable = |why: &String| Unreachable::new(&AnyError::error(why));
        self.client.clone().map_err(|why| unusable(&why))
    }

    /// Sends entries ahead of the library, if they follow what was sent.
    pub(super) fn go_ahead(self: &Arc<Self>, own: ReplicaId, fresh: &Fresh) {
        let leader = fresh.last.leader_id;
        let vote = Vote::new_committed(leader.term, leader.node_id);
        let leads = (leader.node_id == own).then_some(vote);
        let mut committed = None;
        let goes = self.flow.send_if_modified(|flow| {
            let goes = flow.takes(leads, fresh);
            if goes {
                flow.sent = Some(fresh.last);
                flow.ahead += 1;
                committed = flow.committed;
                flow.told = committed;
            }
            goes
        });
        if !goes {
            return;
        }
        metrics::counter!("hearth_directory_appends_total", "sent" => "ahead").increment(1);
        let message = wire::AppendRequest {
            to: Some(self.to.into()),
            vote: Some(convert::vote_to_wire(&vote)),
            previous: Some(convert::log_id_to_wire(&fresh.previous)),
            committed: committed.as_ref().map(convert::log_id_to_wire),
            entries: fresh.entries.clone(),
        };
        let (lane, last) = (self.clone(), fresh.last);
        tokio::spawn(async move {
            // What went wrong is in the flow, and told when the library sends these entries itself.
            let _told_by_the_library = lane.ask(message, vote, Some(last)).await;
            lane.flow.send_modify(|flow| flow.ahead -= 1);
        });
    }

    /// What the library sends. `is_new`: nothing has been sent on its link before.
    pub(super) async fn append(
        self: &Arc<Self>,
        request: AppendEntriesRequest<Types>,
        is_new: bool,
    ) -> Result<Response, Failed> {
        let vote = request.vote;
        self.flow.send_modify(|flow| flow.lead(vote, request.leader_commit));
        if let Some(last) = request.entries.last().map(|entry| entry.log_id) {
            if self.flow.borrow().covers(vote, last) {
                self.tell_committed(&request);
            }
            return match self.held(vote, request.prev_log_id, last).await {
                Some(answer) => Ok(answer),
                None => answer_of(self.send(&request)).await,
            };
        }
        let mut flow = self.flow.subscribe();
        let answers = flow.borrow_and_update().answers;
        let own = self.send(&request);
        if is_new {
            return answer_of(own).await;
        }
        let is_answered = |flow: &Flow| flow.has_answered(vote, answers, request.prev_log_id);
        tokio::select! {
            biased;
            own = answer_of(own) => own,
            _ = flow.wait_for(is_answered) => Ok(Response::Success),
        }
    }

    /// What was committed since the last message goes by itself where the entries have gone already.
    fn tell_committed(self: &Arc<Self>, request: &AppendEntriesRequest<Types>) {
        if self.flow.borrow().told < request.leader_commit {
            let news = AppendEntriesRequest { entries: Vec::new(), ..request.clone() };
            // Nobody waits for the answer: the next message tells it again.
            let _told = self.send(&news);
        }
    }

    /// Waits until some of the entries that were sent ahead are held; `None` if they were not, or if nobody can tell what
    /// became of them.
    async fn held(&self, vote: Vote, previous: Option<LogId>, last: LogId) -> Option<Response> {
        let mut flow = self.flow.subscribe();
        let is_decided =
            |flow: &Flow| flow.higher.is_some() || flow.matched > previous || !flow.covers(vote, last);
        let flow = flow.wait_for(is_decided).await.ok()?;
        flow.held(vote, previous, last)
    }

    /// Sends what the library asks for. It goes on if nobody waits for its answer any more: its end is noted.
    fn send(self: &Arc<Self>, request: &AppendEntriesRequest<Types>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let message = match convert::append_request_to_wire(self.to, request) {
            Ok(message) => message,
            Err(error) => {
                let _waits = reply.send(Err(failed(&error)));
                return answer;
            }
        };
        let bytes: usize = message.entries.iter().map(|entry| entry.len()).sum();
        if bytes > bounds::APPEND_MAX_BYTES && message.entries.len() > 1 {
            let half = (message.entries.len() / 2) as u64;
            let _waits = reply.send(Err(RPCError::PayloadTooLarge(PayloadTooLarge::new_entries_hint(half))));
            return answer;
        }
        let last = request.entries.last().map(|entry| entry.log_id);
        self.flow.send_modify(|flow| {
            flow.sent = last.or(flow.sent);
            flow.told = flow.told.max(request.leader_commit);
        });
        let kind = if last.is_some() { "asked" } else { "beat" };
        metrics::counter!("hearth_directory_appends_total", "sent" => kind).increment(1);
        let (lane, vote, last) = (self.clone(), request.vote, last.or(request.prev_log_id));
        tokio::spawn(async move {
            let _gone = reply.send(lane.ask(message, vote, last).await);
        });
        answer
    }

    /// One message and its answer.
    async fn ask(
        &self,
        message: wire::AppendRequest,
        vote: Vote,
        last: Option<LogId>,
    ) -> Result<Response, Failed> {
        let left = Instant::now();
        let answer = self.call(message).await;
        if let Ok(answer) = &answer
            && !matches!(answer, Response::HigherVote(_))
        {
            let mut heard = self.heard.lock();
            let known = heard.entry(self.to.replica).or_insert((vote, left));
            let (term, before) = (known.0.leader_id().term, known.1);
            if term < vote.leader_id().term || (term == vote.leader_id().term && before < left) {
                *known = (vote, left);
            }
        }
        self.flow.send_modify(|flow| flow.answered(vote, last, answer.as_ref().ok()));
        answer
    }

    async fn call(&self, message: wire::AppendRequest) -> Result<Response, Failed> {
        let patience = Duration::from_millis(bounds::APPEND_ANSWER_MS);
        let mut client = self.client()?;
        let reply = match timeout(patience, client.append(message)).await {
            Ok(reply) => reply.map_err(|status| failed(&status))?,
            Err(late) => return Err(failed(&late)),
        };
        convert::append_reply(reply.into_inner()).map_err(|status| failed(&status))
    }
}

async fn answer_of(answer: Answer) -> Result<Response, Failed> {
    match answer.await {
        Ok(answer) => answer,
        Err(_) => Err(failed(&AnyError::error("the process stops"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    fn at(term: u64, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(term, ReplicaId::new(1)), index)
    }

    fn leader(term: u64) -> Vote {
        Vote::new_committed(term, ReplicaId::new(1))
    }

    fn fresh(term: u64, index: u64) -> Fresh {
        Fresh { previous: at(term, index - 1), last: at(term, index), entries: Vec::new() }
    }

    /// Of a leader in term 1 whose replica holds everything up to entry 5.
    fn flowing() -> Flow {
        let mut flow = Flow::default();
        flow.lead(leader(1), None);
        flow.sent = Some(at(1, 5));
        flow.answered(leader(1), Some(at(1, 5)), Some(&Response::Success));
        flow
    }

    #[test]
    fn entries_go_ahead_only_right_behind_what_was_sent_and_in_the_same_term() {
        let mut flow = flowing();
        assert!(flow.takes(Some(leader(1)), &fresh(1, 6)));
        assert!(!flow.takes(Some(leader(1)), &fresh(1, 7)), "a gap");
        assert!(!flow.takes(Some(leader(2)), &fresh(1, 6)), "the library has not spoken in that term");
        assert!(!flow.takes(None, &fresh(1, 6)), "it does not lead");
        flow.ahead = bounds::APPENDS_AHEAD_MAX;
        assert!(!flow.takes(Some(leader(1)), &fresh(1, 6)), "too many are under way");
        flow.ahead = 0;
        flow.answered(leader(1), None, Some(&Response::HigherVote(leader(2))));
        assert!(!flow.takes(Some(leader(1)), &fresh(1, 6)), "it leads no more");
    }

    #[test]
    fn what_went_wrong_leaves_the_next_word_to_the_library() {
        for wrong in [None, Some(Response::Conflict), Some(Response::PartialSuccess(Some(at(1, 5))))] {
            let mut flow = flowing();
            flow.sent = Some(at(1, 7));
            flow.answered(leader(1), Some(at(1, 6)), wrong.as_ref());
            assert!(!flow.covers(leader(1), at(1, 6)) && flow.covers(leader(1), at(1, 5)));
            assert!(!flow.takes(Some(leader(1)), &fresh(1, 8)));
        }
    }

    #[test]
    fn the_library_is_told_of_what_is_held_before_all_of_it_is() {
        let mut flow = flowing();
        flow.sent = Some(at(1, 8));
        let told = |flow: &Flow| flow.held(leader(1), Some(at(1, 5)), at(1, 8));
        assert_eq!(told(&flow), None);
        flow.answered(leader(1), Some(at(1, 6)), Some(&Response::Success));
        assert_eq!(told(&flow), Some(Response::PartialSuccess(Some(at(1, 6)))));
        flow.answered(leader(1), Some(at(1, 8)), Some(&Response::Success));
        assert_eq!(told(&flow), Some(Response::Success));
        assert_eq!(flow.held(leader(2), None, at(1, 8)), None);
        flow.answered(leader(1), None, Some(&Response::HigherVote(leader(2))));
        assert_eq!(told(&flow), Some(Response::HigherVote(leader(2))));
    }

    #[test]
    fn an_answer_to_another_message_is_none_to_one_that_says_more() {
        let mut flow = flowing();
        let before = flow.answers;
        flow.answered(leader(1), None, Some(&Response::Conflict));
        assert!(flow.has_answered(leader(1), before, Some(at(1, 5))), "what is held stays held");
        assert!(!flow.has_answered(leader(1), before, Some(at(1, 6))), "that may be missing there");
        assert!(!flow.has_answered(leader(1), flow.answers, Some(at(1, 5))), "nothing was answered since");
        assert!(!flow.has_answered(leader(2), before, Some(at(1, 5))), "it was another leader's");
    }

    #[test]
    fn an_answer_of_another_term_says_nothing() {
        let mut flow = flowing();
        flow.lead(leader(2), None);
        flow.answered(leader(1), Some(at(1, 6)), Some(&Response::Success));
        assert_eq!((flow.matched, flow.answers), (None, 0));
        assert!(!flow.covers(leader(2), at(1, 5)), "what was matched for another leader");
    }
}
