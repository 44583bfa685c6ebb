//! An SDK client that writes to all its chats, and reads them live.

use super::{Place, Shared, body, sdk::Ear};
use crate::history::{BodySum, Kind, Resends};
use client::{Client, Config, Event, From};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::time::{Instant as Deadline, sleep_until};
use tokio_util::sync::CancellationToken;

/// Of how many entries it tells that it has read one.
const READS_EVERY: u64 = 4;

/// Runs until the workload stops, or until the device is `lost`.
pub(super) async fn run(shared: Shared, mut place: Place, every: Duration, lost: CancellationToken) {
    let recorder = shared.recorder.clone();
    let device = recorder.device(&place.user, place.device, &place.region);
    let region = recorder.region(&place.region);
    let config = Config::new(place.edges.clone(), place.user.clone(), place.device);
    let client = match Client::connect(config) {
        Ok(client) => client,
        Err(error) => return recorder.note(format!("a writer cannot start: {error}")),
    };
    let mut events = client.events().await;
    let ids: Vec<_> = shared.chats.of(&place.user).map(|chat| chat.id).collect();
    let mut ear = Ear::new(shared.clone(), device, region, ids.iter().copied());
    let chats: Vec<_> = ids.iter().map(|id| client.chat(*id)).collect();
    for chat in &chats {
        chat.follow(From::Start).await;
    }
    let began = Instant::now();
    let mut sent = 0_u32;
    let mut next = Deadline::now();
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = lost.cancelled() => return ear.lost(),
            event = events.next() => match event {
                Some(Event::Entry { log, entry }) => {
                    let is_told = shared.load.circles && entry.offset.is_multiple_of(READS_EVERY);
                    if is_told {
                        client.chat(log).mark_read(&entry).await;
                    }
                    ear.hear(Event::Entry { log, entry });
                    if is_told {
                        ear.has_read(log, &place.user);
                    }
                }
                Some(event) => ear.hear(event),
                None => return recorder.note(format!("a writer of {} has ended", place.region)),
            },
            () = sleep_until(next) => {
                next = Deadline::from_std(began + every * sent) + place.pause(every);
                sent += 1;
                if !shared.writing.load(Ordering::Relaxed) {
                    continue;
                }
                let chat = &chats[sent as usize % chats.len()];
                let id = place.message_id();
                let body = body(id, shared.load.body_bytes);
                let message = recorder.message(recorder.log(chat.log()), device, id);
                let sum = BodySum::of(&body);
                let resends = Resends::UntilReplicated;
                recorder.record(Kind::Invoke { message, body: sum, after: None, resends });
                match chat.send_as(id, body).await {
                    Ok(_) => ear.sent(id),
                    Err(error) => {
                        let code = types::Code::Overloaded;
                        recorder.record(Kind::Fail { message, code });
                        recorder.note(format!("{message} was not accepted: {error}"));
                    }
                }
            }
        }
    }
}
