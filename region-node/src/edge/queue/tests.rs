//! What waits, what is dropped, and what it costs.

use super::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};
use types::{Epoch, Generation, Mark, Marks, Offset};

const BYTES_MAX: usize = 1_024;

fn queue() -> SessionQueue {
    SessionQueue::new(Encoding::Json, BYTES_MAX)
}

fn receipt(name: &str, offset: u64) -> Receipt {
    let user = UserId::new(name).expect("a valid name");
    let mark = Mark { offset: Offset::new(offset), at_ms: 7 };
    let position = Position::new(Generation::FIRST, Epoch::FIRST, mark.offset);
    let marks = Marks { delivered: mark, read: mark, hides_read: false };
    Receipt { user, marks, delivered: position, read: position }
}

#[tokio::test]
async fn only_the_latest_receipt_of_a_user_waits_and_it_waits_behind_the_entries() {
    let queue = queue();
    let log = LogId::group([1; 16]);
    for offset in 1..=100 {
        assert!(queue.offer_receipt(log, receipt("alice", offset)));
    }
    assert!(queue.offer_receipt(log, receipt("bob", 3)));
    assert!(queue.offer(&SharedFrame::new(behind("entry"))));
    let batch = taken(&queue);
    let texts: Vec<&str> = batch.iter().map(|message| message.to_text().expect("JSON")).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains("entry"));
    assert!(texts[1].contains(r#""offset":"100""#) && !texts[1].contains(r#""offset":"99""#));
    assert!(texts[1].contains("bob"));
    assert!(!queue.errands().is_congested);
}

#[tokio::test]
async fn receipts_over_the_bound_are_dropped_and_cost_nothing_once_they_are_written() {
    let queue = queue();
    let log = LogId::group([1; 16]);
    let taken_in = (0..100).filter(|number| queue.offer_receipt(log, receipt(&format!("user{number}"), 1)));
    assert_eq!(taken_in.count(), BYTES_MAX / RECEIPT_BYTES);
    assert_eq!(taken(&queue).len(), 1);
    assert!(queue.offer(&SharedFrame::new(behind(&"x".repeat(BYTES_MAX / 2)))));
    assert_eq!(taken(&queue).len(), 1);
}

fn behind(text: &str) -> Frame {
    Frame::Behind(client::Behind { log: text.to_owned(), position: String::new() })
}

#[tokio::test]
async fn a_full_queue_refuses_entries_and_takes_answers() {
    let queue = queue();
    let entry = SharedFrame::new(behind(&"x".repeat(300)));
    assert!(queue.offer(&entry) && queue.offer(&entry));
    assert!(!queue.offer(&entry), "it is over {BYTES_MAX} bytes");
    assert!(queue.is_congested());
    queue.answer(1, behind("answer"));
    assert_eq!(taken(&queue).len(), 3);
    queue.room().await;
}

#[tokio::test]
async fn an_entry_over_the_bound_passes_alone() {
    let queue = queue();
    assert!(queue.offer(&SharedFrame::new(behind(&"x".repeat(2 * BYTES_MAX)))));
    assert!(!queue.offer(&SharedFrame::new(behind("x"))));
}

#[tokio::test]
async fn only_the_latest_tick_of_a_log_waits_and_it_waits_behind_the_entries() {
    let queue = queue();
    let log = LogId::group([1; 16]);
    for offset in 1..=100 {
        let position = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset));
        assert!(queue.offer_tick(log, position));
    }
    assert!(queue.offer(&SharedFrame::new(behind("entry"))));
    let batch = taken(&queue);
    let texts: Vec<&str> = batch.iter().map(|message| message.to_text().expect("JSON")).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("entry") && texts[1].contains(r#""offset":"100""#), "{texts:?}");
}

#[test]
fn a_tick_that_is_laid_here_waits_for_what_is_written_next_or_to_be_roused() {
    let (woken, queue) = (Arc::new(Woken::default()), queue());
    let lay = |offset| {
        let position = Position::new(Generation::FIRST, Epoch::FIRST, Offset::new(offset));
        queue.lay_tick(LogId::group([1; 16]), position)
    };
    queue.register(&Waker::from(Arc::clone(&woken)));
    assert!(queue.rest(true));
    queue.rouse();
    assert_eq!(woken.count(), 0, "nothing waits");
    assert!(lay(1) && lay(2));
    assert_eq!(woken.count(), 0);
    queue.rouse();
    assert_eq!((woken.count(), taken(&queue).len()), (1, 1));
    queue.register(&Waker::from(Arc::clone(&woken)));
    assert!(queue.rest(true));
    assert!(lay(3));
    queue.answer(1, behind("first"));
    assert_eq!((woken.count(), taken(&queue).len()), (2, 2));
    queue.offer(&SharedFrame::new(behind(&"x".repeat(BYTES_MAX))));
    assert!(!lay(4), "there is no room");
}

#[tokio::test]
async fn a_closed_queue_is_written_to_its_end() {
    let queue = queue();
    queue.answer(1, behind("last"));
    queue.close(CloseFrame { code: 1000, reason: "bye".into() });
    queue.answer(2, behind("too late"));
    let mut batch = VecDeque::new();
    assert!(queue.take(&mut batch), "what was there comes first");
    assert!(matches!(batch.make_contiguous(), [Message::Text(_), Message::Close(Some(_))]));
    assert!(!queue.take(&mut VecDeque::new()));
}

#[test]
fn the_task_is_woken_once_for_all_that_comes_before_it_looks() {
    let (woken, queue) = (Arc::new(Woken::default()), queue());
    queue.register(&Waker::from(Arc::clone(&woken)));
    assert!(queue.rest(true));
    queue.answer(1, behind("first"));
    queue.answer(2, behind("second"));
    assert_eq!(woken.count(), 1);
    queue.register(&Waker::from(Arc::clone(&woken)));
    queue.errands();
    queue.answer(3, behind("while it looks"));
    assert!(!queue.rest(true), "there is something to write");
    assert_eq!((taken(&queue).len(), woken.count()), (3, 1));
    assert!(queue.rest(true));
    queue.answer(4, behind("while it rests"));
    assert_eq!(woken.count(), 2);
}

#[test]
fn a_task_does_not_rest_while_the_node_goes_down() {
    let queue = queue();
    queue.errands();
    queue.leave();
    assert!(!queue.rest(true));
    assert!(queue.errands().is_leaving);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn taken(queue: &SessionQueue) -> VecDeque<Message> {
    let mut batch = VecDeque::new();
    assert!(queue.take(&mut batch), "it is open");
    batch
}
