//! Opening a chat: pin it, then write its first entry, or find that it is there.
//!
//! Both steps may be repeated by anyone, on any device: a log has one pin, and its first entry has a
//! message id that follows from the log.

use super::request::{self, Opening};
use crate::{
    router::{Draft, Router},
    service::{Beside, ReadFrom, ReadRefusal},
};
use proto::client;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};
use types::{
    AckPolicy, Code, DeviceId, EntryBody, LogId, MessageId, Position, Record, Refusal, RegionId, Retirement,
    UserId, limits,
};

/// The device under which first entries are written, whichever device asked.
const OPENING_DEVICE: DeviceId = DeviceId::new(0);
/// How often it is looked whether another's first entry is replicated.
const REPLICATED_STEP: Duration = Duration::from_millis(50);

impl Router {
    /// Opens a chat; the position is that of its first entry, which is in every in-sync region then.
    ///
    /// # Errors
    /// `chat_exists` where it is there with other members or terms; what pinning and writing are refused for.
    pub(crate) async fn open_chat(
        &self,
        creator: UserId,
        open: client::OpenChat,
    ) -> Result<(LogId, Position), Refusal> {
        let placement = self.parts().view.load();
        let regions: Vec<&RegionId> = placement.regions().map(|row| &row.region).collect();
        let opening = request::opening(&creator, open, &regions)?;
        let log = opening.log;
        let deadline = Instant::now() + Duration::from_millis(limits::DEADLINE_DEFAULT_MS);
        self.pin(opening.log, &opening.allowed_regions).await?;
        let draft = Draft {
            log: opening.log,
            sender: creator.clone(),
            device: OPENING_DEVICE,
            message_id: MessageId::from_bytes(*opening.log.key()),
            after: None,
            body: opening.body(),
            ack: AckPolicy::Replicated,
            deadline,
            beside: Beside::default(),
        };
        match self.write(draft).await {
            Ok(acked) => Ok((log, acked.position)),
            Err(refusal) if matches!(refusal.code, Code::ChatExists | Code::MessageIdReused) => {
                Ok((log, self.opened_before(&creator, &opening, deadline).await?))
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Compares a chat that is there with the one asked for.
    async fn opened_before(
        &self,
        creator: &UserId,
        opening: &Opening,
        deadline: Instant,
    ) -> Result<Position, Refusal> {
        let log = opening.log;
        let from = ReadFrom::After(Position::START);
        let page = self.read(log, creator, from, 1, Position::START).await;
        let first = match page {
            Ok(page) => page.records.into_iter().next(),
            Err(ReadRefusal::Refused(refusal)) if refusal.code != Code::Forbidden => return Err(refusal),
            Err(_) => None,
        };
        let first = first.filter(|record| is_same(record, opening)).ok_or_else(|| {
            Refusal::new(Code::ChatExists, format!("chat {log} exists with other members or other terms"))
        })?;
        let position = first.position().unwrap_or(Position::START);
        while !self.is_safe(log, creator, position).await? {
            if Instant::now() >= deadline {
                let why = format!("chat {log} exists and is not replicated yet");
                return Err(Refusal::new(Code::Indeterminate, why));
            }
            sleep(REPLICATED_STEP).await;
        }
        Ok(position)
    }

    async fn is_safe(&self, log: LogId, user: &UserId, position: Position) -> Result<bool, Refusal> {
        if self.has_one_region() {
            return Ok(true);
        }
        match self.locate(log, user, position).await {
            Ok(answer) => Ok(answer.replicated.offset >= position.offset),
            Err(ReadRefusal::Refused(refusal)) if !refusal.is_retryable() => Err(refusal),
            Err(_) => Ok(false),
        }
    }

    /// Nothing is ever replicated: there is nowhere to. `false` before a placement has come.
    pub(crate) fn has_one_region(&self) -> bool {
        self.regions() == 1
    }

    /// Whether a placement has come, so that it is known how many regions there are.
    pub(crate) fn knows_regions(&self) -> bool {
        self.regions() > 0
    }

    fn regions(&self) -> usize {
        let placement = self.parts().view.load();
        placement.regions().filter(|region| region.retirement != Retirement::Retired).count()
    }
}

/// Whether the chat is what was asked for; what the asker left open it takes as it is.
fn is_same(record: &Record, opening: &Opening) -> bool {
    let Some(EntryBody::Created { members, ack_policy, allowed_regions }) =
        record.entry().map(|entry| &entry.body)
    else {
        return false;
    };
    members.iter().collect::<BTreeSet<_>>() == opening.members.iter().collect()
        && opening.ack_policy.is_none_or(|asked| asked == *ack_policy)
        && (opening.allowed_regions.is_empty()
            || allowed_regions.iter().collect::<BTreeSet<_>>() == opening.allowed_regions.iter().collect())
}
