//! Who owns a circle: writes, deletes, removes and adds.

use super::{
    GUEST,
    asks::{Asks, Wish},
    secret,
};
use crate::{
    history::{BodySum, Kind, Message, Resends},
    workload::{Place, Shared, body},
};
use proto::client::{
    AckPolicy, ChangeMembers, DeleteMessages, MakeInvite, MemberChange, Reference, Send, client_frame::Frame,
};
use rand::RngExt as _;
use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};
use tokio::time::sleep;
use types::{Code, UserId};

/// Between two things that it does.
const EVERY: Duration = Duration::from_millis(500);

struct Keeper {
    asks: Asks,
    /// The guests, and whether they are in.
    guests: BTreeMap<UserId, bool>,
    /// What it has written and not deleted.
    written: Vec<(Message, Reference)>,
}

/// Runs until the workload stops.
pub(in crate::workload) async fn run(shared: Shared, place: Place) {
    let Some(circle) = shared.chats.of(&place.user).next().cloned() else { return };
    let stop = shared.stop.clone();
    let is_guest = |user: &&UserId| user.as_str().starts_with(GUEST);
    let guests = circle.members.iter().filter(is_guest).map(|guest| (guest.clone(), true)).collect();
    let asks = Asks::new(shared, place, circle.id);
    let mut keeper = Keeper { asks, guests, written: Vec::new() };
    stop.run_until_cancelled(keeper.keep()).await;
}

impl Keeper {
    async fn keep(&mut self) {
        self.invite().await;
        loop {
            let pause = self.asks.place.pause(EVERY);
            sleep(pause).await;
            if !self.asks.shared.writing.load(Ordering::Relaxed) {
                continue;
            }
            match self.asks.place.rng.random_range(0..10) {
                0..4 => self.change().await,
                4..6 if !self.written.is_empty() => self.delete().await,
                _ => self.write().await,
            }
        }
    }

    /// Makes the invite by which guests come back.
    async fn invite(&mut self) {
        let (id, message) = self.asks.message();
        let circle = self.asks.circle;
        let frame = Frame::MakeInvite(MakeInvite {
            log: circle.to_string(),
            message_id: id.to_string(),
            secret: secret(circle),
            ..MakeInvite::default()
        });
        let (body, resends) = (BodySum::CHANGE, Resends::UntilReplicated);
        let _ = self.asks.write(Wish { message, body, resends, frame }).await;
    }

    async fn write(&mut self) {
        let (id, message) = self.asks.message();
        let ciphertext = body(id, self.asks.shared.load.body_bytes);
        let is_safe = self.asks.place.rng.random_bool(0.5);
        let (ack, resends) = match is_safe {
            true => (AckPolicy::Replicated, Resends::UntilReplicated),
            false => (AckPolicy::Home, Resends::Never),
        };
        let body = BodySum::of(&ciphertext);
        let log = self.asks.circle.to_string();
        let send = Send { log, message_id: id.to_string(), ciphertext, ack: ack.into(), ..Send::default() };
        let wish = Wish { message, body, resends, frame: Frame::Send(send) };
        if let Ok(sent) = self.asks.write(wish).await {
            let (sender, device) = (self.asks.place.user.to_string(), self.asks.place.device.get());
            let message_id = id.to_string();
            self.written.push((message, Reference { sender, device, message_id, offset: sent.offset }));
        }
    }

    /// Removes a guest who is in, or adds one who is out.
    async fn change(&mut self) {
        let place = self.asks.place.rng.random_range(0..self.guests.len());
        let Some((user, is_in)) = self.guests.iter().nth(place) else { return };
        let (user, is_member) = (user.clone(), !is_in);
        let (id, message) = self.asks.message();
        self.asks.shared.recorder.record(Kind::Membership { message, user: user.clone(), is_member });
        let role = if is_member { "member" } else { "" };
        let frame = Frame::ChangeMembers(ChangeMembers {
            log: self.asks.circle.to_string(),
            message_id: id.to_string(),
            changes: vec![MemberChange { user: user.to_string(), role: role.to_owned() }],
        });
        let (body, resends) = (BodySum::CHANGE, Resends::UntilReplicated);
        // A conflict: the guest has left or joined meanwhile.
        if let Ok(_) | Err(Some(Code::Conflict)) =
            self.asks.write(Wish { message, body, resends, frame }).await
        {
            self.guests.insert(user, is_member);
        }
    }

    /// Deletes what it has written.
    async fn delete(&mut self) {
        let place = self.asks.place.rng.random_range(0..self.written.len());
        let (deleted, reference) = self.written.swap_remove(place);
        let (id, message) = self.asks.message();
        self.asks.shared.recorder.record(Kind::Deletion { message, deleted });
        let frame = Frame::DeleteMessages(DeleteMessages {
            log: self.asks.circle.to_string(),
            message_id: id.to_string(),
            messages: vec![reference],
        });
        let (body, resends) = (BodySum::CHANGE, Resends::UntilReplicated);
        let _ = self.asks.write(Wish { message, body, resends, frame }).await;
    }
}
