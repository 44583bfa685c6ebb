//! Makes the next segment while the writer still fills this one.

use super::segment::Segment;
use crate::{StoreError, files::Files};
use parking_lot::{Condvar, Mutex};
use std::{sync::Arc, thread::JoinHandle};
use types::StoreId;

#[derive(Debug)]
enum Slot {
    /// This one is to be made.
    Wanted(u32),
    Making,
    Ready(Arc<Segment>),
    Failed(u32, StoreError),
    Stop,
}

#[derive(Debug)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

/// The thread that prepares one segment ahead.
#[derive(Debug)]
pub(crate) struct Preparer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Starts with the segment that comes next: one that is there already, or a number to make.
    pub(crate) fn start(
        files: Arc<dyn Files>,
        store: StoreId,
        segment_bytes: u32,
        next: Result<Arc<Segment>, u32>,
    ) -> std::io::Result<Self> {
        let slot = match next {
            Ok(segment) => Slot::Ready(segment),
            Err(number) => Slot::Wanted(number),
        };
        let shared = Arc::new(Shared { slot: Mutex::new(slot), changed: Condvar::new() });
        let run = {
            let shared = shared.clone();
            move || run(&shared, |number| Segment::create(&*files, store, number, segment_bytes))
        };
        let thread = std::thread::Builder::new().name("log-prepare".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The next segment, waiting for it if need be; the one behind it is begun.
    ///
    /// # Errors
    /// Why it could not be made; after `Full` it is tried again at the next call.
    pub(crate) fn take(&self) -> Result<Arc<Segment>, StoreError> {
        let mut slot = self.shared.slot.lock();
        if let Slot::Failed(number, _) = *slot {
            self.set(&mut slot, Slot::Wanted(number));
        }
        loop {
            match &*slot {
                Slot::Ready(segment) => {
                    let segment = segment.clone();
                    self.set(&mut slot, Slot::Wanted(segment.number + 1));
                    return Ok(segment);
                }
                Slot::Failed(_, error) => return Err(error.clone()),
                Slot::Stop => return Err(super::errors::closed("the store is being dropped")),
                Slot::Wanted(_) | Slot::Making => self.shared.changed.wait(&mut slot),
            }
        }
    }

    /// Waits until the next segment is there, or could not be made.
    pub(crate) fn settle(&self) {
        let mut slot = self.shared.slot.lock();
        while matches!(*slot, Slot::Wanted(_) | Slot::Making) {
            self.shared.changed.wait(&mut slot);
        }
    }

    fn set(&self, slot: &mut Slot, to: Slot) {
        *slot = to;
        self.shared.changed.notify_all();
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.set(&mut self.shared.slot.lock(), Slot::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, make: impl Fn(u32) -> Result<Arc<Segment>, StoreError>) {
    let mut slot = shared.slot.lock();
    loop {
        match *slot {
            Slot::Wanted(number) => {
                *slot = Slot::Making;
                drop(slot);
                let made = make(number);
                slot = shared.slot.lock();
                if matches!(*slot, Slot::Making) {
                    *slot = match made {
                        Ok(segment) => Slot::Ready(segment),
                        Err(error) => Slot::Failed(number, error),
                    };
                }
                shared.changed.notify_all();
            }
            Slot::Stop => return,
            Slot::Making | Slot::Ready(_) | Slot::Failed(..) => shared.changed.wait(&mut slot),
        }
    }
}
