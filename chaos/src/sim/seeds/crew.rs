//! Works off a list, a few at a time.

use parking_lot::Mutex;
use std::{
    io,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

/// How often somebody may look while nothing ends.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Does all of `list`, `jobs` at a time. `look` is shown each result as it comes, and nothing from time to time
/// meanwhile.
///
/// # Errors
/// The first one: what has begun is ended then, and nothing more is begun.
pub(super) fn work<T: Send, R: Send>(
    jobs: usize,
    list: impl Iterator<Item = T> + Send,
    act: impl Fn(T) -> io::Result<R> + Sync,
    mut look: impl FnMut(Option<R>),
) -> io::Result<()> {
    let list = Mutex::new(list.fuse());
    let (sender, results) = sync_channel(jobs);
    thread::scope(|scope| {
        // It goes with an error, before the others are waited for: nobody may wait for them to be heard.
        let results = results;
        for _ in 0..jobs {
            let (sender, list, act) = (sender.clone(), &list, &act);
            scope.spawn(move || {
                loop {
                    let Some(next) = list.lock().next() else { return };
                    // Nobody listens once there was an error.
                    if sender.send(act(next)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match results.recv_timeout(LOOK_EVERY) {
                Ok(result) => look(Some(result?)),
                Err(RecvTimeoutError::Timeout) => look(None),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_list_is_done_once() {
        let mut done = Vec::new();
        let worked = work(3, 0..100, |number| Ok(number * 2), |result| done.extend(result));
        worked.expect("no errors");
        done.sort_unstable();
        assert!(done.into_iter().eq((0..100).map(|number| number * 2)));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let began = Mutex::new(0);
        let act = |number: u32| {
            *began.lock() += 1;
            if number == 5 { Err(io::ErrorKind::NotFound.into()) } else { Ok(number) }
        };
        let error = work(1, 0..1_000, act, |_| {}).expect_err("one fails");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(*began.lock() < 20);
    }
}
