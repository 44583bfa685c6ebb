//! Reads of pins, gathered: whoever asks for a log's pin while the directory is being asked waits for the next
//! request, which asks for the pins of all who wait.
//!
//! Invariants:
//! - An answer comes from a request that was sent after it was asked for.
//! - However many ask, and for whatever logs, [`REQUESTS_MAX`] requests of this node are under way at the
//!   directory, which also renews the leases: strangers name as many logs that are not there as they like.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    sync::Arc,
};
use tokio::sync::oneshot;
use types::{Code, LogId, Pin, Refusal, limits};

/// Requests that are under way at once.
const REQUESTS_MAX: usize = 4;
/// Logs that may be waited for.
const WAITING_MAX: usize = 65_536;
/// When whoever found no room should ask again, in ms.
const OVERLOADED_RETRY_MS: u64 = 500;

/// The pins of the logs that were asked for, as far as they have one.
pub(super) type Answer = Result<HashMap<LogId, Pin>, Refusal>;
type Asker = oneshot::Sender<Result<Option<Pin>, Refusal>>;

/// See the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct PinReads(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    askers: HashMap<LogId, Vec<Asker>>,
    /// Whose turn is when: the keys of `askers`.
    order: VecDeque<LogId>,
    under_way: usize,
}

impl PinReads {
    /// The pin of a log. `ask` asks the directory for the pins of many; dropping the future takes nothing back.
    ///
    /// # Errors
    /// Those of `ask`; `overloaded` where too many logs are waited for.
    pub(super) async fn get<A, F>(&self, log: LogId, ask: A) -> Result<Option<Pin>, Refusal>
    where
        A: Fn(Vec<LogId>) -> F + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let (asker, answer) = oneshot::channel();
        if self.put(log, asker)? {
            tokio::spawn(self.clone().run(ask));
        }
        let gone = || Refusal::new(Code::DirectoryUnavailable, "the node is going down");
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Notes who asks; whether a request is to be begun for it.
    fn put(&self, log: LogId, asker: Asker) -> Result<bool, Refusal> {
        let waiting = &mut *self.0.lock();
        let has_room = waiting.order.len() < WAITING_MAX;
        match waiting.askers.entry(log) {
            Entry::Occupied(mut others) => others.get_mut().push(asker),
            Entry::Vacant(first) if has_room => {
                first.insert(vec![asker]);
                waiting.order.push_back(log);
            }
            Entry::Vacant(_) => {
                let why = format!("the pins of {WAITING_MAX} logs are being read");
                return Err(Refusal::new(Code::Overloaded, why).retry_after_ms(OVERLOADED_RETRY_MS));
            }
        }
        let begins = waiting.under_way < REQUESTS_MAX;
        waiting.under_way += usize::from(begins);
        Ok(begins)
    }

    /// Asks for all that wait, until nobody does.
    async fn run<A, F>(self, ask: A)
    where
        A: Fn(Vec<LogId>) -> F + Send,
        F: Future<Output = Answer> + Send + 'static,
    {
        while let Some(asked) = self.take() {
            let answer = ask(asked.iter().map(|(log, _)| *log).collect()).await;
            for (log, askers) in asked {
                let pin = answer.as_ref().map(|pins| pins.get(&log).cloned()).map_err(Clone::clone);
                for asker in askers {
                    // Who has gone needs no answer.
                    let _ = asker.send(pin.clone());
                }
            }
        }
    }

    /// Takes as many as one request may ask for; `None` ends the run.
    fn take(&self) -> Option<Vec<(LogId, Vec<Asker>)>> {
        let waiting = &mut *self.0.lock();
        let mut asked = Vec::new();
        while asked.len() < limits::PIN_BATCH_MAX
            && let Some(log) = waiting.order.pop_front()
        {
            let askers = waiting.askers.remove(&log).unwrap_or_default();
            if askers.iter().any(|asker| !asker.is_closed()) {
                asked.push((log, askers));
            }
        }
        if asked.is_empty() {
            waiting.under_way -= 1;
            return None;
        }
        Some(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;
    use types::{Generation, Offset, PartitionId, PinSegment};

    fn log(number: u16) -> LogId {
        let mut key = [0; 16];
        key[..2].copy_from_slice(&number.to_be_bytes());
        LogId::group(key)
    }

    fn pin(log: LogId) -> Pin {
        let (generation, partition, first_offset) = (Generation::FIRST, PartitionId::new(1), Offset::FIRST);
        Pin { log, segments: vec![PinSegment { generation, partition, first_offset }] }
    }

    #[tokio::test]
    async fn however_many_ask_few_requests_leave_and_each_is_answered() {
        let (reads, requests) = (PinReads::default(), Arc::new(AtomicUsize::new(0)));
        let ask = {
            let requests = Arc::clone(&requests);
            move |logs: Vec<LogId>| {
                requests.fetch_add(1, Ordering::Relaxed);
                let pinned = logs.into_iter().filter(|asked| *asked != log(7));
                std::future::ready(Ok(pinned.map(|log| (log, pin(log))).collect()))
            }
        };
        let asked = (0..1_500).chain(0..1_500).map(|number| {
            let (reads, ask) = (reads.clone(), ask.clone());
            async move { reads.get(log(number), ask).await }
        });
        let answers = join_all(asked).await;
        for (number, answer) in (0..1_500).chain(0..1_500).zip(answers) {
            let expected = (number != 7).then(|| pin(log(number)));
            assert_eq!(answer, Ok(expected));
        }
        let requests = requests.load(Ordering::Relaxed);
        assert!(requests <= REQUESTS_MAX, "{requests} requests for 1500 logs");
        assert_eq!(reads.0.lock().under_way, 0);
    }

    #[tokio::test]
    async fn whoever_asks_while_a_request_is_under_way_is_answered_by_a_later_one() {
        let (reads, requests) = (PinReads::default(), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let ask = {
            let (requests, gate) = (Arc::clone(&requests), Arc::clone(&gate));
            move |logs: Vec<LogId>| {
                let (requests, gate) = (Arc::clone(&requests), Arc::clone(&gate));
                async move {
                    let is_early = requests.fetch_add(1, Ordering::Relaxed) < REQUESTS_MAX;
                    let _open = gate.acquire().await;
                    Ok(logs.into_iter().filter(|_| !is_early).map(|log| (log, pin(log))).collect())
                }
            }
        };
        let mut early = Vec::new();
        for begun in 1..=REQUESTS_MAX {
            early.push(tokio::spawn({
                let (reads, ask) = (reads.clone(), ask.clone());
                async move { reads.get(log(1), ask).await }
            }));
            while requests.load(Ordering::Relaxed) < begun {
                tokio::task::yield_now().await;
            }
        }
        let late = tokio::spawn({
            let (reads, ask) = (reads.clone(), ask.clone());
            async move { reads.get(log(1), ask).await }
        });
        while reads.0.lock().askers.is_empty() {
            tokio::task::yield_now().await;
        }
        gate.add_permits(REQUESTS_MAX);
        for answer in early {
            assert_eq!(answer.await.expect("it does not fail"), Ok(None));
        }
        assert_eq!(late.await.expect("it does not fail"), Ok(Some(pin(log(1)))), "pinned since");
    }
}
