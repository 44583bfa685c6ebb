//! What is drawn: operations and what they say.

use log_store::devices::DEVICES_MAX;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Few of each, so that operations meet.
pub(super) const PARTITIONS: u32 = 2;
pub(super) const LOGS: u8 = 3;
/// Devices that write in most histories …
pub(super) const DEVICES_FEW: u64 = 2;
/// … and in some: more than a log remembers, so that old ones are forgotten.
pub(super) const DEVICES_MANY: u64 = DEVICES_MAX as u64 + 26;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Append {
        partition: u32,
        epochs_up: u64,
        fault: Fault,
        bodies: Vec<(u8, Said)>,
    },
    /// So many messages of one log in a row, each of the next device.
    Crowd {
        partition: u32,
        log: u8,
        messages: usize,
    },
    Fence {
        partition: u32,
        epochs: i8,
    },
    Archive {
        partition: u32,
        records: u64,
        obeys: Obeys,
    },
    Truncate {
        partition: u32,
        records: u64,
        obeys: Obeys,
    },
    /// Appends anew what an archive holds, as a replica that follows the archive's home again.
    CopyBack {
        nth: usize,
    },
    Discard {
        nth: usize,
    },
    Reclaim {
        now_ms: u64,
    },
    Canary,
    Reopen,
}

#[derive(Debug, Clone)]
pub(super) enum Said {
    Message {
        bytes: usize,
    },
    Expiring {
        at_ms: u64,
    },
    Created,
    Deleted {
        back: Vec<u64>,
    },
    Erased,
    Cursor {
        offset: u64,
    },
    /// The log ends in its generation.
    Sealed,
    /// The log goes on behind so many entries that another partition holds.
    Imported {
        entries: u64,
    },
    /// A message id that was drawn before: a duplicate where it still stands.
    Again {
        id: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Obeys {
    TheFence,
    Below,
    Above,
}

/// One thing wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    BelowTheFence,
    EpochGoesBack,
    EpochAboveObeyed,
    LsnGap,
    OffsetGap,
    ClosedGeneration,
    Empty,
}

pub(super) fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => (0_usize..200).prop_map(|bytes| Said::Message { bytes }),
        1 => (5_000_usize..20_000).prop_map(|bytes| Said::Message { bytes }),
        2 => (0_u64..100).prop_map(|at_ms| Said::Expiring { at_ms }),
        1 => Just(Said::Created),
        3 => proptest::collection::vec(1_u64..8, 1..4).prop_map(|back| Said::Deleted { back }),
        1 => Just(Said::Erased),
        2 => (0_u64..20).prop_map(|offset| Said::Cursor { offset }),
        1 => Just(Said::Sealed),
        1 => (0_u64..4).prop_map(|entries| Said::Imported { entries }),
        1 => (1_u64..40).prop_map(|id| Said::Again { id }),
    ]
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let partition = 0..PARTITIONS;
    let obeys = prop_oneof![6 => Just(Obeys::TheFence), 1 => Just(Obeys::Below), 1 => Just(Obeys::Above)];
    let fault = prop_oneof![
        14 => Just(Fault::None),
        1 => Just(Fault::BelowTheFence),
        1 => Just(Fault::EpochGoesBack),
        1 => Just(Fault::EpochAboveObeyed),
        1 => Just(Fault::LsnGap),
        1 => Just(Fault::OffsetGap),
        1 => Just(Fault::ClosedGeneration),
        1 => Just(Fault::Empty),
    ];
    let epochs_up = prop_oneof![4 => Just(0_u64), 1 => 1_u64..3];
    let bodies = proptest::collection::vec((0..LOGS, said()), 1..8);
    let append = (partition.clone(), epochs_up, fault, bodies);
    let tail = (partition.clone(), 0_u64..8, obeys);
    prop_oneof![
        12 => append.prop_map(|(partition, epochs_up, fault, bodies)| {
            Operation::Append { partition, epochs_up, fault, bodies }
        }),
        1 => (partition.clone(), 0..LOGS, DEVICES_MAX..DEVICES_MAX + 16).prop_map(
            |(partition, log, messages)| Operation::Crowd { partition, log, messages }
        ),
        2 => (partition, -1_i8..3).prop_map(|(partition, epochs)| Operation::Fence { partition, epochs }),
        3 => tail.clone().prop_map(|(partition, records, obeys)| {
            Operation::Archive { partition, records, obeys }
        }),
        3 => tail.prop_map(|(partition, records, obeys)| Operation::Truncate { partition, records, obeys }),
        2 => any::<usize>().prop_map(|nth| Operation::CopyBack { nth }),
        1 => any::<usize>().prop_map(|nth| Operation::Discard { nth }),
        1 => (0_u64..100).prop_map(|now_ms| Operation::Reclaim { now_ms }),
        1 => Just(Operation::Canary),
        2 => Just(Operation::Reopen),
    ]
}
