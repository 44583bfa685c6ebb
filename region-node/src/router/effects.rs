//! Effects on their way from the home of their cause to that of their target, wherever its partition is homed.
//!
//! The pin tells the partition: that of the stretch that the effect is for, which never changes, or the one in which
//! the log is written now. One hop, and one try: whoever sends it tries again until it hears that it is `replicated`.

use super::{HomeRouter, Router, pins::Stretch, read::before};
use crate::{
    peer::{Channel, client::answer, wire},
    service::{Carrier, NotHome, WriteError},
};
use async_trait::async_trait;
use std::time::Duration;
use types::{Code, Effect, EffectTarget, Generation, LogKind, PartitionId, Refusal};

/// How long the target's home is waited for: longer than it waits itself.
const HOME_PATIENCE: Duration = Duration::from_secs(5);

#[async_trait]
impl Carrier for HomeRouter {
    async fn carry(&self, effect: Effect) -> Result<(), WriteError> {
        let router = self.router()?;
        let mut closed = Generation::ZERO;
        loop {
            let partition = match router.partition_of(&effect.target, closed).await {
                // Whoever has no account is told by nobody having heard, and so is a chat that two have not opened.
                Err(refusal)
                    if refusal.code == Code::UnknownChat
                        && matches!(effect.target.log.kind(), LogKind::Account | LogKind::Direct) =>
                {
                    return Ok(());
                }
                found => found?,
            };
            match router.carry_to(partition, &effect).await {
                // The log has gone on elsewhere since its pin was read.
                Err(WriteError::NotHome(NotHome { closed: later, .. }))
                    if effect.target.stretch.is_zero() && later > closed =>
                {
                    closed = later;
                }
                outcome => return outcome,
            }
        }
    }
}

impl Router {
    async fn partition_of(&self, target: &EffectTarget, closed: Generation) -> Result<PartitionId, Refusal> {
        let EffectTarget { log, stretch } = *target;
        let (current, stretches) = self.stretches_above(log, before(stretch).max(closed)).await?;
        if stretch.is_zero() {
            return Ok(current.partition);
        }
        holder(stretches.as_deref().unwrap_or_default(), stretch)
            .or_else(|| (stretch == current.generation).then_some(current.partition))
            .ok_or_else(|| {
                let message = format!("{log} has no generation {stretch} in its pin");
                Refusal::new(Code::NotReady, message)
            })
    }

    async fn carry_to(&self, partition: PartitionId, effect: &Effect) -> Result<(), WriteError> {
        let away = || NotHome { moving: true, ..self.no_home(partition) };
        let route = self.bus_route(partition).ok_or_else(away)?;
        if route.channel == Channel::HERE {
            return self.parts().homes.take_effect(partition, effect.clone()).await;
        }
        let request = wire::effect_request(partition, effect);
        let asked = self.peers().ask(&route.node, Some(route.channel), request);
        let receiver = asked.map_err(|_| away())?;
        match answer(receiver, HOME_PATIENCE).await {
            Ok(reply) => wire::effect_outcome(reply),
            Err(why) => Err(WriteError::Indeterminate { why }),
        }
    }
}

/// Who holds what was written in a generation.
fn holder(stretches: &[Stretch], generation: Generation) -> Option<PartitionId> {
    stretches.iter().find(|stretch| generation <= stretch.generation).map(|stretch| stretch.partition)
}
