//! The writer: the one thread that appends to the segments.
//!
//! ```text
//!   queue ─► stage ─► one write ─► one sync ─► publish ─► acks, in order
//!              │          │            │
//!           refusals     Full:       failed: the store closes,
//!           at once      cut back    all under way is indeterminate
//! ```
//!
//! It never waits for more to come: a group is what was queued while the one before it was synced.

use super::{
    core::Core,
    errors::{io_error, is_full},
    frame::Kind,
    group::{Group, SMALL_FRAME_BYTES},
    prepare::Preparer,
    queue::Request,
    rows::FoldPosition,
    segment::{SEGMENT_HEADER_BYTES, Segment, sync_error},
};
use crate::{StoreError, check::Checker};
use std::{sync::Arc, time::Instant};
use types::PartitionId;

/// The fold may fall behind by so many times what it folds at once before the writer waits for it.
const FOLD_BEHIND_MAX: usize = 4;

/// Where the next frame goes.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) at: u32,
    /// The last group written.
    pub(crate) group: u64,
}

/// The writer's own.
pub(crate) struct Writer {
    pub(crate) core: Arc<Core>,
    preparer: Preparer,
    tail: Tail,
    group: Group,
    checker: Checker,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>, preparer: Preparer, tail: Tail) -> Self {
        Self { core, preparer, tail, group: Group::default(), checker: Checker::default() }
    }

    /// Serves the queue until it is closed.
    pub(crate) fn run(mut self) {
        let mut requests = Vec::new();
        while self.core.queue.take(self.core.config.group_bytes, &mut requests).is_some() {
            if requests.first().is_some_and(Request::stands_alone) {
                for request in requests.drain(..) {
                    self.alone(request);
                }
            } else {
                self.commit(&mut requests);
            }
        }
    }

    fn alone(&mut self, request: Request) {
        match request {
            Request::Archive { partition, obeys, from, reply } => {
                drop(reply.send(self.archive(partition, obeys, from)));
            }
            Request::Truncate { partition, obeys, from, reply } => {
                drop(reply.send(self.truncate(partition, obeys, from)));
            }
            Request::Settle { step, reply } => drop(reply.send(self.settle(&step))),
            Request::Discard { archive, reply } => drop(reply.send(self.discard(archive))),
            Request::Rotate { reply } => drop(reply.send(self.rotate())),
            Request::Close { reply } => {
                self.end();
                drop(reply.send(Ok(())));
            }
            other => other.refuse(super::errors::closed("the request is not one that stands alone")),
        }
    }

    /// Writes all requests in one group.
    fn commit(&mut self, requests: &mut Vec<Request>) {
        let needed: usize = requests.iter().map(room).sum();
        let ready = self.make_room(needed).and_then(|()| self.keep_fold_near());
        if let Err(error) = ready {
            let error = self.fatal_unless_full(error);
            for request in requests.drain(..) {
                request.refuse(error.clone());
            }
            return;
        }
        self.group.begin(self.tail.segment.number, self.tail.at, self.tail.group + 1);
        {
            let core = self.core.clone();
            let view = core.view.read();
            for request in requests.drain(..) {
                self.group.stage(&core, &view, &mut self.checker, request);
            }
        }
        if !self.group.seal() {
            // Fences that rise nothing have nothing to wait for.
            self.group.acknowledge();
            return;
        }
        match self.write_and_publish() {
            Ok(()) => self.group.acknowledge(),
            Err(error) => self.group.refuse(&error),
        }
    }

    fn write_and_publish(&mut self) -> Result<(), StoreError> {
        self.write()?;
        if acks_before_sync(&self.core) {
            self.group.acknowledge();
        }
        self.sync()?;
        let mut view = self.core.view.write();
        let published = self.core.publish(&mut view, &self.group.records, &mut self.group.logs);
        for (partition, epoch) in &self.group.fences {
            view.publish_fence(*partition, *epoch);
        }
        self.advance(&mut view.position);
        metrics::counter!("hearth_log_records").increment(self.group.records.len() as u64);
        metrics::gauge!("hearth_log_unfolded_records").set(view.active.records as f64);
        let wants_fold = view.active.records >= self.core.config.fold_records && view.frozen.is_none();
        drop(view);
        if wants_fold {
            self.core.want_fold();
        }
        published.map_err(|error| self.core.fail(&error))
    }

    /// Puts one frame into a group of its own and syncs it. The caller shows what it changes.
    pub(crate) fn write_alone(
        &mut self,
        kind: Kind,
        partition: PartitionId,
        payload: &[u8],
    ) -> Result<FoldPosition, StoreError> {
        let needed = super::frame::stride(payload.len());
        self.make_room(needed).map_err(|error| self.fatal_unless_full(error))?;
        self.group.begin(self.tail.segment.number, self.tail.at, self.tail.group + 1);
        self.group.push(kind, partition, payload);
        self.group.seal();
        self.write()?;
        self.sync()?;
        let mut position = self.core.view.read().position;
        self.advance(&mut position);
        Ok(position)
    }

    /// Writes the group behind the tail. Out of room it takes back what it wrote, and the store goes on.
    fn write(&mut self) -> Result<(), StoreError> {
        let Tail { segment, at, .. } = &self.tail;
        let Err(error) = segment.file.write_at(u64::from(*at), &self.group.bytes) else { return Ok(()) };
        let refusal = io_error("cannot write", &segment.name, &error);
        if !is_full(&error) {
            return Err(self.core.fail(&refusal));
        }
        match segment.file.set_len(u64::from(*at)) {
            Ok(()) => Err(refusal),
            Err(error) => Err(self.core.fail(&io_error("cannot cut", &segment.name, &error))),
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let segment = &self.tail.segment;
        let began = Instant::now();
        segment.file.sync_data().map_err(|error| self.core.fail(&sync_error(&segment.name, &error)))?;
        metrics::histogram!("hearth_log_sync_seconds").record(began.elapsed());
        metrics::counter!("hearth_log_segment_bytes").increment(self.group.bytes.len() as u64);
        self.tail.at += self.group.bytes.len() as u32;
        self.tail.group += 1;
        Ok(())
    }

    fn advance(&self, position: &mut FoldPosition) {
        position.segment = self.tail.segment.number;
        position.origin = self.tail.at;
        position.group = self.tail.group;
    }

    /// Goes on in the next segment where this one has too little room left.
    fn make_room(&mut self, needed: usize) -> Result<(), StoreError> {
        let full = self.tail.at as usize + needed > self.core.config.segment_bytes as usize;
        if full && self.tail.at > SEGMENT_HEADER_BYTES { self.next_segment() } else { Ok(()) }
    }

    fn next_segment(&mut self) -> Result<(), StoreError> {
        let next = self.preparer.take()?;
        self.core.segments.insert(next.clone());
        (self.tail.segment, self.tail.at) = (next, SEGMENT_HEADER_BYTES);
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        if self.tail.at == SEGMENT_HEADER_BYTES {
            return Ok(());
        }
        self.next_segment().map_err(|error| self.fatal_unless_full(error))
    }

    fn keep_fold_near(&self) -> Result<(), StoreError> {
        self.core.wait_for_fold(self.core.config.fold_records.saturating_mul(FOLD_BEHIND_MAX))
    }

    /// Being out of room passes; all else closes the store.
    pub(crate) fn fatal_unless_full(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Full { .. }) { error } else { self.core.fail(&error) }
    }

    /// Ends the store in order: a last group proves, at the next opening, that the one before it was
    /// written whole.
    fn end(&mut self) {
        let ended = self.write_alone(Kind::Canary, PartitionId::new(0), &[]).and_then(|position| {
            self.core.view.write().position = position;
            self.core.fold_all()
        });
        if let Err(error) = ended {
            tracing::warn!(store = %self.core.store, %error, "the log store closes unfolded");
        }
        // With one behind it the last segment is missed too, should it get lost together with the fold.
        self.preparer.settle();
        self.core.queue.close(&"its owner closed it".into());
    }
}

/// How many bytes of a segment a request may need.
fn room(request: &Request) -> usize {
    match request {
        Request::Append { bytes, .. } => *bytes,
        _ => SMALL_FRAME_BYTES,
    }
}

#[cfg(feature = "test-switches")]
fn acks_before_sync(core: &Core) -> bool {
    core.config.switches.ack_before_sync
}

#[cfg(not(feature = "test-switches"))]
const fn acks_before_sync(_: &Core) -> bool {
    false
}
