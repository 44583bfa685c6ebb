//! What waits for the writer, bounded in bytes.

use crate::{
    Append, AppendError, Archive, ArchiveId, Durable, PartitionEnd, Salvage, Settle, StoreError, TailError,
};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;
use types::{Epoch, Lsn, PartitionId};

/// Where an answer goes; a caller that has gone away does not want to know.
pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Append {
        append: Append,
        encoded: Vec<Bytes>,
        bytes: usize,
        reply: Reply<Durable, AppendError>,
    },
    Fence {
        partition: PartitionId,
        epoch: Epoch,
        reply: Reply<PartitionEnd, StoreError>,
    },
    Canary {
        reply: Reply<(), StoreError>,
    },
    Archive {
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
        reply: Reply<Option<Archive>, TailError>,
    },
    Truncate {
        partition: PartitionId,
        obeys: Epoch,
        from: Lsn,
        reply: Reply<PartitionEnd, TailError>,
    },
    Discard {
        archive: ArchiveId,
        reply: Reply<(), StoreError>,
    },
    Settle {
        step: Settle,
        reply: Reply<Salvage, StoreError>,
    },
    /// Go on in the next segment, so that the one written to can be rewritten.
    Rotate {
        reply: Reply<(), StoreError>,
    },
    /// The owner's wish to end.
    Close {
        reply: Reply<(), StoreError>,
    },
}

impl Request {
    const fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            _ => 0,
        }
    }

    /// Whether it needs a group of its own.
    pub(crate) const fn stands_alone(&self) -> bool {
        !matches!(self, Self::Append { .. } | Self::Fence { .. } | Self::Canary { .. })
    }

    pub(crate) fn refuse(self, error: StoreError) {
        match self {
            Self::Append { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Archive { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Truncate { reply, .. } => drop(reply.send(Err(error.into()))),
            Self::Fence { reply, .. } => drop(reply.send(Err(error))),
            Self::Canary { reply } | Self::Discard { reply, .. } | Self::Rotate { reply } => {
                drop(reply.send(Err(error)));
            }
            Self::Settle { reply, .. } => drop(reply.send(Err(error))),
            Self::Close { reply } => drop(reply.send(Ok(()))),
        }
    }
}

/// Requests in the order of the calls.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    /// The writer sleeps, and wants to be woken.
    idle: bool,
    /// Why nothing more is taken.
    closed: Option<Arc<str>>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), bytes_max }
    }

    /// Puts a request behind the others, or refuses it.
    pub(crate) fn push(&self, request: Request) {
        let mut waiting = self.waiting.lock();
        if let Some(reason) = waiting.closed.clone() {
            drop(waiting);
            return request.refuse(StoreError::Closed { reason });
        }
        let bytes = waiting.bytes;
        if bytes + request.bytes() > self.bytes_max
            && let Request::Append { reply, .. } = request
        {
            drop(waiting);
            return drop(reply.send(Err(AppendError::Busy { bytes })));
        }
        waiting.bytes += request.bytes();
        waiting.requests.push_back(request);
        if std::mem::take(&mut waiting.idle) {
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// Takes the requests of one group: as many as fit into `bytes_max`, at least one, or one that stands
    /// alone. Waits while there is none; `None` when the queue was closed.
    pub(crate) fn take(&self, bytes_max: usize, into: &mut Vec<Request>) -> Option<()> {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() {
            if waiting.closed.is_some() {
                return None;
            }
            waiting.idle = true;
            self.filled.wait(&mut waiting);
        }
        let mut bytes = 0;
        while let Some(next) = waiting.requests.front() {
            let fits = into.is_empty() || (!next.stands_alone() && bytes + next.bytes() <= bytes_max);
            let closed_behind = into.first().is_some_and(Request::stands_alone);
            if !fits || closed_behind {
                break;
            }
            bytes += next.bytes();
            into.extend(waiting.requests.pop_front());
        }
        waiting.bytes -= bytes;
        Some(())
    }

    /// Takes nothing more; what waits is refused.
    pub(crate) fn close(&self, reason: &Arc<str>) {
        let refused = {
            let mut waiting = self.waiting.lock();
            waiting.closed.get_or_insert_with(|| reason.clone());
            waiting.bytes = 0;
            std::mem::take(&mut waiting.requests)
        };
        self.filled.notify_all();
        for request in refused {
            request.refuse(StoreError::Closed { reason: reason.clone() });
        }
    }

    /// Why nothing more is taken, if so.
    pub(crate) fn closed(&self) -> Option<Arc<str>> {
        self.waiting.lock().closed.clone()
    }
}
