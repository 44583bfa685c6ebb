//! The `Homes` service: what nodes ask about the homes that they have.

use super::request;
use crate::{
    bounds, clock,
    command::{Answer, Command, Envelope, FollowingWish, NewRehome, Refusal, RehomeError},
    controller::{Follows, NotNow, leaving},
    engine::{Engine, SubmitError},
    kv::Kv,
    rows,
    state::State,
    status,
};
use parking_lot::Mutex;
use proto::directory::{self as wire, homes_server::Homes};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// What the service asks.
pub(crate) struct Service {
    pub(crate) state: Arc<State>,
    pub(crate) engine: Engine,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) follows: Mutex<Follows>,
}

impl Service {
    /// Begins to re-home a log, if that is admitted and the rows allow it.
    async fn follow(&self, envelope: Envelope, new: &NewRehome) -> Result<Followed, Status> {
        let now_ms = clock::boot_ms();
        let admitted =
            self.state.look(|view, _| self.follows.lock().admit(now_ms, view, new.log, &new.region));
        if let Err(not_now) = admitted {
            return Ok(Followed::NotNow(not_now));
        }
        match self.engine.submit(envelope).await {
            Ok(Answer::Applied(1)) => {
                self.follows.lock().gone(clock::boot_ms(), new.log);
                self.state.rehomings().notify_one();
                Ok(Followed::Begun)
            }
            Ok(_) => Ok(Followed::Refused("it is homed there".into(), bounds::FOLLOW_RATE_MS)),
            Err(SubmitError::Refused(refusal)) => {
                let again_ms = match &refusal {
                    Refusal::Rehome(RehomeError::TooMany(_) | RehomeError::NotItsHome(..)) => {
                        bounds::FOLLOW_RATE_MS
                    }
                    Refusal::Rehome(RehomeError::FollowingOff) => bounds::FOLLOW_RESTLESS_MS,
                    _ => bounds::FOLLOW_REFUSED_MS,
                };
                Ok(Followed::Refused(refusal.to_string(), again_ms))
            }
            Err(error) => Err(status::submit(&error)),
        }
    }

    fn under_way(&self) -> Result<(bool, usize), Status> {
        let (mut off, mut under_way) = (false, 0);
        let read = self.kv.read(&mut |tx| {
            off = rows::meta(tx)?.is_some_and(|meta| meta.following_off);
            under_way = rows::rehomes(tx)?.iter().filter(|row| row.follows).count();
            Ok(())
        });
        read.map_err(|error| status::store(&error))?;
        Ok((off, under_way))
    }
}

/// What became of a log that is to follow.
enum Followed {
    Begun,
    NotNow(NotNow),
    Refused(String, u64),
}

#[async_trait::async_trait]
impl Homes for Service {
    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Result<Response<wire::FollowReply>, Status> {
        let (request, new) = request::follow(request.into_inner())?;
        let command = Command::BeginRehome(new.clone());
        let envelope = Envelope { request, at_ms: clock::wall_ms(), command };
        let (outcome, reply) = match self.follow(envelope, &new).await? {
            Followed::Begun => {
                let retry_after_ms = self.follows.lock().settings().cooldown_ms;
                ("begun", wire::FollowReply { begun: true, retry_after_ms, why: String::new() })
            }
            Followed::NotNow(not_now) => {
                let (retry_after_ms, why) = (not_now.retry_after_ms(), not_now.to_string());
                ("not_now", wire::FollowReply { begun: false, retry_after_ms, why })
            }
            Followed::Refused(why, retry_after_ms) => {
                ("refused", wire::FollowReply { begun: false, retry_after_ms, why })
            }
        };
        metrics::counter!("hearth_follows_total", "outcome" => outcome).increment(1);
        Ok(Response::new(reply))
    }

    async fn following(
        &self,
        _: Request<wire::FollowingRequest>,
    ) -> Result<Response<wire::FollowingReply>, Status> {
        self.engine.read_barrier().await.map_err(|error| status::submit(&error))?;
        let (off, under_way) = self.under_way()?;
        let settings = *self.follows.lock().settings();
        Ok(Response::new(wire::FollowingReply {
            on: settings.on,
            off,
            cooldown_ms: settings.cooldown_ms,
            per_minute: settings.per_minute,
            region_per_minute: settings.region_per_minute,
            under_way: u32::try_from(under_way).unwrap_or(u32::MAX),
        }))
    }

    async fn set_following(
        &self,
        request: Request<wire::SetFollowingRequest>,
    ) -> Result<Response<wire::SetFollowingReply>, Status> {
        let wire = request.into_inner();
        let request = request::request_id(&wire.request_id)?;
        let by = request::operator("set_following.by", wire.by)?;
        let command = Command::SetFollowing(FollowingWish { on: wire.on, by });
        let envelope = Envelope { request, at_ms: clock::wall_ms(), command };
        self.engine.submit(envelope).await.map_err(|error| status::submit(&error))?;
        Ok(Response::new(wire::SetFollowingReply {}))
    }

    async fn leave(
        &self,
        request: Request<wire::LeaveRequest>,
    ) -> Result<Response<wire::LeaveReply>, Status> {
        let boot = request::leave(request.into_inner())?;
        let now_ms = clock::boot_ms();
        let unknown = |error: crate::state::RenewError| Status::failed_precondition(error.to_string());
        self.state.leave(&boot, now_ms).map_err(unknown)?;
        let (homes, movable) = self.state.look(|view, leases| leaving(view, leases, now_ms, &boot));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(wire::LeaveReply { homes: number(homes), movable: number(movable) }))
    }
}
