//! Who comes to a circle and leaves it, or is removed, and reads what there is to read.

use super::{
    asks::{Asks, Wish},
    secret,
};
use crate::{
    history::{BodySum, Kind, Resends},
    workload::{
        Place, Shared,
        reader::{self, Ended, Reader},
    },
};
use proto::client::{
    ChangeMembers, JoinChat, MemberChange, ReadHistory, client_frame::Frame, read_history,
    server_frame::Frame as Answer,
};
use rand::RngExt as _;
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::sleep;
use types::{LogId, limits};

/// While it is out, until it tries again: as long as somebody writes, and then.
const OUT: Duration = Duration::from_secs(1);
const OUT_AT_THE_END: Duration = Duration::from_secs(5);
/// Of how many connections it leaves the circle behind one.
const LEAVES: f64 = 0.2;
/// Of how many tries to read on it joins behind one.
const JOINS: f64 = 0.5;

/// Runs until the workload stops.
pub(in crate::workload) async fn run(shared: Shared, place: Place, circle: LogId) {
    let stop = shared.stop.clone();
    let mut asks = Asks::new(shared, place, circle);
    stop.run_until_cancelled(live(&mut asks)).await;
}

async fn live(asks: &mut Asks) {
    let is_writing = |asks: &Asks| asks.shared.writing.load(Ordering::Relaxed);
    loop {
        let mut reader = Reader::guest(asks.shared.clone(), &asks.place, asks.circle);
        while !matches!(reader.read_once(&mut asks.place).await, Ok(Ended::Out)) {
            if is_writing(asks) && asks.place.rng.random_bool(LEAVES) {
                leave(asks).await;
            }
            sleep(reader::AWAY).await;
        }
        reader.end();
        page(asks).await;
        sleep(if is_writing(asks) { OUT } else { OUT_AT_THE_END }).await;
        if is_writing(asks) && asks.place.rng.random_bool(JOINS) {
            join(asks).await;
        }
    }
}

/// Leaves, if it is in.
async fn leave(asks: &mut Asks) {
    let user = asks.place.user.clone();
    let (id, message) = asks.message();
    let changes = vec![MemberChange { user: user.to_string(), role: String::new() }];
    asks.shared.recorder.record(Kind::Membership { message, user, is_member: false });
    let (log, message_id) = (asks.circle.to_string(), id.to_string());
    let frame = Frame::ChangeMembers(ChangeMembers { log, message_id, changes });
    write(asks, Wish { message, body: BodySum::CHANGE, resends: Resends::UntilReplicated, frame }).await;
}

/// Comes back by the invite.
async fn join(asks: &mut Asks) {
    let user = asks.place.user.clone();
    let (id, message) = asks.message();
    asks.shared.recorder.record(Kind::Membership { message, user, is_member: true });
    let (log, message_id) = (asks.circle.to_string(), id.to_string());
    let frame = Frame::JoinChat(JoinChat { log, message_id, secret: secret(asks.circle) });
    write(asks, Wish { message, body: BodySum::CHANGE, resends: Resends::UntilReplicated, frame }).await;
}

/// It may be in or out already, and then it is refused.
async fn write(asks: &mut Asks, wish: Wish) {
    let _ = asks.write(wish).await;
}

/// Reads the newest entries that it is given.
async fn page(asks: &mut Asks) {
    let from = Some(read_history::From::Before(String::new()));
    let read = ReadHistory { log: asks.circle.to_string(), from, limit: limits::PAGE_MAX_ENTRIES as u32 };
    let Ok(Answer::HistoryPage(page)) = asks.ask(Frame::ReadHistory(read)).await else { return };
    let region = asks.shared.recorder.region(&asks.place.region);
    let (device, log) = (asks.device, asks.shared.recorder.log(asks.circle));
    for entry in &page.entries {
        let Some((at, message, body)) = reader::told(&asks.shared, (asks.circle, log), region, entry) else {
            return;
        };
        asks.shared.recorder.record(Kind::Paged { device, log, at, message, body });
    }
}
