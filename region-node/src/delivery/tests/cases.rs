//! What drawn histories come upon too rarely.

use super::*;

#[test]
fn what_was_read_from_an_old_copy_is_checked_again_and_not_called_replicated() {
    let session = SessionId(1);
    let mut feed = Feed::new(PIN);
    let mut out = Vec::new();
    let join = Input::Join {
        session,
        position: at(1, 11),
        checked: (Generation::FIRST, Epoch::new(2)),
        at_end: false,
    };
    feed.handle(0, join, &mut out);
    // The copy is not told of epoch 2 yet, and ends with an entry of epoch 1 that is undone there.
    for _ in 0..2 {
        let fill = out.drain(..).find_map(|output| match output {
            Output::Fill { to, .. } => to.first().map(|(_, fill)| *fill),
            _ => None,
        });
        let fill = fill.expect("it is filled");
        feed.handle(0, Input::Filled { session, fill, to: at(1, 12), at_end: true }, &mut out);
    }
    let route = route(2);
    feed.handle(0, Input::Route(Some(route.clone())), &mut out);
    let answer = Subscribed {
        head: at(2, 12),
        replicated: at(2, 12),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
    };
    feed.handle(0, Input::Subscribed(route, Some(answer)), &mut out);
    feed.handle(0, Input::Tick, &mut out);
    let checked =
        |output: &Output| matches!(output, Output::Check { position, .. } if *position == at(1, 12));
    assert!(out.iter().any(checked), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Replicated { .. })), "{out:?}");
}

#[test]
fn no_tick_reaches_a_session_that_stands_on_an_undone_entry() {
    let session = SessionId(1);
    let mut feed = Feed::new(PIN);
    let mut out = Vec::new();
    let route = route(2);
    feed.handle(0, Input::Route(Some(route.clone())), &mut out);
    let answer = Subscribed {
        head: at(2, 15),
        replicated: at(2, 12),
        epoch: Epoch::new(2),
        generation: Generation::FIRST,
    };
    feed.handle(0, Input::Subscribed(route, Some(answer)), &mut out);
    let join = Input::Join {
        session,
        position: at(1, 11),
        checked: (Generation::FIRST, Epoch::new(2)),
        at_end: false,
    };
    feed.handle(0, join, &mut out);
    let mut fills = out.iter().filter_map(|output| match output {
        Output::Fill { to, .. } => to.first().map(|(_, fill)| *fill),
        _ => None,
    });
    let fill = fills.next().expect("it is filled");
    feed.handle(0, Input::Filled { session, fill, to: at(1, 12), at_end: false }, &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Replicated { .. })), "{out:?}");
}
