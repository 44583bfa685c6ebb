//! What the benches of the cores stand on.

use bytes::Bytes;
use log_store::PartitionEnd;
use region_node::{
    clock::Now,
    home::core::{Context, Core, FollowWhen, Input, IsrSet, Loaded, Membership, Open, Output, Row, Ticket},
    service::{Beside, Write},
};
use types::{
    AckPolicy, Body, DeviceId, Entry, EntryBody, Epoch, Generation, LogId, Lsn, MemberRole, MessageId,
    NodeId, Offset, PartitionId, Pin, PinSegment, Record, RegionId, Replica, StoreId, UserId,
};

const LOG: LogId = LogId::group([1; 16]);
const PARTITION: PartitionId = PartitionId::new(0);
const BODY: Bytes = Bytes::from_static(&[7; 400]);
const NOW: Now = Now { boot_ms: 10_000, wall_ms: 1_780_000_000_000 };
const CONTEXT: Context = Context { now: NOW, lease_until_ms: u64::MAX };

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// The message at an offset of the log.
pub(crate) fn record(offset: u64) -> Record {
    Record {
        lsn: Lsn::new(offset),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        log: LOG,
        accepted_at_ms: NOW.wall_ms,
        body: Body::Entry(Entry {
            offset: Offset::new(offset),
            sender: user("alice"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(u128::from(offset).to_be_bytes()),
            expires_at_ms: None,
            salvaged: false,
            about: None,
            body: EntryBody::Message { ciphertext: BODY },
        }),
    }
}

/// The home of a partition with one chat, whose store takes everything at once.
pub(crate) struct Home {
    core: Core,
    out: Vec<Output>,
    next: u64,
}

impl Home {
    pub(crate) fn new() -> Self {
        let me = Replica {
            node: NodeId::new("eu-west-1").expect("a valid name"),
            store: StoreId::from_bytes([1; 16]),
        };
        let set = IsrSet { isr: [me.clone()].into(), ..IsrSet::default() };
        let membership = Membership { set, one_region: true, ..Membership::default() };
        let open = Open {
            effect_logs: Vec::new(),
            partition: PARTITION,
            epoch: Epoch::FIRST,
            me,
            end: PartitionEnd::default(),
            start_lsn: Lsn::FIRST,
            watermark: Lsn::ZERO,
            row: Row { waiting: false, moving: None, membership },
            isr_lag_ms: 3_000,
            isr_pressure_ms: 5_000,
            follow_when: FollowWhen {
                region: RegionId::new("region-a").expect("a valid name"),
                half_life_ms: 3_600_000,
                hold_ms: 3_600_000,
                weight_min: 32,
            },
            members_max: 1_024,
        };
        let mut home = Self { core: Core::new(open, NOW), out: Vec::new(), next: 0 };
        let members = vec![(user("alice"), MemberRole::Member), (user("bob"), MemberRole::Member)];
        let body = EntryBody::Created { members, ack_policy: AckPolicy::Home, allowed_regions: vec![] };
        home.append(body);
        home.say(Input::Subscribe { ticket: Ticket(0), log: LOG });
        assert_eq!(home.settle(), 1);
        home
    }

    /// Takes so many messages in together, writes, acks and publishes them; how many outputs that makes.
    pub(crate) fn burst(&mut self, messages: u64) -> usize {
        (0..messages).for_each(|_| self.append(EntryBody::Message { ciphertext: BODY }));
        self.settle()
    }

    fn append(&mut self, body: EntryBody) {
        self.next += 1;
        let write = Write {
            log: LOG,
            partition: PARTITION,
            generation: Generation::FIRST,
            epoch_hint: Epoch::FIRST,
            sender: user("alice"),
            device: DeviceId::new(1),
            message_id: MessageId::from_bytes(u128::from(self.next).to_be_bytes()),
            after: None,
            body,
            expires_at_ms: None,
            ack: AckPolicy::Home,
            deadline: tokio::time::Instant::now(),
            origin: None,
            salvage: None,
            beside: Beside::default(),
        };
        let append =
            Input::Append { ticket: Ticket(self.next), write: Box::new(write), deadline_ms: u64::MAX };
        self.say(append);
    }

    fn say(&mut self, input: Input) {
        self.core.handle(CONTEXT, input, &mut self.out);
    }

    /// Hands the batches to the store, which has them at once, and lets the acks go; how many those are.
    fn settle(&mut self) -> usize {
        let mut acks = 0;
        loop {
            self.core.flush(&mut self.out);
            self.core.release(CONTEXT, &mut self.out);
            if self.out.is_empty() {
                return acks;
            }
            for output in std::mem::take(&mut self.out) {
                match output {
                    Output::Load { log, as_of, .. } => {
                        let first_offset = Offset::FIRST;
                        let segment =
                            PinSegment { generation: Generation::FIRST, partition: PARTITION, first_offset };
                        let pin = Some(Ok(Some(Pin { log, segments: vec![segment] })));
                        let loaded = Loaded { state: Some(None), pin, ..Loaded::default() };
                        self.say(Input::Loaded { log, as_of, loaded: Box::new(Ok(loaded)) });
                    }
                    Output::Write(records) => {
                        let last = records.last().expect("a batch is not empty").partition_position();
                        self.say(Input::Durable { last });
                    }
                    Output::Reply { result, .. } => acks += usize::from(result.is_ok()),
                    _ => {}
                }
            }
        }
    }
}
