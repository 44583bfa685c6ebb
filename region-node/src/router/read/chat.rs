//! What a chat is now: from this node's copy where that is of the placement's epoch, else from the home.

use super::{Router, closed_in, unavailable};
use crate::{
    peer::{wire, wire::Asked},
    service::{ChatState, ReadRefusal},
};
use types::{LogId, PinSegment, Refusal, UserId};

impl Router {
    /// What a chat is, for one of its members. A copy may not have the last change yet; those that were acked are in
    /// every in-sync one.
    ///
    /// # Errors
    /// `forbidden` for who is no member; `unknown_chat`; where nobody can be asked, a refusal that is retryable.
    pub(crate) async fn chat(&self, log: LogId, user: &UserId) -> Result<ChatState, Refusal> {
        let mut pin = self.pin_of(log).await?;
        loop {
            let asked = Asked { log, partition: pin.partition, user: user.clone() };
            let answer = self.chat_by(&asked, pin).await;
            match self.pin_beyond(log, pin, closed_in(&answer, |state| state.closed)).await {
                Ok(Some(later)) => pin = later,
                Ok(None) | Err(_) => {
                    return answer.map_err(|why| match why {
                        ReadRefusal::Refused(refusal) => refusal,
                        _ => unavailable(pin.partition),
                    });
                }
            }
        }
    }

    async fn chat_by(&self, asked: &Asked, pin: PinSegment) -> Result<ChatState, ReadRefusal> {
        let here = self.chat_here(asked).await;
        if self.is_home_here(asked.partition) {
            return here;
        }
        if let Ok(state) = &here
            && state.generation >= pin.generation
        {
            return here;
        }
        // This copy may lack what was said of the asker last.
        let reply = self.ask_home(asked.partition, wire::chat_request(asked)).await;
        match reply.and_then(wire::chat_state) {
            Err(ReadRefusal::NotHere(_)) => here,
            answer => answer,
        }
    }

    async fn chat_here(&self, asked: &Asked) -> Result<ChatState, ReadRefusal> {
        let replicas = &self.parts().replicas;
        if !replicas.serves(asked.partition) {
            return Err(self.not_here(asked.partition));
        }
        replicas.chat(asked.partition, asked.log, &asked.user).await
    }
}
