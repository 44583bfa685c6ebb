//! Cursors on their way into the log.

use super::*;
use types::{Body, DeviceCursor, StateUpdate};

fn read(name: &str, offset: u64) -> DeviceCursor {
    DeviceCursor::read(user(name), DeviceId::new(1), Offset::new(offset), 9)
}

fn written(world: &World) -> Vec<DeviceCursor> {
    let cursors = world.store.iter().filter_map(|record| match &record.body {
        Body::Update(StateUpdate::Cursors(cursors)) => Some(cursors.clone()),
        _ => None,
    });
    cursors.flatten().collect()
}

impl World {
    fn mark(&mut self, id: LogId, cursors: Vec<DeviceCursor>) {
        self.say(Input::Cursors { log: id, cursors });
        self.load_all();
        self.sync(usize::MAX);
    }
}

#[test]
fn what_moves_nothing_is_not_written() {
    let mut world = World::with_chat();
    world.mark(log(1), vec![read("alice", 1), read("eve", 1)]);
    assert_eq!(written(&world), [read("alice", 1)]);
    world.mark(log(1), vec![read("alice", 1)]);
    world.mark(log(9), vec![read("alice", 1)]);
    assert_eq!(written(&world).len(), 1, "it is there already, and a chat that is not there has none");
}

#[test]
fn a_home_that_may_not_act_writes_none() {
    for reason in 0..3 {
        let mut world = World::with_chat();
        match reason {
            0 => world.row(true),
            1 => world.begin_move(MoveId::new(5)),
            _ => world.lease_until_ms = 0,
        }
        world.mark(log(1), vec![read("alice", 1)]);
        assert_eq!(written(&world), [], "{reason}");
    }
}
