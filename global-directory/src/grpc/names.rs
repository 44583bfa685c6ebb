//! The `Names` service: who has which name, and which keys verify access tokens.

use super::request;
use crate::{
    bounds, clock,
    command::{
        Command, Envelope, NameClaim, NameError, NameRow, NameState, NameTakeOver, NameWish, NewKey, Refusal,
    },
    engine::{Engine, SubmitError},
    kv::Kv,
    rows, status,
};
use proto::{
    Malformed,
    directory::{self as wire, names_server::Names},
};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use types::{Home, Incarnation, Name, NodeId, RequestId, UserId, VerifyingKey};

/// What the service asks.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) kv: Arc<dyn Kv>,
}

impl Service {
    async fn submit(&self, request: RequestId, command: Command) -> Result<(), SubmitError> {
        let envelope = Envelope { request, at_ms: clock::wall_ms(), command };
        self.engine.submit(envelope).await.map(drop)
    }

    /// Answers a name that is taken; any other refusal is an error.
    async fn claimed(&self, request: RequestId, command: Command) -> Result<wire::ClaimReply, Status> {
        match self.submit(request, command).await {
            Ok(()) => Ok(wire::ClaimReply { taken: None }),
            Err(SubmitError::Refused(Refusal::Name(NameError::Taken { name, row }))) => {
                Ok(wire::ClaimReply { taken: Some(to_wire(&name, Some(&row))) })
            }
            Err(error) => Err(status::submit(&error)),
        }
    }
}

fn to_wire(name: &Name, row: Option<&NameRow>) -> wire::NameRow {
    let (state, at_ms) = match row.map(|row| row.state) {
        None => (wire::NameState::Unspecified, 0),
        Some(NameState::Claimed { at_ms }) => (wire::NameState::Claimed, at_ms),
        Some(NameState::Held) => (wire::NameState::Held, 0),
        Some(NameState::Freed { at_ms }) => (wire::NameState::Freed, at_ms),
    };
    let user = row.map(|row| row.user.to_string()).unwrap_or_default();
    wire::NameRow { name: name.to_string(), user, state: state.into(), at_ms }
}

fn names(field: &'static str, names: &[String], max: usize) -> Result<Vec<Name>, Status> {
    request::bounded(field, names.len(), max)?;
    let name = |text: &String| {
        Name::new(text).map_err(|error| Status::invalid_argument(format!("field {field}: {error}")))
    };
    names.iter().map(name).collect()
}

fn wish(wanted: &[String], user: &str) -> Result<NameWish, Status> {
    let names = names("names", wanted, bounds::NAMES_PER_COMMAND)?;
    Ok(NameWish { names, user: request::name("user", UserId::new(user))? })
}

fn key(wire: wire::PublishKeyRequest) -> Result<NewKey, Status> {
    let Some(key) = wire.key else {
        return Err(status::malformed(&Malformed::Missing { field: "publish_key.key" }));
    };
    let node = Home {
        node: request::name("publish_key.node", NodeId::new(&wire.node))?,
        incarnation: Incarnation::new(wire.incarnation),
    };
    Ok(NewKey { node, key: VerifyingKey::try_from(key).map_err(|error| status::malformed(&error))? })
}

#[async_trait::async_trait]
impl Names for Service {
    async fn claim(
        &self,
        request: Request<wire::ClaimRequest>,
    ) -> Result<Response<wire::ClaimReply>, Status> {
        let wire = request.into_inner();
        let id = request::request_id(&wire.request_id)?;
        let claim = NameClaim { wish: wish(&wire.names, &wire.user)?, freed_before_ms: wire.freed_before_ms };
        Ok(Response::new(self.claimed(id, Command::ClaimNames(claim)).await?))
    }

    async fn hold(&self, request: Request<wire::HoldRequest>) -> Result<Response<wire::HoldReply>, Status> {
        let wire = request.into_inner();
        let id = request::request_id(&wire.request_id)?;
        let command = Command::HoldNames(wish(&wire.names, &wire.user)?);
        self.submit(id, command).await.map_err(|error| status::submit(&error))?;
        Ok(Response::new(wire::HoldReply {}))
    }

    async fn take_over(
        &self,
        request: Request<wire::TakeOverRequest>,
    ) -> Result<Response<wire::ClaimReply>, Status> {
        let wire = request.into_inner();
        let id = request::request_id(&wire.request_id)?;
        let from = request::name("take_over.from", UserId::new(&wire.from))?;
        let take_over = NameTakeOver { wish: wish(&wire.names, &wire.user)?, from };
        Ok(Response::new(self.claimed(id, Command::TakeOverNames(take_over)).await?))
    }

    async fn release(
        &self,
        request: Request<wire::ReleaseRequest>,
    ) -> Result<Response<wire::ReleaseReply>, Status> {
        let wire = request.into_inner();
        let id = request::request_id(&wire.request_id)?;
        let command = Command::ReleaseNames(wish(&wire.names, &wire.user)?);
        self.submit(id, command).await.map_err(|error| status::submit(&error))?;
        Ok(Response::new(wire::ReleaseReply {}))
    }

    async fn resolve(
        &self,
        request: Request<wire::ResolveRequest>,
    ) -> Result<Response<wire::ResolveReply>, Status> {
        let wanted = names("names", &request.into_inner().names, bounds::NAMES_PER_READ)?;
        self.engine.read_barrier().await.map_err(|error| status::submit(&error))?;
        let mut found = Vec::with_capacity(wanted.len());
        let read = self.kv.read(&mut |tx| {
            found.clear();
            for name in &wanted {
                found.push(to_wire(name, rows::name(tx, name)?.as_ref()));
            }
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok(Response::new(wire::ResolveReply { names: found }))
    }

    async fn publish_key(
        &self,
        request: Request<wire::PublishKeyRequest>,
    ) -> Result<Response<wire::PublishKeyReply>, Status> {
        let wire = request.into_inner();
        let id = request::request_id(&wire.request_id)?;
        let command = Command::PublishKey(key(wire)?);
        self.submit(id, command).await.map_err(|error| status::submit(&error))?;
        Ok(Response::new(wire::PublishKeyReply {}))
    }
}
