//! Writes a history down while it happens.
//!
//! One lock orders everything: an event's time is read under it, so that times never go back in the file, and
//! names are given under it. A recorder is cheap to clone and to use from any thread.

use super::{
    BodySum, Device, Event, Fault, Header, History, HistoryError, Kind, Log, Message, Move, Node, Region,
    Session,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use types::{DeviceId, LogId, MessageId, NodeId, RegionId, UserId};
use xxhash_rust::xxh3::Xxh3;

/// What waits to be written to the file, at most.
const BUFFER_BYTES: usize = 1024 * 1024;

/// The clock of a run: µs since it began.
type Clock = Box<dyn Fn() -> u64 + Send>;

/// Records the events of one run.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    header: Header,
    clock: Clock,
    now_us: u64,
    sink: Sink,
    trace: Xxh3,
    events: u64,
    regions: HashMap<RegionId, Region>,
    nodes: HashMap<NodeId, Node>,
    logs: HashMap<LogId, Log>,
    devices: HashMap<(UserId, DeviceId), Device>,
    messages: HashMap<(Log, Device, MessageId), Message>,
    sessions: u32,
    faults: u32,
    moves: u32,
}

enum Sink {
    Memory(Vec<Event>),
    File { path: PathBuf, out: BufWriter<File>, error: Option<io::Error> },
}

impl Recorder {
    /// Records into a file, on a clock that starts now.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn to_file(path: &Path, header: Header) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(b"\n")?;
        let began = Instant::now();
        let clock = move || u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Self::new(header, Box::new(clock), Sink::File { path: path.to_owned(), out, error: None }))
    }

    /// Records into memory, on a clock of the caller's: µs since the run began. A clock that goes back is held.
    pub fn in_memory(header: Header, clock: impl Fn() -> u64 + Send + 'static) -> Self {
        Self::new(header, Box::new(clock), Sink::Memory(Vec::new()))
    }

    fn new(header: Header, clock: Clock, sink: Sink) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            header,
            clock,
            now_us: 0,
            sink,
            trace: Xxh3::new(),
            events: 0,
            regions: HashMap::new(),
            nodes: HashMap::new(),
            logs: HashMap::new(),
            devices: HashMap::new(),
            messages: HashMap::new(),
            sessions: 0,
            faults: 0,
            moves: 0,
        })))
    }

    /// Records what happened just now; answers when that was.
    pub fn record(&self, kind: Kind) -> u64 {
        self.0.lock().record(kind)
    }

    /// Now, in µs on the run's clock.
    pub fn now_us(&self) -> u64 {
        self.0.lock().read_clock()
    }

    /// How many events there are.
    pub fn events(&self) -> u64 {
        self.0.lock().events
    }

    /// A region by its name.
    pub fn region(&self, id: &RegionId) -> Region {
        self.0.lock().region(id)
    }

    /// A node by its name.
    pub fn node(&self, id: &NodeId, region: &RegionId) -> Node {
        let mut inner = self.0.lock();
        if let Some(node) = inner.nodes.get(id) {
            return *node;
        }
        let region = inner.region(region);
        let node = Node(number(inner.nodes.len()));
        inner.nodes.insert(id.clone(), node);
        inner.record(Kind::Node { node, region, id: id.clone() });
        node
    }

    /// A log by its id.
    pub fn log(&self, id: LogId) -> Log {
        let mut inner = self.0.lock();
        if let Some(log) = inner.logs.get(&id) {
            return *log;
        }
        let log = Log(number(inner.logs.len()));
        inner.logs.insert(id, log);
        inner.record(Kind::Log { log, id });
        log
    }

    /// A user's device; `region` counts when it is named first.
    pub fn device(&self, user: &UserId, id: DeviceId, region: &RegionId) -> Device {
        let mut inner = self.0.lock();
        let region = inner.region(region);
        inner.device(user, id, region)
    }

    /// A new session of a device.
    pub fn session(&self, device: Device) -> Session {
        let mut inner = self.0.lock();
        let session = Session(inner.sessions);
        inner.sessions += 1;
        inner.record(Kind::Session { session, device });
        session
    }

    /// A message by its log, device and id.
    pub fn message(&self, log: Log, device: Device, id: MessageId) -> Message {
        self.0.lock().message(log, device, id)
    }

    /// A message as a reader sees it: by the sender's name. A sender of whom nobody has heard is taken to be
    /// in `region`.
    pub fn message_of(
        &self,
        log: Log,
        sender: &UserId,
        device: DeviceId,
        id: MessageId,
        region: Region,
    ) -> Message {
        let mut inner = self.0.lock();
        let device = inner.device(sender, device, region);
        inner.message(log, device, id)
    }

    /// Records that a fault begins.
    pub fn fault_began(&self, what: impl Into<String>, regions: Vec<Region>) -> Fault {
        let mut inner = self.0.lock();
        let fault = Fault(inner.faults);
        inner.faults += 1;
        inner.record(Kind::FaultBegan { fault, what: what.into(), regions });
        fault
    }

    /// Records that a fault is over.
    pub fn fault_ended(&self, fault: Fault) {
        self.record(Kind::FaultEnded { fault });
    }

    /// Records that a planned move begins.
    pub fn move_began(&self, partition: types::PartitionId, from: Node, to: Node) -> Move {
        let mut inner = self.0.lock();
        let moving = Move(inner.moves);
        inner.moves += 1;
        inner.record(Kind::MoveBegan { moving, partition, from, to });
        moving
    }

    /// Records something for people.
    pub fn note(&self, text: impl Into<String>) {
        self.record(Kind::Note { text: text.into() });
    }

    /// A hash of everything so far, times included: two runs with equal hashes went the same way.
    pub fn trace_hash(&self) -> u128 {
        self.0.lock().trace.digest128()
    }

    /// The history so far. A recorder in memory hands it over and starts with none; one that writes to a file
    /// flushes it, and reads the file back.
    ///
    /// # Errors
    /// [`HistoryError`]; the first error of the file, where there was one.
    pub fn finish(&self) -> Result<History, HistoryError> {
        let mut inner = self.0.lock();
        let header = inner.header.clone();
        match &mut inner.sink {
            Sink::Memory(events) => History::new(header, std::mem::take(events)),
            Sink::File { path, out, error } => {
                error.take().map_or_else(|| out.flush(), Err)?;
                History::read(path)
            }
        }
    }
}

impl Inner {
    fn read_clock(&mut self) -> u64 {
        self.now_us = self.now_us.max((self.clock)());
        self.now_us
    }

    fn record(&mut self, kind: Kind) -> u64 {
        let event = Event { at_us: self.read_clock(), kind };
        let at_us = event.at_us;
        let mut line = serde_json::to_vec(&event).expect("an event is plain data");
        line.push(b'\n');
        self.trace.update(&line);
        self.events += 1;
        match &mut self.sink {
            Sink::Memory(events) => events.push(event),
            Sink::File { out, error, .. } => {
                if let Err(cause) = out.write_all(&line) {
                    error.get_or_insert(cause);
                }
            }
        }
        at_us
    }

    fn region(&mut self, id: &RegionId) -> Region {
        if let Some(region) = self.regions.get(id) {
            return *region;
        }
        let region = Region(number(self.regions.len()));
        self.regions.insert(id.clone(), region);
        self.record(Kind::Region { region, id: id.clone() });
        region
    }

    fn device(&mut self, user: &UserId, id: DeviceId, region: Region) -> Device {
        let key = (user.clone(), id);
        if let Some(device) = self.devices.get(&key) {
            return *device;
        }
        let device = Device(number(self.devices.len()));
        self.devices.insert(key, device);
        self.record(Kind::Device { device, region, user: user.clone(), id });
        device
    }

    fn message(&mut self, log: Log, device: Device, id: MessageId) -> Message {
        if let Some(message) = self.messages.get(&(log, device, id)) {
            return *message;
        }
        let message = Message(number(self.messages.len()));
        self.messages.insert((log, device, id), message);
        self.record(Kind::Message { message, log, device, id });
        message
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a history has fewer than 2^32 names of a kind")
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({} events)", self.events())
    }
}

/// A body's hash, for those who only have the bytes.
impl From<&[u8]> for BodySum {
    fn from(body: &[u8]) -> Self {
        Self::of(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Ack, Resends};
    use std::sync::atomic::{AtomicU64, Ordering};
    use types::{Code, Epoch, Generation, Offset, Position};

    fn fill(recorder: &Recorder) {
        let region = RegionId::new("us-east").expect("a name");
        let log = recorder.log(LogId::group([1; 16]));
        let device = recorder.device(&UserId::new("ann").expect("a name"), DeviceId::new(7), &region);
        for number in 0..3 {
            let message = recorder.message(log, device, MessageId::from_bytes([number; 16]));
            let body = BodySum::of(&[number]);
            recorder.record(Kind::Invoke { message, body, after: None, resends: Resends::Never });
            let at = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(u64::from(number) + 2));
            let ack = Ack::Home;
            recorder.record(Kind::Ok { message, at, ack, epoch: None, passed_us: None, accepted_at_ms: 0 });
            recorder.record(Kind::Fail { message, code: Code::HomeUnavailable });
        }
        let fault = recorder.fault_began("killed", vec![Region(0)]);
        recorder.fault_ended(fault);
    }

    #[test]
    fn a_file_reads_back_as_what_was_recorded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.jsonl");
        let header = Header::new("a test", 4, false);
        let recorder = Recorder::to_file(&path, header.clone()).expect("a file");
        fill(&recorder);
        let history = recorder.finish().expect("reads");
        assert_eq!(history.header(), &header);
        assert_eq!(history.events().len() as u64, recorder.events());
        assert_eq!(history.names().messages().len(), 3);
        assert_eq!(history.names().devices()[0].id, DeviceId::new(7));
    }

    #[test]
    fn the_same_events_at_the_same_times_hash_alike() {
        let record = |step: u64| {
            let ticks = AtomicU64::new(0);
            let clock = move || ticks.fetch_add(step, Ordering::Relaxed);
            let recorder = Recorder::in_memory(Header::new("a test", 4, true), clock);
            fill(&recorder);
            recorder.trace_hash()
        };
        assert_eq!(record(5), record(5));
        assert_ne!(record(5), record(6));
    }

    #[test]
    fn what_was_not_named_or_invoked_is_no_history() {
        let header = || Header::new("a test", 1, true);
        let event = |at_us, kind| Event { at_us, kind };
        let fail = Kind::Fail { message: Message(0), code: Code::NotReady };
        let error = History::new(header(), vec![event(1, fail)]).expect_err("is refused");
        assert_eq!(error.to_string(), "event 1 of the history: message 0 was not named");
        let back = vec![event(2, Kind::Healed), event(1, Kind::Healed)];
        let error = History::new(header(), back).expect_err("is refused");
        assert_eq!(error.to_string(), "event 2 of the history: 1 µs comes after 2 µs");
        let old = Header { hearth_history: 0, ..header() };
        assert!(matches!(History::new(old, vec![]), Err(HistoryError::Version { found: 0 })));
    }
}
