//! How sessions that lack entries get on: to the bus where the tail reaches, else to a filling.

use super::{Feed, Output, SessionId, State};
use std::{collections::BTreeMap, sync::Arc};
use types::{Offset, Position};

impl Feed {
    /// Brings every session one step further: to the bus where the tail reaches, else to a filling.
    pub(super) fn settle(&mut self, out: &mut Vec<Output>) {
        let head = self.head;
        let mut lacking: BTreeMap<Position, Vec<SessionId>> = BTreeMap::new();
        let mut meeting: BTreeMap<Offset, Vec<(SessionId, Position)>> = BTreeMap::new();
        let tail_from = self.tail.front().and_then(|first| first.record.position());
        for (session, member) in &mut self.members {
            if member.state == State::Checking && member.position == Position::START {
                member.checked = self.epoch;
                member.state = State::Lacking;
            }
            let behind = member.position.offset < head.offset;
            match member.state {
                State::Current if !behind => {}
                State::Current | State::Lacking if behind => {
                    member.state = State::Lacking;
                    match tail_from {
                        Some(first)
                            if first.offset <= member.position.offset.plus(1)
                                && member.checked <= self.epoch =>
                        {
                            meeting
                                .entry(member.position.offset)
                                .or_default()
                                .push((*session, member.position));
                        }
                        _ => lacking.entry(member.position).or_default().push(*session),
                    }
                }
                State::Lacking if self.subscribed.is_none() => {
                    lacking.entry(member.position).or_default().push(*session);
                }
                // What is beyond the bus must be of the bus's own epoch, and what is level with it the same.
                State::Lacking if member.position == head || member.position.epoch >= self.epoch => {
                    member.state = State::Current;
                }
                State::Lacking => member.state = State::Stuck { checking: true },
                State::Checking | State::Filling(_) | State::Stuck { .. } | State::Current => {}
            }
        }
        for sessions in meeting.into_values() {
            self.meet(&sessions, out);
        }
        for (after, sessions) in lacking {
            self.fill(after, &sessions, out);
        }
        self.check(out);
    }

    /// Hands the rest of the tail to sessions that stand within it, at one offset.
    fn meet(&mut self, sessions: &[(SessionId, Position)], out: &mut Vec<Output>) {
        let Some((_, at)) = sessions.first() else { return };
        let first = self.tail.iter().position(|entry| {
            entry.record.position().is_some_and(|position| position.offset == at.offset.plus(1))
        });
        let Some(first) = first else { return };
        let previous = self.tail[first].previous_epoch;
        let mut has: Vec<(SessionId, Position)> = Vec::new();
        for (session, position) in sessions {
            let Some(member) = self.members.get_mut(session) else { continue };
            if position.offset.is_zero() || position.epoch == previous {
                member.state = State::Current;
                member.position = self.head;
                has.push((*session, *position));
            } else {
                member.state = State::Stuck { checking: true };
            }
        }
        if has.is_empty() {
            return;
        }
        for entry in self.tail.range(first..) {
            let Some(position) = entry.record.position() else { continue };
            out.push(Output::Deliver { entry: Arc::clone(entry), to: has.clone() });
            has.iter_mut().for_each(|(_, has)| *has = position);
        }
    }

    fn fill(&mut self, after: Position, sessions: &[SessionId], out: &mut Vec<Output>) {
        let mut to = Vec::new();
        let mut user = None;
        for session in sessions {
            let Some(member) = self.members.get_mut(session) else { continue };
            member.state = State::Filling(self.next_fill);
            user.get_or_insert_with(|| member.user.clone());
            to.push((*session, self.next_fill));
            self.next_fill += 1;
        }
        if let Some(user) = user {
            out.push(Output::Fill { after, to, user, known_head: self.head });
        }
    }

    fn check(&mut self, out: &mut Vec<Output>) {
        for member in self.members.values().filter(|member| member.state == State::Checking) {
            if self.checks.insert(member.position) {
                out.push(Output::Check { position: member.position, user: member.user.clone() });
            }
        }
    }
}
