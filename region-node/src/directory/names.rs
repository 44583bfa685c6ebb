//! Whose names are, asked at the directory each time.

use super::{Directory, tries::NoReply};
use crate::service::{Claim, NameOwner, NameStanding, Names};
use async_trait::async_trait;
use bytes::Bytes;
use proto::directory::{self as wire, names_client::NamesClient};
use tonic::Status;
use types::{Code, Home, Name, Refusal, UserId, VerifyingKey};

/// See [`Names`].
#[derive(Debug, Clone)]
pub struct DirectoryNames(pub Directory);

fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(Name::to_string).collect()
}

fn request_id() -> Bytes {
    Bytes::copy_from_slice(host::random::id().as_bytes())
}

fn claimed(reply: wire::ClaimReply) -> Result<Claim, Refusal> {
    let Some(taken) = reply.taken else { return Ok(Claim::Yours) };
    let name = Name::new(&taken.name).map_err(|error| malformed(&error))?;
    match owner(&taken)? {
        Some(by) => Ok(Claim::Taken { name, by }),
        None => Err(malformed(&"a name is taken by nobody")),
    }
}

/// Whose a name is; `None`: nobody's, ever.
fn owner(row: &wire::NameRow) -> Result<Option<NameOwner>, Refusal> {
    let standing = match row.state() {
        wire::NameState::Unspecified => return Ok(None),
        wire::NameState::Claimed => NameStanding::Claimed { at_ms: row.at_ms },
        wire::NameState::Held => NameStanding::Held,
        wire::NameState::Freed => NameStanding::Freed { at_ms: row.at_ms },
    };
    let user = UserId::new(&row.user).map_err(|error| malformed(&error))?;
    Ok(Some(NameOwner { user, standing }))
}

fn malformed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("a name of the directory: {error}"))
}

fn refusal(error: NoReply) -> Refusal {
    match error {
        NoReply::Unavailable(refusal) => refusal,
        NoReply::Refused(status) => refused(&status),
    }
}

fn refused(status: &Status) -> Refusal {
    match status.code() {
        tonic::Code::InvalidArgument => Refusal::new(Code::BadRequest, status.message()),
        tonic::Code::ResourceExhausted => Refusal::new(Code::Overloaded, status.message()),
        _ => Refusal::new(Code::Conflict, status.message()),
    }
}

#[async_trait]
impl Names for DirectoryNames {
    async fn claim(&self, names: &[Name], user: &UserId, freed_before_ms: u64) -> Result<Claim, Refusal> {
        let (request_id, names, user) = (request_id(), texts(names), user.to_string());
        let request = wire::ClaimRequest { request_id, names, user, freed_before_ms };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.claim(request).await }
        };
        claimed(self.0.ask(ask).await.map_err(refusal)?)
    }

    async fn hold(&self, names: &[Name], user: &UserId) -> Result<(), Refusal> {
        let request =
            wire::HoldRequest { request_id: request_id(), names: texts(names), user: user.to_string() };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.hold(request).await }
        };
        self.0.ask(ask).await.map(drop).map_err(refusal)
    }

    async fn take_over(&self, names: &[Name], user: &UserId, from: &UserId) -> Result<Claim, Refusal> {
        let (request_id, names, user, from) =
            (request_id(), texts(names), user.to_string(), from.to_string());
        let request = wire::TakeOverRequest { request_id, names, user, from };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.take_over(request).await }
        };
        claimed(self.0.ask(ask).await.map_err(refusal)?)
    }

    async fn release(&self, names: &[Name], user: &UserId) -> Result<(), Refusal> {
        let request =
            wire::ReleaseRequest { request_id: request_id(), names: texts(names), user: user.to_string() };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.release(request).await }
        };
        self.0.ask(ask).await.map(drop).map_err(refusal)
    }

    async fn resolve(&self, names: &[Name]) -> Result<Vec<Option<NameOwner>>, Refusal> {
        let request = wire::ResolveRequest { names: texts(names) };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.resolve(request).await }
        };
        let reply = self.0.ask(ask).await.map_err(refusal)?;
        if reply.names.len() != names.len() {
            return Err(malformed(&"it tells of other names than it was asked for"));
        }
        reply.names.iter().map(owner).collect()
    }

    async fn publish_key(&self, node: &Home, key: &VerifyingKey) -> Result<(), Refusal> {
        let request = wire::PublishKeyRequest {
            request_id: request_id(),
            node: node.node.to_string(),
            incarnation: node.incarnation.get(),
            key: Some(key.into()),
        };
        let ask = |channel| {
            let (mut client, request) = (NamesClient::new(channel), request.clone());
            async move { client.publish_key(request).await }
        };
        self.0.ask(ask).await.map(drop).map_err(refusal)
    }
}
