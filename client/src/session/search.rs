//! The search for the last own position that stands, where the server's word alone does not name it.
//!
//! A server answers a position that is undone with the end of what can be shared. Mostly that is a position of our
//! own, and there is nothing to search. Where our history has epochs that the log never had, we hold another
//! entry there. Then own positions are asked, at growing distances back from there until one stands, and then
//! halfway between it and the earliest that does not; each answer can also name the place at once.
//!
//! ```text
//!   own places    o o o o o o o o o o o o o|x x x x x x x x
//!   asked               3       2   1           0: what the server named, and what is not ours
//!                       ╰ stands ──▶ 4 5 between 3 and 2
//! ```
//!
//! Invariants: `low` stands and `high` does not, both in the order of what a timeline remembers; every answer brings
//! them closer, so that a search over n places has at most 2 · log₂ n + 2 questions. A place that stands has
//! only such before it, because an entry is shared only with all that is before it.

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this place.
    Ask(usize),
    /// This is the last one that stands.
    Found(usize),
}

/// A search over places 0, 1, 2 … of which the first stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    low: usize,
    high: usize,
    /// How far back the next question goes; none once a place was found that stands.
    stride: Option<usize>,
}

impl Search {
    /// A search among the places before `high`, which does not stand.
    pub(super) const fn below(high: usize) -> Self {
        Self { low: 0, high, stride: Some(1) }
    }

    /// The place stands.
    pub(super) fn stands(&mut self, place: usize) {
        self.low = self.low.max(place);
        self.stride = None;
    }

    /// Neither the place nor any behind it stands.
    pub(super) fn undone(&mut self, place: usize) {
        self.high = self.high.min(place);
    }

    /// What to do next.
    pub(super) fn next(&mut self) -> Next {
        let between = self.high.saturating_sub(self.low + 1);
        if between == 0 {
            return Next::Found(self.low);
        }
        Next::Ask(match &mut self.stride {
            None => self.low + between.div_ceil(2),
            Some(stride) => {
                let back = (*stride).min(between);
                *stride = stride.saturating_mul(2);
                self.high - back
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Config, Event, From, Snapshot,
        session::{Input, Output, SessionCore},
    };
    use proptest::prelude::*;
    use proto::client::{
        self as wire, client_frame::Frame as Ask, resumed::Answer, server_frame::Frame as Say,
    };
    use types::{DeviceId, LogId, UserId};

    const LOG: LogId = LogId::group([1; 16]);

    proptest! {
        #[test]
        fn the_last_place_that_stands_is_found_in_few_questions(places in 1usize..100_000, truth in 0usize..100_000) {
            let truth = truth.min(places - 1);
            let mut search = Search::below(places);
            let mut asked = 0;
            let found = loop {
                match search.next() {
                    Next::Found(place) => break place,
                    Next::Ask(place) if place <= truth => search.stands(place),
                    Next::Ask(place) => search.undone(place),
                }
                asked += 1;
            };
            prop_assert_eq!(found, truth);
            let back = places - truth;
            prop_assert!(asked <= 2 * back.ilog2() + 2, "{} questions over {} places", asked, back);
        }
    }

    /// What a log holds, as the era of each entry from offset 1 on; the rule of its answers is the log store's.
    struct Log(Vec<u32>);

    impl Log {
        fn token(&self, offset: usize) -> String {
            self.0[..offset].last().map_or(String::new(), |era| token(*era, offset))
        }

        fn answer(&self, position: &str) -> Answer {
            let Some((era, offset)) = position.split_once('@') else {
                return Answer::Continue(wire::Continue::default());
            };
            let (era, offset): (u32, usize) =
                (era.parse().expect("an era"), offset.parse().expect("an offset"));
            if self.0.get(offset - 1) == Some(&era) {
                return Answer::Continue(wire::Continue::default());
            }
            let end = self.0.partition_point(|of| *of <= era);
            let common = end.min(offset - 1);
            Answer::Diverged(wire::Diverged {
                log: LOG.to_string(),
                common: self.token(common),
                common_offset: common as u64,
            })
        }
    }

    fn token(era: u32, offset: usize) -> String {
        format!("{era}@{offset}")
    }

    fn entry(era: u32, offset: usize) -> wire::Entry {
        wire::Entry {
            position: token(era, offset),
            offset: offset as u64,
            sender: "bob".to_owned(),
            device: 1,
            message_id: types::MessageId::from_bytes(
                u128::from(era).wrapping_shl(64).wrapping_add(offset as u128).to_be_bytes(),
            )
            .to_string(),
            body: Some(wire::entry::Body::Ciphertext("body".into())),
            ..wire::Entry::default()
        }
    }

    struct Session {
        core: SessionCore,
        asked: Vec<(u64, String)>,
        diverged: Vec<(u64, usize)>,
        following: Option<u64>,
    }

    impl Session {
        fn tell(&mut self, input: Input) {
            let mut out = Vec::new();
            self.core.handle(0, input, &mut out);
            for output in out {
                match output {
                    Output::Frame(wire::ClientFrame {
                        request_id,
                        frame: Some(Ask::Subscribe(subscribe)),
                    }) => {
                        self.asked.push((request_id, subscribe.position));
                    }
                    Output::Event(Event::Diverged { common_offset, undone, .. }) => {
                        self.diverged.push((common_offset, undone.len()));
                    }
                    Output::Event(Event::Following { offset, .. }) => self.following = Some(offset),
                    Output::Event(Event::Disconnected { reason, .. }) => panic!("{reason}"),
                    _ => {}
                }
            }
        }

        fn say(&mut self, request_id: u64, frame: Say) {
            self.tell(Input::Frame(wire::ServerFrame { request_id, frame: Some(frame) }));
        }

        /// Answers what is asked as the log would, and counts the questions.
        fn serve(&mut self, log: &Log) -> usize {
            let mut questions = 0;
            while let Some((request_id, position)) = self.asked.pop() {
                questions += 1;
                let answer = Some(log.answer(&position));
                self.say(request_id, Say::Resumed(wire::Resumed { log: LOG.to_string(), answer }));
            }
            questions
        }
    }

    /// A session that has read a log whose entries have these eras.
    fn reader(eras: &[u32]) -> Session {
        let user = UserId::new("alice").expect("a valid name");
        let config = Config::new(["ws://one"], user, DeviceId::new(7));
        let core = SessionCore::new(config, Snapshot::default(), 0);
        let mut session = Session { core, asked: Vec::new(), diverged: Vec::new(), following: None };
        session.tell(Input::Start);
        session.tell(Input::Connected);
        session.say(1, Say::Welcome(wire::Welcome::default()));
        session.tell(Input::Follow { log: LOG, from: From::Start });
        session.serve(&Log(eras.to_vec()));
        let entries = (1..).zip(eras).map(|(offset, era)| entry(*era, offset)).collect();
        session.say(0, Say::Entries(wire::Entries { log: LOG.to_string(), entries }));
        session
    }

    /// Two histories with a shared beginning: behind it each has eras that the other never had.
    fn histories() -> impl Strategy<Value = (usize, Vec<u32>, Vec<u32>)> {
        let runs = || prop::collection::vec((1u32..4, 1usize..300), 0..6);
        let spread = |from: u32, runs: &[(u32, usize)]| {
            let mut era = from;
            let mut eras = Vec::new();
            for (step, count) in runs {
                era += 2 * step;
                eras.extend(std::iter::repeat_n(era, *count));
            }
            eras
        };
        (0usize..400, runs(), runs()).prop_map(move |(shared, own, theirs)| {
            let begin = vec![1; shared];
            (shared, [begin.clone(), spread(2, &own)].concat(), [begin, spread(1, &theirs)].concat())
        })
    }

    proptest! {
        #[test]
        fn what_is_shared_is_found_as_by_asking_for_each_offset((shared, own, theirs) in histories()) {
            prop_assume!(own.len() > shared);
            let log = Log(theirs);
            let mut session = reader(&own);
            session.following = None;
            // A failover is told on the live session.
            let Answer::Diverged(diverged) = log.answer(&token(own[own.len() - 1], own.len())) else {
                panic!("the end is not shared")
            };
            session.say(0, Say::Diverged(diverged));
            let questions = session.serve(&log);
            prop_assert_eq!(&session.diverged, &[(shared as u64, own.len() - shared)]);
            prop_assert_eq!(session.following, Some(shared as u64), "it goes on from there");
            let back = (own.len() - shared).max(1);
            prop_assert!(questions <= 2 * back.ilog2() as usize + 4, "{} questions for {}", questions, back);
        }
    }

    #[test]
    fn a_long_history_that_the_log_never_had_costs_few_questions() {
        let own = [vec![1; 100], vec![7; 9_900]].concat();
        let log = Log([vec![1; 100], vec![3; 9_000], vec![9; 5_000]].concat());
        let mut session = reader(&own);
        let Answer::Diverged(diverged) = log.answer(&token(7, 10_000)) else { panic!("not shared") };
        assert_eq!(diverged.common_offset, 9_100, "the server alone cannot know better");
        session.say(0, Say::Diverged(diverged));
        let questions = session.serve(&log);
        assert_eq!(session.diverged, [(100, 9_900)]);
        assert!(questions <= 28, "{questions} questions");
    }
}
