//! What clients ask, checked: from texts and numbers to [`types`]. WebSocket and REST share it.
//!
//! Every refusal names the field and the value that is wrong.

pub(crate) mod changes;

use crate::{
    live::{Asked, Reached},
    service::{Beside, ReadFrom},
};
use proto::client::{self, open_chat::Chat, read_history};
use types::{
    AckPolicy, Code, EntryBody, LogId, MemberRole, MessageId, Offset, Position, PositionToken, Refusal,
    RegionId, TokenError, UserId, limits,
};

/// What a message that is to be deleted takes until it is looked up, about.
const DELETED_BYTES: usize = 128;

/// A message that a client wants written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) log: LogId,
    pub(crate) message_id: MessageId,
    pub(crate) after: Option<MessageId>,
    pub(crate) body: EntryBody,
    pub(crate) ack: AckPolicy,
    pub(crate) deadline_ms: u64,
    pub(crate) beside: Beside,
}

impl Message {
    pub(crate) fn body_bytes(&self) -> usize {
        match &self.body {
            EntryBody::Message { ciphertext } => ciphertext.len(),
            EntryBody::Chat(change) => proto::encode_chat_change(change).len(),
            _ => self.beside.deletes.len() * DELETED_BYTES,
        }
    }
}

/// A chat that a client wants opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) log: LogId,
    pub(crate) members: Vec<(UserId, MemberRole)>,
    /// `None`: the client takes the chat as it is.
    pub(crate) ack_policy: Option<AckPolicy>,
    pub(crate) allowed_regions: Vec<RegionId>,
}

impl Opening {
    /// The chat's first entry.
    pub(crate) fn body(&self) -> EntryBody {
        EntryBody::Created {
            members: self.members.clone(),
            ack_policy: self.ack_policy.unwrap_or_default(),
            allowed_regions: self.allowed_regions.clone(),
        }
    }
}

/// A page that a client wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) log: LogId,
    pub(crate) from: ReadFrom,
    pub(crate) limit: usize,
}

fn bad(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::BadRequest, why.to_string())
}

pub(crate) fn log(text: &str) -> Result<LogId, Refusal> {
    text.parse().map_err(|error| bad(format_args!("field log: {error}")))
}

pub(crate) fn user(field: &str, text: &str) -> Result<UserId, Refusal> {
    UserId::new(text).map_err(|error| bad(format_args!("field {field}: {error}")))
}

pub(crate) fn position(log: LogId, token: &str) -> Result<Position, Refusal> {
    PositionToken::open(log, token).map_err(|error| {
        let code = match error {
            TokenError::Malformed { .. } => Code::PositionMalformed,
            TokenError::OtherLog { .. } => Code::PositionOfOtherChat,
        };
        Refusal::new(code, error.to_string())
    })
}

fn message_id(field: &str, text: &str) -> Result<MessageId, Refusal> {
    text.parse().map_err(|error| bad(format_args!("field {field}: {error}")))
}

fn ack(number: i32) -> Result<Option<AckPolicy>, Refusal> {
    if number == client::AckPolicy::Unspecified as i32 {
        return Ok(None);
    }
    proto::ack_policy_from_client(number).map(Some).map_err(bad)
}

pub(crate) fn message(send: client::Send) -> Result<Message, Refusal> {
    let log = log(&send.log)?;
    let bytes = send.ciphertext.len();
    if bytes > limits::BODY_MAX_BYTES {
        let why = format!("field ciphertext has {bytes} bytes, and {} are allowed", limits::BODY_MAX_BYTES);
        return Err(Refusal::new(Code::TooLarge, why));
    }
    let deadline_ms = match u64::from(send.deadline_ms) {
        0 => limits::DEADLINE_DEFAULT_MS,
        ms if ms > limits::DEADLINE_MAX_MS => {
            let max = limits::DEADLINE_MAX_MS;
            return Err(bad(format_args!("field deadline_ms is {ms}, and {max} is the longest")));
        }
        ms => ms,
    };
    let after = match send.after_message_id.as_str() {
        "" => None,
        text => Some(message_id("after_message_id", text)?),
    };
    Ok(Message {
        log,
        message_id: message_id("message_id", &send.message_id)?,
        after,
        body: EntryBody::Message { ciphertext: send.ciphertext },
        ack: ack(send.ack)?.unwrap_or_default(),
        deadline_ms,
        beside: Beside { about: changes::about(&send.kind, send.refers_to)?, deletes: Vec::new() },
    })
}

/// How far a device says that it has come, and in which chat.
pub(crate) fn reached(mark: &client::LogMark) -> Result<(LogId, Reached), Refusal> {
    let log = log(&mark.log)?;
    let (delivered, read) = (position(log, &mark.delivered)?, position(log, &mark.read)?);
    Ok((log, Reached { delivered, read, hides_read: false }))
}

/// Whom a session wants to watch, without repeats, and as members of which chat.
pub(crate) fn watched(watch: &client::WatchPresence) -> Result<(Vec<UserId>, Option<LogId>), Refusal> {
    let chat = if watch.log.is_empty() { None } else { Some(log(&watch.log)?) };
    let mut users: Vec<UserId> =
        watch.users.iter().map(|name| user("users", name)).collect::<Result<_, _>>()?;
    users.sort();
    users.dedup();
    Ok((users, chat))
}

/// Which receipts are wanted.
pub(crate) fn receipts(user: UserId, read: &client::ReadReceipts) -> Result<Asked, Refusal> {
    let after = match read.after_user.as_str() {
        "" => None,
        name => Some(self::user("after_user", name)?),
    };
    let (log, limit) = (log(&read.log)?, page_limit(read.limit)?);
    Ok(Asked { log, user, offset: Offset::new(read.offset), after, limit })
}

/// `known_regions` are those of the deployment.
pub(crate) fn opening(
    creator: &UserId,
    open: client::OpenChat,
    known_regions: &[&RegionId],
) -> Result<Opening, Refusal> {
    let ack_policy = ack(open.ack_policy)?;
    let allowed_regions = regions(&open.allowed_regions, known_regions)?;
    let (log, members) = match open.chat {
        None => return Err(bad("neither direct_with nor group is set")),
        Some(Chat::DirectWith(other)) => {
            let other = user("direct_with", &other)?;
            if other == *creator {
                return Err(bad(format_args!("field direct_with: {other} is the asking user")));
            }
            let log = LogId::direct(creator, &other);
            let mut members = vec![(creator.clone(), MemberRole::Member), (other, MemberRole::Member)];
            members.sort();
            (log, members)
        }
        Some(Chat::Group(group)) => new_group(creator, &group)?,
    };
    Ok(Opening { log, members, ack_policy, allowed_regions })
}

fn new_group(
    creator: &UserId,
    group: &client::NewGroup,
) -> Result<(LogId, Vec<(UserId, MemberRole)>), Refusal> {
    let key = message_id("group.key", &group.key)?;
    let count = group.members.len() + 1;
    if count > limits::MEMBERS_MAX {
        let why = format!("the group has {count} members, and {} are allowed", limits::MEMBERS_MAX);
        return Err(Refusal::new(Code::TooLarge, why));
    }
    let mut members = vec![(creator.clone(), MemberRole::Owner)];
    for name in &group.members {
        let member = user("group.members", name)?;
        if member != *creator {
            members.push((member, MemberRole::Member));
        }
    }
    members.sort();
    members.dedup();
    Ok((LogId::group(*key.as_bytes()), members))
}

fn regions(names: &[String], known: &[&RegionId]) -> Result<Vec<RegionId>, Refusal> {
    if names.len() > limits::REGIONS_MAX {
        let why = format!("{} regions are allowed_regions, and {} can be", names.len(), limits::REGIONS_MAX);
        return Err(Refusal::new(Code::TooLarge, why));
    }
    let mut regions = Vec::new();
    for name in names {
        let Some(region) = known.iter().find(|region| region.as_str() == name) else {
            let known: Vec<&str> = known.iter().map(|region| region.as_str()).collect();
            let name: String = name.chars().take(80).collect();
            let why =
                format!("field allowed_regions: there is no region {name:?}; there are {}", known.join(", "));
            return Err(Refusal::new(Code::UnknownRegion, why));
        };
        regions.push(RegionId::clone(region));
    }
    regions.sort();
    regions.dedup();
    Ok(regions)
}

pub(crate) fn reading(read: &client::ReadHistory) -> Result<Reading, Refusal> {
    let log = log(&read.log)?;
    let from = match &read.from {
        Some(read_history::From::After(token)) => ReadFrom::After(position(log, token)?),
        Some(read_history::From::Before(token)) if !token.is_empty() => {
            ReadFrom::Before(Some(position(log, token)?))
        }
        Some(read_history::From::Before(_)) | None => ReadFrom::Before(None),
    };
    Ok(Reading { log, from, limit: page_limit(read.limit)? })
}

fn page_limit(limit: u32) -> Result<usize, Refusal> {
    match usize::try_from(limit).unwrap_or(usize::MAX) {
        0 => Ok(limits::PAGE_DEFAULT_ENTRIES),
        limit if limit > limits::PAGE_MAX_ENTRIES => {
            let max = limits::PAGE_MAX_ENTRIES;
            Err(bad(format_args!("field limit is {limit}, and {max} is the most")))
        }
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserId {
        UserId::new(text).expect("a valid name")
    }

    fn direct(with: &str, allowed_regions: &[&str]) -> client::OpenChat {
        client::OpenChat {
            chat: Some(Chat::DirectWith(with.to_owned())),
            allowed_regions: allowed_regions.iter().map(|&region| region.to_owned()).collect(),
            ..client::OpenChat::default()
        }
    }

    fn send(log: LogId, bytes: usize) -> client::Send {
        client::Send {
            log: log.to_string(),
            message_id: "0192c1de-1111-7000-8000-000000000001".to_owned(),
            ciphertext: vec![0; bytes].into(),
            ..client::Send::default()
        }
    }

    #[test]
    fn both_users_open_the_same_direct_chat() {
        let region = RegionId::new("us-east").expect("a valid name");
        let by_alice = opening(&name("alice"), direct("bob", &[]), &[&region]).expect("it is valid");
        let by_bob = opening(&name("bob"), direct("alice", &[]), &[&region]).expect("it is valid");
        assert_eq!(by_alice, by_bob);
    }

    #[test]
    fn an_unknown_region_is_named_beside_the_known_ones() {
        let region = RegionId::new("us-east").expect("a valid name");
        let refusal =
            opening(&name("alice"), direct("bob", &["mars"]), &[&region]).expect_err("no such region");
        assert_eq!(refusal.code, Code::UnknownRegion);
        assert!(refusal.message.contains("\"mars\"") && refusal.message.contains("us-east"), "{refusal}");
    }

    #[test]
    fn a_body_over_the_limit_is_refused_with_both_numbers() {
        let log = LogId::group([1; 16]);
        assert!(message(send(log, limits::BODY_MAX_BYTES)).is_ok());
        let refusal = message(send(log, limits::BODY_MAX_BYTES + 1)).expect_err("too large");
        assert_eq!(refusal.code, Code::TooLarge);
        assert!(refusal.message.contains("65537") && refusal.message.contains("65536"), "{refusal}");
    }

    #[test]
    fn a_position_of_another_chat_is_told_from_a_made_up_one() {
        let (here, there) = (LogId::group([1; 16]), LogId::group([2; 16]));
        let token = PositionToken::seal(there, Position::START);
        assert_eq!(
            position(here, token.as_str()).map_err(|refusal| refusal.code),
            Err(Code::PositionOfOtherChat)
        );
        assert_eq!(position(here, "made-up").map_err(|refusal| refusal.code), Err(Code::PositionMalformed));
    }
}
