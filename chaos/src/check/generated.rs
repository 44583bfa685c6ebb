//! Clean histories of every shape, made by a model that keeps all promises: for the checkers' own tests.

use crate::history::{
    Ack, BodySum, Device, Fault, Header, History, Kind, Log, LogSum, Message, MoveEnd, Node, Recorder,
    Region, Resends, Session, Told,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use types::{
    Code, DeviceId, Epoch, Generation, Incarnation, LogId, Lsn, MessageId, NodeId, Offset, PartitionId,
    PartitionPosition, Position, RegionId, UserId,
};

const REGIONS: [&str; 3] = ["us-east", "eu-west", "ap-south"];
const PARTITIONS: usize = 2;
const LOGS: usize = 4;
const SESSIONS_PER_LOG: usize = 3;
const STEPS: usize = 900;

#[derive(Clone, Copy)]
struct Entry {
    at: Position,
    lsn: u64,
    message: Message,
    body: BodySum,
}

struct Chat {
    log: Log,
    partition: usize,
    entries: Vec<Entry>,
    outbox: Vec<(Message, BodySum)>,
    readers: Vec<Reader>,
}

struct Reader {
    session: Session,
    seen: Vec<Position>,
}

struct Partition {
    epoch: u64,
    home: usize,
    last_lsn: u64,
    watermark: u64,
}

struct Model {
    recorder: Recorder,
    clock: Arc<AtomicU64>,
    rng: StdRng,
    nodes: Vec<Node>,
    regions: Vec<Region>,
    devices: Vec<Device>,
    partitions: Vec<Partition>,
    chats: Vec<Chat>,
    messages: u64,
    open_fault: Option<Fault>,
}

/// A history in which nothing is wrong.
pub(crate) fn clean(seed: u64) -> History {
    let mut model = Model::new(seed);
    for _ in 0..STEPS {
        model.step();
    }
    model.finish()
}

impl Model {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let ticks = Arc::clone(&clock);
        let recorder = Recorder::in_memory(Header::new("model", seed, true), move || {
            ticks.fetch_add(7, Ordering::Relaxed)
        });
        let region = |name: &str| RegionId::new(name).expect("a name");
        let nodes = REGIONS
            .iter()
            .map(|name| recorder.node(&NodeId::new(&format!("{name}-1")).expect("a name"), &region(name)))
            .collect();
        let regions = REGIONS.iter().map(|name| recorder.region(&region(name))).collect();
        let device = |name: &&str| {
            let user = UserId::new(&format!("user.{name}")).expect("a name");
            recorder.device(&user, DeviceId::new(1), &region(name))
        };
        let mut model = Self {
            devices: REGIONS.iter().map(device).collect(),
            partitions: Vec::new(),
            chats: Vec::new(),
            messages: 0,
            open_fault: None,
            rng: StdRng::seed_from_u64(seed),
            recorder,
            clock,
            nodes,
            regions,
        };
        for number in 0..PARTITIONS {
            model.partitions.push(Partition { epoch: 0, home: 0, last_lsn: 0, watermark: 0 });
            model.place(number, number % 3);
        }
        for number in 0..LOGS {
            let log = model.recorder.log(LogId::group([number as u8; 16]));
            let partition = number % PARTITIONS;
            let at = PartitionId::new(partition as u32);
            let pinned = Kind::Pinned { log, generation: 1, partition: at, first_offset: 1 };
            model.recorder.record(pinned);
            let readers = (0..SESSIONS_PER_LOG).map(|at| model.reader(log, at)).collect();
            model.chats.push(Chat { log, partition, entries: vec![], outbox: vec![], readers });
        }
        model
    }

    fn reader(&self, log: Log, at: usize) -> Reader {
        let session = self.recorder.session(self.devices[at]);
        self.recorder.record(Kind::Follow { session, log, from: Position::START });
        Reader { session, seen: Vec::new() }
    }

    fn place(&mut self, number: usize, home: usize) {
        let partition = &mut self.partitions[number];
        partition.epoch += 1;
        partition.home = home;
        self.recorder.record(Kind::Placed {
            partition: PartitionId::new(number as u32),
            epoch: Epoch::new(partition.epoch),
            node: self.nodes[home],
            incarnation: Incarnation::new(partition.epoch),
            start_lsn: Lsn::new(partition.last_lsn + 1),
        });
    }

    fn step(&mut self) {
        self.clock.fetch_add(self.rng.random_range(0..2_000), Ordering::Relaxed);
        let chat = self.rng.random_range(0..LOGS);
        match self.rng.random_range(0..100) {
            0..40 => self.send(chat),
            40..70 => self.read(chat),
            70..85 => self.replicate(self.chats[chat].partition),
            85..90 => self.resend(chat),
            90..95 => self.send_in_vain(chat),
            95..98 => self.fail_over(self.chats[chat].partition),
            98 => self.end_fault(),
            _ => self.move_planned(self.chats[chat].partition),
        }
    }

    fn invoke(&mut self, chat: usize, resends: Resends) -> (Message, BodySum) {
        self.messages += 1;
        let id = MessageId::from_bytes(u128::from(self.messages).to_be_bytes());
        let device = self.devices[self.rng.random_range(0..self.devices.len())];
        let message = self.recorder.message(self.chats[chat].log, device, id);
        let body = BodySum::of(&self.messages.to_be_bytes());
        self.recorder.record(Kind::Invoke { message, body, after: None, resends });
        (message, body)
    }

    fn append(&mut self, chat: usize, message: Message, body: BodySum) {
        let partition = &mut self.partitions[self.chats[chat].partition];
        partition.last_lsn += 1;
        let offset = Offset::new(self.chats[chat].entries.len() as u64 + 1);
        let at = Position::new(Generation::FIRST, Epoch::new(partition.epoch), offset);
        self.chats[chat].entries.push(Entry { at, lsn: partition.last_lsn, message, body });
        self.ack(message, at, Ack::Home);
    }

    fn ack(&self, message: Message, at: Position, ack: Ack) {
        let passed_us = Some(self.clock.load(Ordering::Relaxed));
        self.recorder.record(Kind::Ok { message, at, ack, epoch: None, passed_us, accepted_at_ms: 0 });
    }

    fn send(&mut self, chat: usize) {
        let (message, body) = self.invoke(chat, Resends::UntilReplicated);
        self.chats[chat].outbox.push((message, body));
        self.append(chat, message, body);
    }

    fn resend(&mut self, chat: usize) {
        let missing =
            |chat: &Chat, message: &Message| !chat.entries.iter().any(|entry| entry.message == *message);
        let lost =
            self.chats[chat].outbox.iter().find(|(message, _)| missing(&self.chats[chat], message)).copied();
        if let Some((message, body)) = lost {
            self.append(chat, message, body);
        }
    }

    fn send_in_vain(&mut self, chat: usize) {
        let (message, _) = self.invoke(chat, Resends::Never);
        let kind = match self.rng.random_bool(0.5) {
            true => Kind::Fail { message, code: Code::HomeUnavailable },
            false => Kind::Indeterminate { message, code: None },
        };
        self.recorder.record(kind);
    }

    fn read(&mut self, chat: usize) {
        let at = self.rng.random_range(0..SESSIONS_PER_LOG);
        self.read_some(chat, at, 4);
    }

    fn read_some(&mut self, chat: usize, reader: usize, most: usize) {
        let Chat { log, entries, readers, .. } = &mut self.chats[chat];
        let Reader { session, seen } = &mut readers[reader];
        let (session, log) = (*session, *log);
        let common = seen.iter().zip(entries.iter()).take_while(|(seen, entry)| **seen == entry.at).count();
        if common < seen.len() {
            let told = Told::Diverged { common: common as u64 };
            self.recorder.record(Kind::Told { session, log, told });
            seen.truncate(common);
        }
        for entry in entries[common..].iter().take(most) {
            let Entry { at, message, body, .. } = *entry;
            self.recorder.record(Kind::Seen { session, log, at, message, body, salvaged: false });
            seen.push(at);
        }
    }

    fn replicate(&mut self, number: usize) {
        let partition = &mut self.partitions[number];
        partition.watermark = partition.last_lsn;
        self.recorder.record(Kind::Watermark {
            partition: PartitionId::new(number as u32),
            epoch: Epoch::new(partition.epoch),
            node: self.nodes[partition.home],
            lsn: Lsn::new(partition.watermark),
        });
        for chat in (0..LOGS).filter(|chat| chat % PARTITIONS == number) {
            let outbox = std::mem::take(&mut self.chats[chat].outbox);
            for (message, body) in outbox {
                match self.chats[chat].entries.iter().find(|entry| entry.message == message) {
                    Some(entry) => self.ack(message, entry.at, Ack::Replicated),
                    None => self.chats[chat].outbox.push((message, body)),
                }
            }
            let Chat { log, entries, readers, .. } = &self.chats[chat];
            for Reader { session, seen } in readers {
                if let (Some(last), true) = (
                    seen.last(),
                    entries.iter().map(|entry| entry.at).zip(seen).all(|(at, seen)| at == *seen),
                ) {
                    self.recorder.record(Kind::ReplicatedUpTo { session: *session, log: *log, at: *last });
                }
            }
        }
    }

    fn fail_over(&mut self, number: usize) {
        self.end_fault();
        let home = self.partitions[number].home;
        self.open_fault = Some(self.recorder.fault_began("killed", vec![self.regions[home]]));
        for hit in (0..PARTITIONS).filter(|hit| self.partitions[*hit].home == home).collect::<Vec<_>>() {
            let partition = &mut self.partitions[hit];
            partition.last_lsn = self.rng.random_range(partition.watermark..=partition.last_lsn);
            let last_lsn = partition.last_lsn;
            for chat in (0..LOGS).filter(|chat| chat % PARTITIONS == hit) {
                self.chats[chat].entries.retain(|entry| entry.lsn <= last_lsn);
            }
            self.place(hit, (home + 1) % 3);
            for chat in (0..LOGS).filter(|chat| chat % PARTITIONS == hit) {
                self.send(chat);
            }
        }
    }

    fn end_fault(&mut self) {
        if let Some(fault) = self.open_fault.take() {
            self.recorder.fault_ended(fault);
        }
    }

    fn move_planned(&mut self, number: usize) {
        self.end_fault();
        // Longer than writes may fail for a fault that is over.
        self.clock.fetch_add(4_000_000, Ordering::Relaxed);
        let from = self.partitions[number].home;
        let to = (from + 1) % 3;
        let partition = PartitionId::new(number as u32);
        let moving = self.recorder.move_began(partition, self.nodes[from], self.nodes[to]);
        self.send(number);
        self.replicate(number);
        self.place(number, to);
        self.send(number);
        self.recorder.record(Kind::MoveEnded { moving, end: MoveEnd::Moved });
    }

    fn finish(mut self) -> History {
        self.end_fault();
        for chat in 0..LOGS {
            while {
                let before = self.chats[chat].entries.len();
                self.resend(chat);
                self.chats[chat].entries.len() > before
            } {}
        }
        (0..PARTITIONS).for_each(|number| self.replicate(number));
        for (chat, reader) in (0..LOGS).flat_map(|chat| (0..SESSIONS_PER_LOG).map(move |at| (chat, at))) {
            self.read_some(chat, reader, usize::MAX);
        }
        self.recorder.record(Kind::Healed);
        for (at, node) in self.nodes.iter().enumerate() {
            self.tell_replica(*node, at == 0);
        }
        self.recorder.finish().expect("a history")
    }

    fn tell_replica(&self, node: Node, in_full: bool) {
        for (number, partition) in self.partitions.iter().enumerate() {
            let last = PartitionPosition::new(Epoch::new(partition.epoch), Lsn::new(partition.last_lsn));
            let partition = PartitionId::new(number as u32);
            self.recorder.record(Kind::FinalPartition { node, partition, last });
        }
        for Chat { log, entries, .. } in &self.chats {
            let mut sum = LogSum::default();
            for Entry { at, message, body, .. } in entries {
                sum.add(*at, *message, *body);
                if in_full {
                    let (log, at, message, body) = (*log, *at, *message, *body);
                    self.recorder.record(Kind::Held { node, log, at, message, body });
                }
            }
            let (log, entries) = (*log, sum.entries());
            self.recorder.record(Kind::FinalLog { node, log, entries, sum: sum.sum() });
        }
    }
}
