//! What happens, as it is shown.

use super::{Event, MessageId, Talk, Tick, print_line, told};
use crate::commands::session::Heard;
use anyhow::bail;
use client::{Entry, Presence, Receipt};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use types::{Code, LogId, LogKind, UserId};

impl Talk {
    /// The event, and those that are here already: what was shown is confirmed together.
    pub(super) async fn hear_all(&mut self, first: Event, events: &mut Heard) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some(event) = next {
            self.hear(event).await?;
            next = events.try_next();
        }
        events.confirm().await
    }

    async fn hear(&mut self, event: Event) -> anyhow::Result<()> {
        if self.json {
            print_line(&told::event(&event))?;
        } else if let Some(note) = self.notes.of(&event) {
            self.screen.note(&note)?;
        }
        match event {
            Event::Entry { log, entry } => self.read(log, &entry).await?,
            Event::Moved { log, entry } => {
                if let Some(room) = self.room.as_mut().filter(|room| room.log() == log) {
                    room.number(&entry);
                }
            }
            Event::Receipts { log, receipts } if !self.json => self.receipts(log, &receipts)?,
            Event::Typing { log, user, ttl_ms } if !self.json => self.types(log, user, ttl_ms)?,
            Event::Presence(presence) if !self.json => self.present(&presence)?,
            Event::Home { message_id, offset, last, .. } => {
                self.tick(&message_id, Tick::Home, Some(offset))?;
                if last {
                    self.under_way.remove(&message_id);
                }
            }
            Event::Replicated { message_id, offset, .. } => {
                self.tick(&message_id, Tick::Replicated, Some(offset))?;
                self.under_way.remove(&message_id);
            }
            Event::Failed { message_id, error, .. } => {
                self.under_way.remove(&message_id);
                self.note(&format!("not sent: {error}"))?;
            }
            Event::Diverged { log, undone, common_offset, .. } => {
                if let Some(room) = self.room.as_mut().filter(|room| room.log() == log) {
                    room.undo(common_offset);
                }
                for id in &undone {
                    self.tick(id, Tick::Accepted, None)?;
                }
                let count = undone.len();
                let note = format!("a failover took back {count} messages; what survives somewhere returns");
                self.note(&note)?;
            }
            Event::Unfollowed { log, error } => {
                if self.room.as_ref().is_none_or(|room| room.log() != log) {
                    return Ok(());
                }
                match error.known() {
                    Some(Code::Forbidden) => {
                        let title = self.room.take().map(|room| room.title).unwrap_or_default();
                        self.note(&format!("you are no member of {title} any more"))?;
                    }
                    _ => bail!("the chat cannot be followed: {error}"),
                }
            }
            Event::Ended { error } => bail!("the server refuses this session: {error}"),
            _ => {}
        }
        Ok(())
    }

    /// An entry of the chat that is open is shown, and counts as read.
    async fn read(&mut self, log: LogId, entry: &Entry) -> anyhow::Result<()> {
        let Some(room) = self.room.as_mut().filter(|room| room.log() == log) else { return Ok(()) };
        room.number(entry);
        room.typing.remove(&entry.sender);
        let is_shown = entry.offset <= room.shown || self.typed.contains(&entry.message_id);
        if entry.sender != *self.client.user() {
            room.chat.mark_read(entry).await;
        }
        match is_shown || self.json {
            true => Ok(()),
            false => self.show(self.people.show(entry)),
        }
    }

    fn receipts(&mut self, log: LogId, receipts: &[Receipt]) -> anyhow::Result<()> {
        let Some(room) = self.room.as_mut().filter(|room| room.log() == log) else { return Ok(()) };
        let own = self.client.user();
        let mut notes = Vec::new();
        for receipt in receipts.iter().filter(|receipt| receipt.user != *own) {
            let Some(read) = receipt.read.as_ref().map(|read| read.offset) else { continue };
            let known = room.read.entry(receipt.user.clone()).or_default();
            if read > *known {
                *known = read;
                notes.push(format!("{} has read up to [{read}]", self.people.name(&receipt.user)));
            }
        }
        notes.iter().try_for_each(|note| self.note(note))
    }

    fn types(&mut self, log: LogId, user: UserId, ttl_ms: u32) -> anyhow::Result<()> {
        let Some(room) = self.room.as_mut().filter(|room| room.log() == log) else { return Ok(()) };
        let now = Instant::now();
        let name = self.people.name(&user);
        let is_known = room.typing.insert(user, now + Duration::from_millis(ttl_ms.into()));
        match is_known.is_none_or(|until| until < now) {
            true => self.note(&format!("{name} is typing")),
            false => Ok(()),
        }
    }

    fn present(&mut self, presence: &Presence) -> anyhow::Result<()> {
        let Presence { user, online, last_seen_ms } = presence;
        let Some(room) = self.room.as_ref().filter(|room| room.others.contains(user)) else { return Ok(()) };
        let is_group = room.log().kind() != LogKind::Direct;
        // What nobody knows changes nothing.
        let Some(is_there) = *online else { return Ok(()) };
        let before = self.there.insert(user.clone(), is_there);
        // Of a group it is not told who has been away all the time.
        if before == Some(is_there) || (is_group && before.is_none() && !is_there) {
            return Ok(());
        }
        let name = self.people.name(user);
        let text = match (is_there, last_seen_ms) {
            (true, _) => format!("{name} is there"),
            (false, Some(at_ms)) => format!("{name} is not there, and was {} ago", ago(*at_ms)),
            (false, None) => format!("{name} is not there"),
        };
        self.note(&text)
    }

    fn tick(&mut self, id: &MessageId, tick: Tick, number: Option<u64>) -> anyhow::Result<()> {
        if let Some(text) = self.under_way.get(id).filter(|_| !self.json) {
            self.screen.tick(*id, tick, number, text)?;
        }
        Ok(())
    }
}

/// How long ago a time was.
fn ago(at_ms: u64) -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    match now_ms.saturating_sub(at_ms) / 1_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
