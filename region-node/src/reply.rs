//! Where an outcome goes.
//!
//! A write passes several queues on its way to the log and back. A task and a channel per write at each
//! of them would cost more than the write itself, so whoever asks leaves a function behind, and whoever
//! knows the outcome calls it: on the answerer's task, and so briefly, without waiting for anything.

use std::fmt;
use tokio::sync::oneshot;

/// What can be the outcome of something.
pub trait Outcome: Send + 'static {
    /// What it is to the asker that the answerer is gone without a word.
    fn unanswered() -> Self;
}

/// Takes one outcome, once. Dropped before, it takes [`Outcome::unanswered`].
pub struct Reply<T: Outcome>(Option<Box<dyn FnOnce(T) + Send>>);

impl<T: Outcome> Reply<T> {
    /// A reply that is taken by a function, which must neither block nor take long.
    pub fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Some(Box::new(take)))
    }

    /// A reply that can be awaited.
    pub fn channel() -> (Self, impl Future<Output = T> + Send + use<T>) {
        let (sender, receiver) = oneshot::channel();
        // Whoever no longer waits does not want to know.
        let reply = Self::new(move |outcome| drop(sender.send(outcome)));
        (reply, async move { receiver.await.unwrap_or_else(|_| T::unanswered()) })
    }

    /// Gives the outcome.
    pub fn give(mut self, outcome: T) {
        if let Some(take) = self.0.take() {
            take(outcome);
        }
    }

    /// Forgets the asker, who learns the outcome in another way.
    pub fn forget(mut self) {
        self.0 = None;
    }
}

impl<T: Outcome> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(take) = self.0.take() {
            take(T::unanswered());
        }
    }
}

impl<T: Outcome> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Outcome for &'static str {
        fn unanswered() -> Self {
            "nobody answered"
        }
    }

    #[tokio::test]
    async fn an_asker_learns_the_outcome_or_that_nobody_answered() {
        let (reply, outcome) = Reply::<&str>::channel();
        reply.give("done");
        assert_eq!(outcome.await, "done");
        let (reply, outcome) = Reply::<&str>::channel();
        drop(reply);
        assert_eq!(outcome.await, "nobody answered");
    }

    #[test]
    fn a_forgotten_asker_is_told_nothing() {
        Reply::new(|outcome: &'static str| panic!("told {outcome}")).forget();
    }
}
