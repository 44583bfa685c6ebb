//! A model home and a model follower that do what `node.proto` says, in memory.

use super::super::{Fetch, Fetched, Followed, Outcome, Reply, Say};
use bytes::Bytes;
use prost::Message as _;
use proto::{log::Record, node::Batch};
use std::{collections::BTreeMap, time::Duration};
use types::{Epoch, Lsn, PartitionPosition};

/// Records by LSN - 1.
pub(super) type Log = Vec<Record>;

pub(super) fn last(log: &[Record]) -> PartitionPosition {
    log.last().map_or(PartitionPosition::ZERO, position)
}

fn position(record: &Record) -> PartitionPosition {
    PartitionPosition::new(Epoch::new(record.epoch), Lsn::new(record.lsn))
}

/// What each epoch's home has written, for the checks. In one epoch a log only grows.
pub(super) type Eras = BTreeMap<Epoch, Log>;

pub(super) fn append(log: &mut Log, epoch: Epoch, eras: &mut Eras) {
    let lsn = log.len() as u64 + 1;
    let record =
        Record { lsn, epoch: epoch.get(), accepted_at_ms: lsn * 1_000 + epoch.get(), ..Record::default() };
    log.push(record);
    eras.insert(epoch, log.clone());
}

#[derive(Debug)]
struct Session {
    sent: usize,
    last: usize,
    credit_bytes: usize,
    watermark: Option<u64>,
}

/// A node that may think itself home.
#[derive(Debug, Default)]
pub(super) struct HomeNode {
    pub(super) log: Log,
    pub(super) home_in: Option<Epoch>,
    session: Option<Session>,
    pub(super) matched: u64,
}

impl HomeNode {
    pub(super) fn become_home(&mut self, epoch: Epoch) {
        self.home_in = Some(epoch);
        self.session = None;
        self.matched = 0;
    }

    /// Answers `not_home` to what it serves.
    pub(super) fn resign(&mut self) -> Option<Fetched> {
        let epoch = self.home_in.take()?;
        self.session.take().map(|_| Fetched { epoch, reply: Reply::NotHome })
    }

    pub(super) fn disconnect(&mut self) {
        self.session = None;
    }

    pub(super) fn take(&mut self, fetch: Fetch, follower: &Follower) -> Option<Fetched> {
        let Some(epoch) = self.home_in.filter(|epoch| fetch.epoch <= *epoch) else {
            let epoch = self.home_in.unwrap_or(Epoch::ZERO);
            return Some(Fetched { epoch, reply: Reply::NotHome });
        };
        if fetch.epoch < epoch {
            return Some(Fetched { epoch, reply: Reply::Batch(Batch::default()) });
        }
        if self.session.is_none() && !fetch.restart {
            return None;
        }
        let at = usize::try_from(fetch.last.lsn.get()).expect("short logs");
        if at > 0 && self.log.get(at - 1).map(position) != Some(fetch.last) {
            self.session = None;
            let shared = |record: &&Record| {
                record.epoch <= fetch.last.epoch.get() && record.lsn <= fetch.last.lsn.get()
            };
            let common = self.log.iter().rfind(shared).map_or(PartitionPosition::ZERO, position);
            return Some(Fetched { epoch, reply: Reply::Diverged { common, judged: Some(fetch.last) } });
        }
        if follower.fence <= epoch {
            assert_eq!(&follower.log[..at], &self.log[..at], "a match that the follower does not hold");
        }
        self.matched = fetch.last.lsn.get();
        let credit_bytes = fetch.credit_bytes as usize;
        match &mut self.session {
            Some(session) if !fetch.restart => {
                session.last = at;
                session.sent = session.sent.max(at);
                session.credit_bytes = credit_bytes;
            }
            session => *session = Some(Session { sent: at, last: at, credit_bytes, watermark: None }),
        }
        None
    }

    /// The next batch that its credit allows.
    pub(super) fn push(&mut self, most: usize) -> Option<Fetched> {
        let epoch = self.home_in?;
        let session = self.session.as_mut()?;
        let mut under_way: usize = bytes(&self.log[session.last..session.sent]);
        let mut fitting = 0;
        for record in self.log[session.sent..].iter().take(most) {
            if under_way > 0 && under_way + record.encoded_len() > session.credit_bytes {
                break;
            }
            under_way += record.encoded_len();
            fitting += 1;
        }
        let records = &self.log[session.sent..session.sent + fitting];
        if records.is_empty() && session.watermark == Some(self.matched) {
            return None;
        }
        session.sent += records.len();
        session.watermark = Some(self.matched);
        let batch = Batch {
            records: records.iter().map(|record| record.encode_to_vec().into()).collect(),
            watermark: self.matched,
            end: Some(last(&self.log).into()),
            sent_at_ms: 0,
            first_lsn: records.first().map_or(0, |record| record.lsn),
            epochs: proto::epoch_runs(records.iter().map(|record| Epoch::new(record.epoch))),
        };
        Some(Fetched { epoch, reply: Reply::Batch(batch) })
    }
}

fn decode(record: &Bytes) -> Record {
    Record::decode(record.clone()).expect("a record")
}

pub(super) fn bytes(records: &[Record]) -> usize {
    records.iter().map(Record::encoded_len).sum()
}

/// Keeps a copy, and checks all that it is told.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) log: Log,
    pub(super) fence: Epoch,
    /// With the epoch that it was said in.
    pub(super) watermark: (Epoch, u64),
    /// In which epoch its home has found the copy to be a part of its own.
    pub(super) matched_in: Epoch,
}

impl Follower {
    pub(super) fn take(&mut self, epoch: Epoch, say: Say, eras: &Eras) -> Followed {
        if epoch < self.fence {
            return self.answer(Outcome::Fenced);
        }
        self.fence = epoch;
        match say {
            Say::Probe => {}
            Say::Batch { batch, .. } => {
                assert!(batch.end.is_some(), "no match is told by a call to a higher epoch");
                self.matched_in = epoch;
                let next = self.log.len() as u64 + 1;
                let records: Vec<Record> = batch.records.iter().map(decode).collect();
                let positions = records.iter().map(|record| Epoch::new(record.epoch));
                assert_eq!(batch.epochs, proto::epoch_runs(positions), "the batch says other epochs");
                assert!(records.first().is_none_or(|record| record.lsn == batch.first_lsn));
                if records.first().is_some_and(|record| record.lsn != next) {
                    return self.answer(Outcome::Gap);
                }
                self.log.extend(records);
                self.watermark = self.watermark.max((epoch, batch.watermark));
                let home = eras.get(&epoch).expect("an epoch that was homed");
                assert_eq!(self.log, home[..self.log.len()], "the copy is not a prefix of its home");
            }
            Say::Truncate { judged, .. } if judged != last(&self.log) => return self.answer(Outcome::Gap),
            Say::Truncate { common, .. } => self.truncate(epoch, common, eras),
        }
        self.answer(Outcome::Done)
    }

    fn truncate(&mut self, epoch: Epoch, common: PartitionPosition, eras: &Eras) {
        let kept = self
            .log
            .iter()
            .take_while(|record| record.epoch <= common.epoch.get() && record.lsn <= common.lsn.get())
            .count();
        let home = eras.get(&epoch).expect("an epoch that was homed");
        if let Some(first_cut) = self.log.get(kept) {
            assert_ne!(home.get(kept), Some(first_cut), "a shared record is cut off");
        }
        self.log.truncate(kept);
    }

    pub(super) fn refuse(&self) -> Followed {
        let retry_after = Some(Duration::from_millis(150));
        self.answer(Outcome::Refused { why: "busy".to_owned(), retry_after })
    }

    fn answer(&self, outcome: Outcome) -> Followed {
        Followed { fence: self.fence, last: last(&self.log), outcome }
    }
}
