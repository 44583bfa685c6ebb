//! What is to be said on one gRPC stream and was not taken by the connection yet.
//!
//! The connection pulls when HTTP/2 has room, and takes whatever is there in one go. So a burst leaves in
//! one write, and what a slow peer leaves behind lies here, where it can still be coalesced and counted,
//! and not in a queue behind. The bound is the queue's own: what may be put in is for its owner to know.

use futures_util::{Stream, task::AtomicWaker};
use parking_lot::Mutex;
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// Something that a stream is fed from.
pub trait Queue: Send + 'static {
    /// What the stream yields.
    type Item: Send + 'static;

    /// The next to leave.
    fn pop(&mut self) -> Option<Self::Item>;
}

#[derive(Debug)]
struct Shared<Q> {
    queue: Mutex<Q>,
    /// The connection, which waits for something to take.
    taker: AtomicWaker,
    /// The owner, where it waits for room …
    roomless: AtomicWaker,
    /// … and where it waits for the connection's end.
    watching: AtomicWaker,
    closed: AtomicBool,
    abandoned: AtomicBool,
}

/// The owner's end.
pub struct Outbox<Q>(Arc<Shared<Q>>);

/// The connection's end; it ends when the outbox is dropped and everything has been taken.
pub struct Outgoing<Q>(Arc<Shared<Q>>);

/// An outbox over `queue`, and what the connection takes from.
pub fn outbox<Q: Queue>(queue: Q) -> (Outbox<Q>, Outgoing<Q>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(queue),
        taker: AtomicWaker::new(),
        roomless: AtomicWaker::new(),
        watching: AtomicWaker::new(),
        closed: AtomicBool::new(false),
        abandoned: AtomicBool::new(false),
    });
    (Outbox(Arc::clone(&shared)), Outgoing(shared))
}

impl<Q: Queue> Outbox<Q> {
    /// Puts something in.
    pub fn with<T>(&self, put: impl FnOnce(&mut Q) -> T) -> T {
        let put = put(&mut self.0.queue.lock());
        self.0.taker.wake();
        put
    }

    /// Looks at what is in it.
    pub fn look<T>(&self, look: impl FnOnce(&Q) -> T) -> T {
        look(&self.0.queue.lock())
    }

    /// Waits until the queue has room, or nobody takes from it any more: then the answer is `false`.
    /// One task at a time. Cancel-safe.
    pub async fn has_room(&self, room: impl Fn(&Q) -> bool) -> bool {
        // The waker is left only where it is needed: otherwise all that is taken would wake the owner.
        let answer = || {
            let abandoned = self.0.abandoned.load(Ordering::Acquire);
            (abandoned || room(&self.0.queue.lock())).then_some(!abandoned)
        };
        std::future::poll_fn(|cx| {
            if let Some(answer) = answer() {
                return Poll::Ready(answer);
            }
            self.0.roomless.register(cx.waker());
            answer().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until nobody takes from the queue any more. One task at a time. Cancel-safe.
    pub async fn abandoned(&self) {
        std::future::poll_fn(|cx| {
            self.0.watching.register(cx.waker());
            if self.0.abandoned.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl<Q> Drop for Outbox<Q> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.taker.wake();
    }
}

impl<Q> Drop for Outgoing<Q> {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.roomless.wake();
        self.0.watching.wake();
    }
}

impl<Q: Queue> Stream for Outgoing<Q> {
    type Item = Q::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Q::Item>> {
        self.0.taker.register(cx.waker());
        // Before the queue is looked at: what was put in before the end is seen.
        let closed = self.0.closed.load(Ordering::Acquire);
        let item = self.0.queue.lock().pop();
        match item {
            Some(item) => {
                self.0.roomless.wake();
                Poll::Ready(Some(item))
            }
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<Q> fmt::Debug for Outbox<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl<Q> fmt::Debug for Outgoing<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, StreamExt as _};
    use std::collections::VecDeque;

    struct Numbers(VecDeque<u32>);

    impl Queue for Numbers {
        type Item = u32;
        fn pop(&mut self) -> Option<u32> {
            self.0.pop_front()
        }
    }

    #[test]
    fn what_was_put_in_leaves_before_the_end() {
        let (outbox, mut outgoing) = outbox(Numbers(VecDeque::new()));
        assert_eq!(outgoing.next().now_or_never(), None, "nothing is there yet");
        outbox.with(|queue| queue.0.extend([1, 2]));
        drop(outbox);
        assert_eq!(outgoing.next().now_or_never(), Some(Some(1)));
        assert_eq!(outgoing.next().now_or_never(), Some(Some(2)));
        assert_eq!(outgoing.next().now_or_never(), Some(None));
    }

    #[test]
    fn an_owner_waits_for_room_until_nobody_takes_any_more() {
        let (outbox, mut outgoing) = outbox(Numbers(VecDeque::from([1])));
        let room = |queue: &Numbers| queue.0.is_empty();
        assert_eq!(outbox.has_room(room).now_or_never(), None);
        assert_eq!(outgoing.next().now_or_never(), Some(Some(1)));
        assert_eq!(outbox.has_room(room).now_or_never(), Some(true));
        assert_eq!(outbox.abandoned().now_or_never(), None);
        drop(outgoing);
        assert_eq!(outbox.abandoned().now_or_never(), Some(()));
        assert_eq!(outbox.has_room(room).now_or_never(), Some(false));
    }
}
