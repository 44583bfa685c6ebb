//! What of an archive is being put back: a plain state machine for a run of its records.
//!
//! ```text
//!   read ─► update                ─► nothing to do ─┐
//!       ├─► creation              ─► refused       ─┤
//!       └─► message, deletion     ─► open ─► offer ─┼─► salvaged ─┐   a prefix of settled records becomes
//!                                     ▲  ▲          ├─► refused  ─┼─► a step, which the follower notes
//!                                     │  └── again ─┘             │   durably before the next run is read
//!                                     └───────── crash ◄──────────┘
//! ```
//!
//! Invariants:
//! - A record is settled only by an answer that says so: `replicated` again, or refused for good.
//! - A step names records without a hole, from where the last step ended.
//! - Offers of one log go out in the order of the archive, and all of them to one home at a time.
//!
//! Nothing here outlives a crash, and nothing needs to: records that were put back and not yet noted are
//! offered again, and their home finds them by their message ids; those that were refused are refused again.

use bytes::Bytes;
use proto::node as wire;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use types::{
    Body, Code, EntryBody, LogId, Lsn, NodeId, PartitionId, PinSegment, account::AccountChange,
    chat::ChatChange,
};

/// Where a log is written now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pinned {
    To(PinSegment),
    /// It has no pin: nobody writes it, nor will.
    Nowhere,
}

/// To whom offers go, in one request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Addressee {
    pub(crate) home: NodeId,
    pub(crate) partition: PartitionId,
}

/// One record on its way to a home.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offer {
    pub(crate) lsn: Lsn,
    pub(crate) offer: wire::SalvageOffer,
}

/// What a home answered, or that it did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Salvaged,
    Refused(String),
    Again,
}

/// A run of settled records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) after: Lsn,
    pub(crate) through: Lsn,
    pub(crate) salvaged: u64,
    pub(crate) refused: Vec<(Lsn, String)>,
}

#[derive(Debug)]
enum State {
    Open { log: LogId, record: Bytes, targets: Vec<wire::SalvageTarget> },
    NotPutBack,
    Salvaged,
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window {
    /// Everything up to here is noted, or about to be.
    after: Lsn,
    /// The record of LSN n stands at n − first.
    first: Lsn,
    records: VecDeque<State>,
}

/// What an archive holds is not what its follower said.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPage {
    #[error("the archive goes on at lsn {found}, not {expected}")]
    Hole { expected: Lsn, found: Lsn },
    #[error(transparent)]
    Malformed(#[from] proto::Malformed),
}

impl Window {
    /// A run that begins at `first`, read when everything up to `after` was settled.
    ///
    /// # Errors
    /// [`BadPage`] where records are missing or cannot be read.
    pub(crate) fn open(after: Lsn, first: Lsn, page: Vec<wire::ArchivedRecord>) -> Result<Self, BadPage> {
        let mut records = VecDeque::with_capacity(page.len());
        for (expected, archived) in (first.get()..).zip(page) {
            let record = proto::decode_record(archived.record.clone())?;
            if record.lsn.get() != expected {
                return Err(BadPage::Hole { expected: Lsn::new(expected), found: record.lsn });
            }
            let (log, targets) = (record.log, archived.targets);
            records.push_back(match record.body {
                Body::Update(_) => State::NotPutBack,
                Body::Entry(entry) => match entry.body {
                    EntryBody::Created { .. } => {
                        State::Refused(format!("control: the creation of {log} was never acked"))
                    }
                    EntryBody::Account(change) if !matches!(*change, AccountChange::DevicesRevoked(_)) => {
                        State::Refused(format!("control: a change of account {log} was never acked"))
                    }
                    EntryBody::Chat(change) if !takes_away(&change) => {
                        State::Refused(format!("control: a change of chat {log} was never acked"))
                    }
                    EntryBody::Account(_)
                    | EntryBody::Chat(_)
                    | EntryBody::Message { .. }
                    | EntryBody::Deleted { .. }
                    | EntryBody::Erased { .. } => State::Open { log, record: archived.record, targets },
                },
            });
        }
        Ok(Self { after, first, records })
    }

    /// Whether everything in it was settled and told by [`Window::step`].
    pub(crate) fn is_done(&self) -> bool {
        self.records.is_empty()
    }

    /// The logs of what is open.
    pub(crate) fn logs(&self) -> BTreeSet<LogId> {
        let open = |state: &State| match state {
            State::Open { log, .. } => Some(*log),
            _ => None,
        };
        self.records.iter().filter_map(open).collect()
    }

    /// What is open, by whom it is to be offered to. What is pinned nowhere is refused; what has no home, or
    /// whose pin is not known, is left for later.
    pub(crate) fn offers(
        &mut self,
        pins: &HashMap<LogId, Pinned>,
        home_of: impl Fn(PartitionId) -> Option<NodeId>,
    ) -> BTreeMap<Addressee, Vec<Offer>> {
        let mut offers: BTreeMap<Addressee, Vec<Offer>> = BTreeMap::new();
        for (lsn, state) in (self.first.get()..).zip(&mut self.records) {
            let State::Open { log, record, targets } = state else { continue };
            match pins.get(log) {
                None => {}
                Some(Pinned::Nowhere) => {
                    *state = State::Refused(format!("{}: {log} is pinned nowhere", Code::UnknownChat));
                }
                Some(Pinned::To(PinSegment { partition, generation, .. })) => {
                    let Some(home) = home_of(*partition) else { continue };
                    let offer = wire::SalvageOffer {
                        record: record.clone(),
                        targets: targets.clone(),
                        generation: generation.get(),
                    };
                    let to = Addressee { home, partition: *partition };
                    offers.entry(to).or_default().push(Offer { lsn: Lsn::new(lsn), offer });
                }
            }
        }
        offers
    }

    /// Takes the answer to an offer.
    pub(crate) fn take(&mut self, lsn: Lsn, answer: Answer) {
        let at = lsn.get().checked_sub(self.first.get()).and_then(|at| usize::try_from(at).ok());
        let Some(state @ State::Open { .. }) = at.and_then(|at| self.records.get_mut(at)) else { return };
        match answer {
            Answer::Salvaged => *state = State::Salvaged,
            Answer::Refused(why) => *state = State::Refused(why),
            Answer::Again => {}
        }
    }

    /// What is settled without a hole and was not told before.
    pub(crate) fn step(&mut self) -> Option<Step> {
        let (after, mut salvaged, mut refused) = (self.after, 0, Vec::new());
        while let Some(state) = self.records.pop_front_if(|state| !matches!(state, State::Open { .. })) {
            match state {
                State::Salvaged => salvaged += 1,
                State::Refused(why) => refused.push((self.first, why)),
                State::NotPutBack | State::Open { .. } => {}
            }
            self.after = self.first;
            self.first = self.first.plus(1);
        }
        (self.after > after).then_some(Step { after, through: self.after, salvaged, refused })
    }
}

/// Whether a change only takes something away: of what was never acked that alone is put back.
fn takes_away(change: &ChatChange) -> bool {
    match change {
        ChatChange::Members(changes) => changes.iter().all(|change| change.role.is_none()),
        ChatChange::InviteRevoked(_) => true,
        ChatChange::Settings(_) | ChatChange::InviteMade(_) | ChatChange::Joined(_) => false,
    }
}

impl From<wire::SalvageOutcome> for Answer {
    fn from(outcome: wire::SalvageOutcome) -> Self {
        use wire::salvage_outcome::Outcome;
        match outcome.outcome {
            Some(Outcome::Salvaged(_)) => Self::Salvaged,
            Some(Outcome::Refused(wire::Refused { code, message, .. })) => match code.parse::<Code>() {
                Ok(code) if !code.is_retryable() && code != Code::Internal => {
                    Self::Refused(format!("{code}: {message}"))
                }
                // What a newer home means by an unknown code is not taken for the last word.
                _ => Self::Again,
            },
            Some(Outcome::NotHome(_) | Outcome::Unknown(_)) | None => Self::Again,
        }
    }
}
