//! Clients that are told by many nodes end with exactly what the logs hold, whatever happens meanwhile.

use super::*;
use crate::{
    live::{ChatReceipts, Receipt, ReceiptsSum},
    service::{Page, ReadRefusal},
};
use bytes::Bytes;
use log_store::{
    fold::{EraBegin, LogState},
    locate::{Located, locate},
};
use proptest::prelude::*;
use proto::client::{self, server_frame::Frame};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Body, Code, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, Mark, Marks, MessageId, Offset,
    Position, PositionToken, Record, Refusal, UserId,
};

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Append {
        log: usize,
        count: usize,
    },
    Replicate(usize),
    /// What is not `replicated` is undone from a point on, and the next epoch begins.
    FailOver {
        log: usize,
        keep: prop::sample::Index,
    },
    Rehome(usize),
    Join(usize),
    Leave(usize),
    /// The client asks a node, whose copies may be those of before the last failovers.
    Ask {
        limit: usize,
        lags: bool,
    },
    /// The client is told by feeds, until it does not follow. `loses`: nothing of this chat.
    Hear {
        loses: usize,
    },
}

const LOGS: usize = 9;

fn step() -> impl Strategy<Value = Step> {
    let log = || 0..LOGS;
    prop_oneof![
        6 => (log(), 1..5_usize).prop_map(|(log, count)| Step::Append { log, count }),
        3 => log().prop_map(Step::Replicate),
        2 => (log(), any::<prop::sample::Index>()).prop_map(|(log, keep)| Step::FailOver { log, keep }),
        1 => log().prop_map(Step::Rehome),
        3 => log().prop_map(Step::Join),
        1 => log().prop_map(Step::Leave),
        8 => (1..7_usize, prop::bool::weighted(0.3)).prop_map(|(limit, lags)| Step::Ask { limit, lags }),
        4 => log().prop_map(|loses| Step::Hear { loses }),
    ]
}

/// One log, at its home.
#[derive(Debug, Clone, Default)]
struct Log {
    entries: Vec<Position>,
    replicated: usize,
    era: (u32, u64),
    /// What a copy holds that has not heard of the last failover.
    stale: Option<Vec<Position>>,
    at_ms: u64,
}

fn head(entries: &[Position]) -> Position {
    entries.last().copied().unwrap_or(Position::START)
}

fn state(entries: &[Position]) -> LogState {
    let mut state = LogState { head: head(entries), ..LogState::default() };
    for entry in entries {
        if state.eras.last().is_none_or(|era| (era.generation, era.epoch) != entry.era()) {
            let (generation, epoch) = entry.era();
            state.eras.push(EraBegin { generation, epoch, first_offset: entry.offset });
        }
    }
    state
}

impl Log {
    fn era(&self) -> (Generation, Epoch) {
        (Generation::new(self.era.0), Epoch::new(self.era.1))
    }

    fn append(&mut self, count: usize) {
        let (generation, epoch) = self.era();
        for _ in 0..count {
            let offset = Offset::new(self.entries.len() as u64 + 1);
            self.entries.push(Position::new(generation, epoch, offset));
        }
    }

    fn copy(&self, lags: bool) -> &[Position] {
        self.stale.as_deref().filter(|_| lags).unwrap_or(&self.entries)
    }

    fn find(&self, log: LogId, reading: Reading, lags: bool) -> Result<Found, ReadRefusal> {
        match locate(&state(&self.entries), self.era(), reading.after) {
            Located::Continue => {}
            Located::Diverged { common } => return Err(ReadRefusal::Diverged { common }),
            Located::Ahead => return Err(Refusal::new(Code::PositionUnknown, "never given out").into()),
        }
        let copy = self.copy(lags);
        let from = reading.after.offset.get() as usize;
        let holds = from == 0 || copy.get(from - 1) == Some(&reading.after);
        let copy = if holds { copy } else { &self.entries };
        let records: Vec<Record> =
            copy[from..].iter().take(reading.limit).map(|position| record(log, *position)).collect();
        let at_end = from + records.len() == copy.len();
        let (generation, closed) = (Generation::FIRST, Generation::ZERO);
        let page = Page { records, at_end, generation, closed, until: None };
        let replicated = self.replicated.checked_sub(1).map_or(Position::START, |last| self.entries[last]);
        Ok(Found { page, replicated })
    }
}

fn record(log: LogId, position: Position) -> Record {
    Record {
        lsn: Lsn::new(position.offset.get()),
        epoch: position.epoch,
        generation: position.generation,
        log,
        accepted_at_ms: 1,
        body: Body::Entry(Entry {
            offset: position.offset,
            sender: UserId::new("bob").expect("a valid name"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes([1; 16]),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Message { ciphertext: Bytes::from_static(b"sealed") },
        }),
    }
}

#[derive(Debug)]
struct World {
    logs: BTreeMap<LogId, Log>,
    joined: BTreeSet<LogId>,
    names: Vec<LogId>,
    account: LogId,
    user: UserId,
    token: String,
    client: Client,
    room: Room,
    clock: u64,
    receipts: BTreeMap<LogId, ChatReceipts>,
}

/// What a client has of each of its chats: the positions of its entries.
#[derive(Debug, Default)]
struct Client {
    chats: BTreeMap<LogId, Vec<Position>>,
    /// How often receipts of each were told.
    receipts: BTreeMap<String, usize>,
}

impl World {
    fn new(near_max: usize) -> Self {
        let user = UserId::new("alice").expect("a valid name");
        let account = LogId::account(&user);
        // Few endings, so that far chats share them.
        let name = |number: usize| {
            let mut key = [number as u8; 16];
            key[15] = number as u8 % 3;
            LogId::group(key)
        };
        let names: Vec<LogId> = (0..LOGS).map(name).collect();
        let log = || Log { era: (1, 1), ..Log::default() };
        let mut logs: BTreeMap<LogId, Log> = names.iter().map(|name| (*name, log())).collect();
        logs.values_mut().for_each(|log| log.append(1));
        let mut of_account = log();
        of_account.append(2);
        logs.insert(account, of_account);
        let room = Room { entries: 5, near_max, near_first: near_max.div_ceil(2) };
        let (joined, token, client) = (BTreeSet::new(), String::new(), Client::default());
        Self { logs, joined, names, account, user, token, client, room, clock: 1, receipts: BTreeMap::new() }
    }

    fn log(&mut self, number: usize) -> &mut Log {
        self.logs.get_mut(&self.names[number]).expect("it is there")
    }

    fn act(&mut self, step: &Step) {
        self.clock += 1;
        let clock = self.clock;
        match step {
            Step::Append { log, count } => {
                let log = self.log(*log);
                log.append(*count);
                log.at_ms = clock;
            }
            Step::Replicate(log) => {
                let log = self.log(*log);
                log.replicated = log.entries.len();
            }
            Step::FailOver { log, keep } => {
                let log = self.log(*log);
                let keep = log.replicated + keep.index(log.entries.len() - log.replicated + 1);
                log.stale = Some(log.entries.clone());
                log.entries.truncate(keep);
                log.era.1 += 1;
            }
            Step::Rehome(log) => {
                let log = self.log(*log);
                (log.replicated, log.stale) = (log.entries.len(), None);
                log.era = (log.era.0 + 1, 1);
            }
            Step::Join(log) => {
                self.joined.insert(self.names[*log]);
            }
            Step::Leave(log) => {
                self.joined.remove(&self.names[*log]);
            }
            Step::Ask { limit, lags } => {
                self.ask(*limit, *lags);
            }
            Step::Hear { loses } => self.hear(*loses),
        }
    }

    /// One question, at another node than the one before: nothing but the token is kept. Whether all was told.
    fn ask(&mut self, limit: usize, lags: bool) -> bool {
        let mut stand = Stand::open(&self.user, &self.token).expect("its own token");
        let theirs = self.joined.iter().chain([&self.account]);
        let heads = theirs.map(|log| {
            let of = &self.logs[log];
            (*log, Head { position: head(of.copy(lags)), at_ms: of.at_ms })
        });
        let known = stand.receipts();
        let is_news =
            |(log, seen): &(&LogId, &ChatReceipts)| known.get(*log).is_some_and(|sum| *sum != seen.sum);
        let receipts = self.receipts.iter().filter(is_news).map(|(log, seen)| (*log, seen.clone())).collect();
        let chats = Chats { joined: self.joined.clone(), heads: heads.collect(), receipts };
        let room = Room { entries: limit, ..self.room };
        let mut catching = Catching::begin(&mut stand, self.account, &chats, &BTreeSet::new(), room);
        while let Some(reading) = catching.next() {
            assert!(reading.limit <= limit);
            let may = self.joined.contains(&reading.log) || reading.log == self.account;
            let found = match may {
                true => self.logs[&reading.log].find(reading.log, reading, lags),
                false => Err(Refusal::new(Code::Forbidden, "no member").into()),
            };
            catching.take(reading.log, found);
        }
        let caught = catching.end();
        assert_eq!(caught.unavailable, 0);
        self.token = stand.seal(&self.user);
        let is_all = caught.events.is_empty() && !caught.has_more;
        self.told(caught.events, lags);
        is_all
    }

    fn hear(&mut self, loses: usize) {
        let mut stand = Stand::open(&self.user, &self.token).expect("its own token");
        let places: Vec<(LogId, Position)> = stand.places().collect();
        let mut events = Vec::new();
        for (log, position) in places.into_iter().filter(|(log, _)| *log != self.names[loses]) {
            let of = &self.logs[&log];
            let reading = Reading { log, after: position, limit: 3 };
            let Ok(found) = of.find(log, reading, false) else { continue };
            let entries: Vec<client::Entry> =
                found.page.records.iter().filter_map(proto::client_entry).collect();
            let reaches = found.page.records.last().and_then(Record::position).unwrap_or(position);
            let mut frames = Vec::new();
            if !entries.is_empty() {
                let entries = client::Entries { log: log.to_string(), entries };
                // A feed that began anew says some of it twice.
                frames.push(Frame::Entries(entries.clone()));
                frames.push(Frame::Entries(entries));
            }
            if found.replicated.offset <= reaches.offset && found.replicated != Position::START {
                frames.push(Frame::Replicated(client::Replicated {
                    log: log.to_string(),
                    position: PositionToken::seal(log, found.replicated).into(),
                    offset: found.replicated.offset.get(),
                }));
            }
            for frame in frames {
                match stand.hear(frame) {
                    Heard::Tell(event) => events.push(event),
                    Heard::Nothing => {}
                    Heard::CatchUp(..) => panic!("a feed follows where the client stands"),
                }
            }
        }
        self.token = stand.seal(&self.user);
        self.told(events, false);
    }

    fn told(&mut self, events: Vec<Event>, lags: bool) {
        let Client { chats, receipts } = &mut self.client;
        for event in events {
            match event {
                Event::Joined(chat) => {
                    let log: LogId = chat.log.parse().expect("an id");
                    assert!(chats.insert(log, Vec::new()).is_none(), "{log} is joined twice");
                }
                Event::Left(chat) => {
                    let log: LogId = chat.log.parse().expect("an id");
                    assert!(chats.remove(&log).is_some(), "{log} was none of the client's");
                }
                Event::Entries(entries) => {
                    let log: LogId = entries.log.parse().expect("an id");
                    let known = chats.entry(log).or_default();
                    for entry in entries.entries {
                        assert_eq!(entry.offset, known.len() as u64 + 1, "{log} has a gap or a repeat");
                        known.push(PositionToken::open(log, &entry.position).expect("a position"));
                    }
                }
                Event::Diverged(diverged) => {
                    let log: LogId = diverged.log.parse().expect("an id");
                    let known = chats.get_mut(&log).expect("it was told");
                    let common = PositionToken::open(log, &diverged.common).expect("a position");
                    known.truncate(usize::try_from(diverged.common_offset).expect("small"));
                    assert_eq!(head(known), common, "{log}: the client never had what is common");
                }
                Event::Replicated(tick) => {
                    let log: LogId = tick.log.parse().expect("an id");
                    let position = PositionToken::open(log, &tick.position).expect("a position");
                    assert!(chats[&log].contains(&position), "{log}: a tick of what was not told");
                    assert!(self.logs[&log].entries.contains(&position), "{log}: a tick of what was undone");
                }
                Event::Heads(heads) => {
                    let listed: BTreeMap<LogId, Position> = heads
                        .chats
                        .iter()
                        .map(|head| {
                            let log: LogId = head.log.parse().expect("an id");
                            (log, PositionToken::open(log, &head.position).expect("a position"))
                        })
                        .collect();
                    let account = self.account;
                    chats.retain(|log, _| {
                        *log == account || !log.to_string().ends_with(&heads.ends) || listed.contains_key(log)
                    });
                    for (log, position) in listed {
                        let known = chats.entry(log).or_default();
                        if head(known) != position {
                            // Read as history, where it is not what the client was told entry by entry.
                            let copy = self.logs[&log].copy(lags);
                            let end = usize::try_from(position.offset.get()).expect("small");
                            *known = copy[..end].to_vec();
                            assert_eq!(head(known), position);
                        }
                    }
                }
                Event::Receipts(said) => *receipts.entry(said.log).or_default() += 1,
                Event::TypingSeen(_) => panic!("nobody is typing"),
            }
        }
    }

    /// All is told in the end, and it is exactly what there is.
    fn settle(&mut self) {
        for _ in 0..500 {
            if self.ask(3, false) {
                let theirs = self.joined.iter().chain([&self.account]);
                let expected: BTreeMap<LogId, Vec<Position>> =
                    theirs.map(|log| (*log, self.logs[log].entries.clone())).collect();
                assert_eq!(self.client.chats, expected);
                return;
            }
        }
        panic!("there is always more to tell");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_client_ends_with_exactly_the_logs_and_is_told_of_all_that_was_undone(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(LOGS);
        for step in &steps {
            world.act(step);
        }
        world.settle();
    }

    #[test]
    fn a_client_with_more_chats_than_are_near_ends_with_exactly_the_logs(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(3);
        for step in &steps {
            world.act(step);
        }
        world.settle();
    }
}

#[test]
fn the_newest_chats_are_told_first_in_pages_of_bounded_size() {
    let mut world = World::new(LOGS);
    for log in 0..4 {
        world.act(&Step::Join(log));
        world.act(&Step::Append { log: 3 - log, count: 4 });
    }
    let told = |world: &World| -> Vec<usize> {
        (0..4).map(|log| world.client.chats.get(&world.names[log]).map_or(0, Vec::len)).collect()
    };
    world.ask(7, false);
    assert_eq!(told(&world), [5, 0, 0, 0], "the account takes two of the seven");
    world.ask(7, false);
    assert_eq!(told(&world), [5, 5, 2, 0]);
    world.settle();
}

fn seen(sum: u32) -> ChatReceipts {
    let marks = Marks { delivered: Mark { offset: Offset::FIRST, at_ms: 1 }, ..Marks::default() };
    let (user, at) = (UserId::new("bob").expect("a valid name"), Position::START);
    let receipts = vec![Receipt { user, marks, delivered: at, read: at }];
    ChatReceipts { sum: ReceiptsSum::new(sum), receipts }
}

#[test]
fn receipts_are_told_behind_all_entries_and_again_when_they_add_up_to_something_else() {
    let mut world = World::new(LOGS);
    world.act(&Step::Join(0));
    world.act(&Step::Join(1));
    let name = world.names[0];
    world.receipts.insert(name, seen(7));
    let told = |world: &World| world.client.receipts.get(&name.to_string()).copied().unwrap_or(0);
    world.ask(3, false);
    assert_eq!(told(&world), 0, "there are entries to tell");
    world.settle();
    assert_eq!(told(&world), 1);
    world.settle();
    assert_eq!(told(&world), 1, "they are known");
    world.receipts.insert(name, seen(8));
    world.settle();
    assert_eq!(told(&world), 2);
    world.receipts.insert(name, ChatReceipts { receipts: Vec::new(), ..seen(9) });
    assert!(!world.ask(3, false), "there is more, which another answer has room for");
    world.receipts.insert(name, seen(9));
    world.settle();
    assert_eq!(told(&world), 3);
}

#[test]
fn a_client_of_a_log_that_was_lost_is_told_so_and_all_that_is_there_now() {
    let mut world = World::new(LOGS);
    world.act(&Step::Join(0));
    world.act(&Step::Append { log: 0, count: 4 });
    world.act(&Step::Replicate(0));
    world.settle();
    world.log(0).entries.truncate(2);
    world.log(0).replicated = 2;
    world.settle();
}
