//! The delivery bus inside a node: a home publishes, sinks take what they can.
//!
//! A sink is bounded and never blocks a home. What does not fit is dropped, and its receiver is told
//! once by [`BusEvent::Lagged`], behind everything that did fit: then each log followed through it is
//! read again from where it stood. The log is the truth; the bus only saves the reading.

use crate::live::{LiveEvent, Seen};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::sync::{Notify, mpsc};
use types::{Epoch, Generation, LogId, PartitionId, Position, Record};

/// The events that a sink holds at most.
pub const SINK_MAX_EVENTS: usize = 8_192;

/// Names a sink within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId(u64);

/// An entry on its way to the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The entry's record; durable at the home.
    pub record: Record,
    /// The era of the entry before it in the log; zero for the first.
    pub previous_era: (Generation, Epoch),
}

/// What a sink receives.
#[derive(Debug, Clone)]
pub enum BusEvent {
    /// A log has a new entry.
    Published(Arc<Published>),
    /// A log is replicated up to here. May skip.
    Replicated {
        /// The log.
        log: LogId,
        /// The last replicated entry.
        position: Position,
    },
    /// Something that concerns those who follow a log now, and is never stored.
    Live(Arc<LiveEvent>),
    /// Users who are watched through this sink are there, or are not.
    Presence(Arc<Vec<Seen>>),
    /// Events were dropped: read each followed log again.
    Lagged,
    /// The log is written elsewhere from this generation on: it must be followed where its pin says.
    Moved {
        /// The log.
        log: LogId,
        /// The generation.
        generation: Generation,
    },
    /// This node is no longer home of the partition in this epoch: its logs must be followed elsewhere.
    Ended {
        /// The partition.
        partition: PartitionId,
        /// The epoch that ended.
        epoch: Epoch,
    },
}

/// The sending half, held by homes.
#[derive(Debug, Clone)]
pub struct BusSink {
    id: SinkId,
    events: mpsc::Sender<BusEvent>,
    lag: Arc<Lag>,
}

/// The receiving half, held by whoever hands the events on.
#[derive(Debug)]
pub struct BusReceiver {
    events: mpsc::Receiver<BusEvent>,
    lag: Arc<Lag>,
}

#[derive(Debug, Default)]
struct Lag {
    dropped: AtomicBool,
    wake: Notify,
}

/// Makes a sink that holds at most `max_events`.
pub fn bus_sink(max_events: usize) -> (BusSink, BusReceiver) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (sender, receiver) = mpsc::channel(max_events);
    let lag = Arc::new(Lag::default());
    let id = SinkId(NEXT.fetch_add(1, Ordering::Relaxed));
    (BusSink { id, events: sender, lag: Arc::clone(&lag) }, BusReceiver { events: receiver, lag })
}

impl BusSink {
    /// Its name.
    pub const fn id(&self) -> SinkId {
        self.id
    }

    /// Whether nobody receives any more.
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }

    /// Hands an event on, or drops it and remembers that. `false` when nobody receives any more.
    pub fn offer(&self, event: BusEvent) -> bool {
        match self.events.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lag.dropped.store(true, Ordering::Release);
                self.lag.wake.notify_one();
                true
            }
        }
    }
}

impl BusReceiver {
    /// The next events, at most `max` of them, into `events`; how many they are. 0 when every sender is gone
    /// and all is read. Cancel-safe.
    pub async fn recv_many(&mut self, events: &mut Vec<BusEvent>, max: usize) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        events.push(first);
        let mut taken = 1;
        while taken < max
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
            taken += 1;
        }
        taken
    }

    /// The next event; `None` when every sender is gone and all is read. Cancel-safe.
    pub async fn recv(&mut self) -> Option<BusEvent> {
        loop {
            if let Ok(event) = self.events.try_recv() {
                return Some(event);
            }
            if self.lag.dropped.swap(false, Ordering::Acquire) {
                return Some(BusEvent::Lagged);
            }
            tokio::select! {
                event = self.events.recv() => return event,
                () = self.lag.wake.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicated(offset: u64) -> BusEvent {
        let mut position = Position::START;
        position.offset = types::Offset::new(offset);
        BusEvent::Replicated { log: LogId::group([1; 16]), position }
    }

    #[tokio::test]
    async fn a_full_sink_tells_of_the_loss_behind_what_fitted() {
        let (sink, mut receiver) = bus_sink(2);
        for offset in 1..=5 {
            assert!(sink.offer(replicated(offset)));
        }
        for expected in 1..=2 {
            let Some(BusEvent::Replicated { position, .. }) = receiver.recv().await else {
                panic!("the events that fitted come first");
            };
            assert_eq!(position.offset.get(), expected);
        }
        assert!(matches!(receiver.recv().await, Some(BusEvent::Lagged)));
        assert!(sink.offer(replicated(6)));
        assert!(matches!(receiver.recv().await, Some(BusEvent::Replicated { .. })));
        drop(sink);
        assert!(receiver.recv().await.is_none());
    }
}
