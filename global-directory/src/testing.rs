//! Rows in memory on which every command is followed by the check of the invariants.

use crate::{
    command::{self, Answer, Command, Deployment, Envelope, Failure, Refusal},
    invariants,
    kv::{Error, Kv, Memory},
    rows,
};
use types::{
    Home, Incarnation, LogId, NodeId, PartitionId, PartitionRow, Pin, Placement, RegionId, Replica,
    RequestId, StoreId,
};

pub(crate) const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) kv: Memory,
    pub(crate) view: Placement,
    requests: u128,
}

impl Directory {
    pub(crate) fn born(regions: &[&str], partitions_per_region: u32) -> Self {
        let kv = Memory::default();
        let deployment =
            Deployment { regions: regions.iter().map(|name| region(name)).collect(), partitions_per_region };
        kv.write(&mut |tx| {
            assert!(command::found(tx, &deployment, 0).expect("founded"));
            Ok(())
        })
        .expect("committed");
        let mut directory = Self { kv, view: Placement::default(), requests: 0 };
        directory.view = directory.read();
        directory
    }

    /// What the rows hold, read from the store.
    pub(crate) fn read(&self) -> Placement {
        let mut view = Placement::default();
        self.kv
            .read(&mut |tx| {
                view = rows::placement(tx)?;
                Ok(())
            })
            .expect("readable");
        view
    }

    pub(crate) fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId::from_bytes(self.requests.to_be_bytes())
    }

    pub(crate) fn run(&mut self, command: Command) -> Result<Answer, Refusal> {
        let request = self.next_request();
        self.run_as(request, command)
    }

    /// Runs a command, and checks what it did to the rows.
    pub(crate) fn run_as(&mut self, request: RequestId, command: Command) -> Result<Answer, Refusal> {
        let envelope = Envelope { request, at_ms: 0, command };
        let mut outcome = None;
        self.kv
            .write(&mut |tx| {
                outcome = Some(command::execute(tx, &envelope));
                Ok(())
            })
            .expect("committed");
        let before = self.view.clone();
        let answer = match outcome.expect("it ran") {
            Ok(outcome) => {
                if let Some(delta) = outcome.delta {
                    assert_eq!(delta.to_version, before.version() + 1, "{envelope:?}");
                    assert!(self.view.apply(delta), "a delta starts at the version before it");
                }
                Ok(outcome.answer)
            }
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::Store(error)) => panic!("{error}"),
        };
        assert_eq!(self.read(), self.view, "the delta says all that has changed: {envelope:?}");
        // What an operator promotes breaks this one rule, and no other.
        let by_word = matches!(envelope.command, Command::PromoteUnsafe(_));
        match invariants::check(&before, &self.view) {
            Err(violation) if !(by_word && violation.to_string().contains("I6: only a member in sync")) => {
                panic!("{violation}\nafter {envelope:#?}");
            }
            _ => answer,
        }
    }

    /// What was recorded for operators.
    pub(crate) fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        self.kv
            .read(&mut |tx| {
                events = rows::events(tx, usize::MAX)?.into_iter().map(|event| event.what).collect();
                Ok(())
            })
            .expect("readable");
        events
    }

    /// Runs a command in a transaction that is then lost.
    pub(crate) fn lose(&mut self, request: RequestId, command: Command) {
        let envelope = Envelope { request, at_ms: 0, command };
        self.kv
            .write(&mut |tx| {
                let _lost = command::execute(tx, &envelope);
                Err(Error::Engine { what: "commit", why: "a crash".into() })
            })
            .expect_err("lost");
        assert_eq!(self.read(), self.view, "a lost transaction leaves no trace");
    }

    pub(crate) fn register(&mut self, name: &str, store: u8) -> Home {
        let command = Command::Register(registration(name, store));
        match self.run(command).expect("registered") {
            Answer::Registered(incarnation) => Home { node: node(name), incarnation },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn row(&self, number: u32) -> &PartitionRow {
        self.view.partition(PartitionId::new(number)).expect("it exists")
    }

    pub(crate) fn pin_of(&self, log: LogId) -> Option<Pin> {
        let mut pin = None;
        self.kv
            .read(&mut |tx| {
                pin = rows::pin(tx, log)?;
                Ok(())
            })
            .expect("readable");
        pin
    }
}

/// Of the node `us-east-1`: region `us-east`.
pub(crate) fn registration(name: &str, store: u8) -> command::Registration {
    let (region_name, _) = name.rsplit_once('-').expect("a region and a number");
    command::Registration {
        node: node(name),
        region: region(region_name),
        address: "127.0.0.1:1".into(),
        store: StoreId::from_bytes([store; 16]),
    }
}

pub(crate) fn region(name: &str) -> RegionId {
    RegionId::new(name).expect("a valid name")
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

pub(crate) fn home(name: &str, incarnation: u64) -> Home {
    Home { node: node(name), incarnation: Incarnation::new(incarnation) }
}

pub(crate) fn member(name: &str, store: u8) -> Replica {
    Replica { node: node(name), store: StoreId::from_bytes([store; 16]) }
}
