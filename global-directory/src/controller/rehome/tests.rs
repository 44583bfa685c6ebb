//! Courses of re-homings: in order, with homes that change, and with answers that come late.

use super::*;
use crate::{
    command::{Answer, FirstHome, NewRehome, PinWish},
    kv::Kv as _,
    rows,
    testing::{Directory, REGIONS, home, region},
};
use types::LogId;

const LOG: LogId = LogId::group([1; 16]);

/// Partition 0 is homed in ap-south, 1 in eu-west, 2 in us-east; the log is pinned to partition 0.
struct World {
    directory: Directory,
    rehomings: Rehomings,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let mut directory = Directory::born(&REGIONS, 1);
        for (number, name) in ["ap-south-1", "eu-west-1", "us-east-1"].into_iter().enumerate() {
            directory.register(name, number as u8 + 1);
            let first = FirstHome { partition: PartitionId::new(number as u32), home: home(name, 1) };
            assert_eq!(directory.run(Command::AssignHomes(vec![first])), Ok(Answer::Applied(1)));
        }
        let wish = PinWish { log: LOG, region: region("ap-south"), allowed_regions: vec![] };
        assert_eq!(directory.run(Command::Pin(vec![wish])), Ok(Answer::Applied(1)));
        Self { directory, rehomings: Rehomings::default(), now_ms: 1_000 }
    }

    fn begin(&mut self, to: &str) {
        let new = NewRehome { log: LOG, region: region(to), by: "ops".into(), follows: None };
        assert_eq!(self.directory.run(Command::BeginRehome(new)), Ok(Answer::Applied(1)));
    }

    fn rows(&self) -> Vec<Rehome> {
        let mut under_way = Vec::new();
        let read = self.directory.kv.read(&mut |tx| {
            under_way = rows::rehomes(tx)?;
            Ok(())
        });
        read.expect("readable");
        under_way
    }

    /// Looks once, and carries commands out; answers who is asked what.
    fn look(&mut self) -> Vec<(String, Ask)> {
        self.now_ms += bounds::REHOME_RETRY_MS;
        let (mut out, rows) = (Vec::new(), self.rows());
        self.rehomings.look(self.now_ms, &self.directory.view, &rows, &mut out);
        self.carry_out(out)
    }

    fn carry_out(&mut self, out: Vec<Action>) -> Vec<(String, Ask)> {
        let mut asked = Vec::new();
        for action in out {
            match action {
                Action::Prepare(_) => {}
                Action::Ask(node, ask) => asked.push((node.node.to_string(), ask)),
                Action::Submit(command) => drop(self.directory.run(command)),
            }
        }
        asked
    }

    fn hear(&mut self, said: Said) {
        let id = self.rows().first().map_or(RehomeId::new(0), |row| row.id);
        let mut out = Vec::new();
        self.rehomings.heard(self.now_ms, LOG, id, said, &mut out);
        self.carry_out(out);
    }

    fn segments(&self) -> Vec<(u32, u32, u64)> {
        let pin = self.directory.pin_of(LOG).expect("it is pinned");
        let numbers = |segment: &types::PinSegment| {
            (segment.generation.get(), segment.partition.get(), segment.first_offset.get())
        };
        pin.segments.iter().map(numbers).collect()
    }
}

fn sealed(head: u64) -> Said {
    Said::Sealed { head: Offset::new(head), fold: Bytes::from_static(b"fold") }
}

#[test]
fn a_log_is_sealed_imported_and_pinned() {
    let mut world = World::new();
    world.begin("eu-west");
    let asked = world.look();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0.as_str(), asked[0].1.generation), ("ap-south-1", Generation::FIRST));
    assert_eq!(world.look(), [], "one question at a time");
    world.hear(sealed(41));
    let asked = world.look();
    assert_eq!((asked[0].0.as_str(), asked[0].1.generation), ("eu-west-1", Generation::new(2)));
    assert_eq!(asked[0].1.step, Step::Import { fold: Bytes::from_static(b"fold") });
    world.hear(Said::Imported);
    assert_eq!(world.look(), []);
    assert_eq!(world.segments(), [(1, 0, 1), (2, 1, 42)]);
    assert_eq!((world.rows(), world.look()), (vec![], vec![]));
}

#[test]
fn a_controller_that_begins_anew_asks_everything_again() {
    let mut world = World::new();
    world.begin("us-east");
    world.look();
    world.hear(sealed(7));
    world.look();
    world.rehomings = Rehomings::default();
    assert!(matches!(world.look()[0].1.step, Step::Seal { .. }));
    world.hear(sealed(7));
    world.look();
    world.hear(Said::Imported);
    world.look();
    assert_eq!(world.segments(), [(1, 0, 1), (2, 2, 8)]);
}

#[test]
fn a_failover_of_either_side_only_makes_it_wait() {
    let mut world = World::new();
    world.begin("eu-west");
    world.look();
    world.directory.run(Command::Bump(vec![home("ap-south-1", 1)])).expect("bumped");
    world.hear(Said::NotNow("it died".into()));
    assert_eq!(world.look(), [], "nobody is home");
    let next = crate::command::Promotion {
        partition: PartitionId::new(0),
        epoch: types::Epoch::FIRST,
        home: home("us-east-1", 1),
        start_lsn: types::Lsn::new(9),
    };
    world.directory.run(Command::Promote(vec![next])).expect("promoted");
    assert_eq!(world.look(), [], "its former home is waited for");
    world.directory.run(Command::ClearWaiting(vec![home("ap-south-1", 1)])).expect("cleared");
    if world.directory.row(0).home == Some(home("us-east-1", 1)) {
        assert_eq!(world.look()[0].0, "us-east-1");
    }
}

#[test]
fn what_takes_too_long_or_is_refused_is_given_up_and_the_generation_rises() {
    for refused in [true, false] {
        let mut world = World::new();
        world.begin("eu-west");
        world.look();
        world.hear(sealed(5));
        world.look();
        if refused {
            world.hear(Said::Refused("it may not be held there".into()));
        } else {
            world.now_ms += bounds::REHOME_MAX_MS;
            world.look();
        }
        assert_eq!(world.segments(), [(1, 0, 1), (2, 0, 1)], "it stays, in the next generation");
        // The import comes late.
        world.hear(Said::Imported);
        assert_eq!(world.look(), []);
        world.begin("eu-west");
        assert_eq!(world.look()[0].1.generation, Generation::new(2));
    }
}
