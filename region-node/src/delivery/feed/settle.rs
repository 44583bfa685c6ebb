//! How sessions that are not level get on: to the bus where the tail reaches, else to a filling.

use super::{Feed, FillId, Member, Output, SessionId, State, Touched};
use crate::service::{LocateAnswer, ReadRefusal};
use log_store::locate::Located;
use std::{collections::BTreeMap, sync::Arc};
use types::Position;

impl Feed {
    /// Brings every session that was touched one step further, and those that got level to the others. Answers which of
    /// them do not know yet how far the log is replicated.
    pub(super) fn settle(&mut self, touched: Touched, out: &mut Vec<Output>) -> Vec<SessionId> {
        let is_followed = self.subscribed.is_some();
        let Some(unsettled) = self.unsettled.as_deref_mut() else { return Vec::new() };
        let (head, era) = (self.head, self.era);
        let mut lacking: BTreeMap<Position, Vec<SessionId>> = BTreeMap::new();
        let mut meeting: BTreeMap<Position, Vec<SessionId>> = BTreeMap::new();
        let tail_from = unsettled.tail.front().and_then(|first| first.record.position());
        unsettled.each(touched, |session, member| {
            if member.state == State::Checking && member.position == Position::START {
                member.checked = era;
                member.state = State::Lacking;
            }
            let behind = member.position.offset < head.offset;
            match member.state {
                State::Current if !behind => {}
                State::Current | State::Lacking if behind => {
                    member.state = State::Lacking;
                    match tail_from {
                        Some(first)
                            if first.offset <= member.position.offset.plus(1) && member.checked <= era =>
                        {
                            meeting.entry(member.position).or_default().push(session);
                        }
                        _ => lacking.entry(member.position).or_default().push(session),
                    }
                }
                State::Lacking if !is_followed => {
                    lacking.entry(member.position).or_default().push(session);
                }
                // What is beyond the bus must be of the bus's own era, and what is level with it the same.
                State::Lacking if member.position == head || member.position.era() >= era => {
                    member.state = State::Current;
                }
                State::Lacking => member.state = State::Stuck { checking: true },
                State::Checking
                | State::Waiting
                | State::Filling(_)
                | State::Stuck { .. }
                | State::Current => {}
            }
        });
        for (after, sessions) in meeting {
            self.meet(after, sessions, out);
        }
        for (after, sessions) in lacking {
            self.fill(after, &sessions, out);
        }
        self.check(touched, out);
        self.level(touched)
    }

    /// Hands the rest of the tail to sessions that stand within it, at one position.
    fn meet(&mut self, after: Position, sessions: Vec<SessionId>, out: &mut Vec<Output>) {
        let head = self.head;
        let unsettled = self.unsettled();
        let first = unsettled.tail.iter().position(|entry| {
            entry.record.position().is_some_and(|position| position.offset == after.offset.plus(1))
        });
        let Some(first) = first else { return };
        let stands = after.offset.is_zero() || after.era() == unsettled.tail[first].previous_era;
        for session in &sessions {
            let Some(member) = unsettled.members.get_mut(session) else { continue };
            if stands {
                member.state = State::Current;
                member.position = head;
            } else {
                member.state = State::Stuck { checking: true };
            }
        }
        if stands {
            let entries = unsettled.tail.range(first..).map(Arc::clone).collect();
            out.push(Output::Deliver { entries, after, to: sessions });
        }
    }

    fn fill(&mut self, after: Position, sessions: &[SessionId], out: &mut Vec<Output>) {
        let (mut next, known_head) = (self.next_fill, self.head);
        let unsettled = self.unsettled();
        let mut to = Vec::new();
        for session in sessions {
            let Some(member) = unsettled.members.get_mut(session) else { continue };
            member.state = State::Filling(next);
            to.push((*session, next));
            next += 1;
        }
        self.next_fill = next;
        if !to.is_empty() {
            out.push(Output::Fill { after, to, known_head });
        }
    }

    fn check(&mut self, touched: Touched, out: &mut Vec<Output>) {
        let unsettled = self.unsettled();
        let mut checking: BTreeMap<Position, SessionId> = BTreeMap::new();
        unsettled.each(touched, |session, member| {
            if member.state == State::Checking {
                checking.entry(member.position).or_insert(session);
            }
        });
        for (position, session) in checking {
            if unsettled.checks.insert(position) {
                out.push(Output::Check { position, session });
            }
        }
    }

    /// Puts those that stand at the head to the level ones.
    fn level(&mut self, touched: Touched) -> Vec<SessionId> {
        let (head, era, replicated) = (self.head, self.era, self.replicated);
        let mut untold = Vec::new();
        let is_level = |member: &Member| {
            member.state == State::Current && member.position == head && member.checked == era
        };
        let Some(unsettled) = &mut self.unsettled else { return untold };
        let level = &mut self.level;
        let mut put = |session: SessionId, member: &Member| {
            level.push(session);
            if member.told < replicated {
                untold.push(session);
            }
        };
        match touched {
            Touched::Nobody => {}
            Touched::One(session) => {
                if let Some(member) = unsettled.members.get(&session).filter(|member| is_level(member)) {
                    put(session, member);
                    unsettled.members.remove(&session);
                }
            }
            Touched::All => unsettled.members.retain(|session, member| {
                let stays = !is_level(member);
                if !stays {
                    put(*session, member);
                }
                stays
            }),
        }
        untold
    }

    pub(super) fn filled(&mut self, session: SessionId, fill: FillId, to: Position, at_end: bool) {
        let (is_followed, head) = (self.subscribed.is_some(), self.head);
        let Some(member) = self.waits(session, fill) else { return };
        let moved = to != member.position;
        member.position = to;
        member.state = if moved || (is_followed && to.offset >= head.offset) {
            State::Lacking
        } else if !is_followed && at_end && to.offset >= head.offset {
            State::Current
        } else {
            State::Stuck { checking: false }
        };
    }

    pub(super) fn not_filled(
        &mut self,
        session: SessionId,
        fill: FillId,
        why: &ReadRefusal,
        out: &mut Vec<Output>,
    ) {
        let Some(member) = self.waits(session, fill) else { return };
        member.state = match why {
            // The home's word decides; the copy that was read may itself be of an older epoch.
            ReadRefusal::Diverged { .. } => State::Checking,
            ReadRefusal::Refused(refusal) if !refusal.is_retryable() => {
                let position = member.position;
                self.remove(session);
                out.push(Output::Behind { session, position });
                return;
            }
            _ => State::Stuck { checking: false },
        };
    }

    /// A session that still waits for this filling.
    fn waits(&mut self, session: SessionId, fill: FillId) -> Option<&mut Member> {
        let member = self.unsettled.as_mut()?.members.get_mut(&session)?;
        (member.state == State::Filling(fill)).then_some(member)
    }

    pub(super) fn try_again(&mut self) {
        let Some(unsettled) = &mut self.unsettled else { return };
        for member in unsettled.members.values_mut() {
            if let State::Stuck { checking } = member.state {
                member.state = if checking { State::Checking } else { State::Lacking };
            }
        }
    }

    pub(super) fn checked(
        &mut self,
        position: Position,
        answer: &Result<LocateAnswer, ReadRefusal>,
        out: &mut Vec<Output>,
    ) {
        let Some(unsettled) = &mut self.unsettled else { return };
        unsettled.checks.remove(&position);
        let asked = |member: &Member| member.state == State::Checking && member.position == position;
        match answer {
            Ok(LocateAnswer { generation, epoch, located, .. }) if (*generation, *epoch) >= self.era => {
                for (session, member) in unsettled.members.iter_mut().filter(|(_, member)| asked(member)) {
                    match located {
                        Located::Continue => {}
                        Located::Diverged { common } => {
                            member.position = *common;
                            member.told = Position::START;
                            out.push(Output::Diverged { session: *session, common: *common });
                        }
                        Located::Ahead => {
                            member.state = State::Stuck { checking: true };
                            continue;
                        }
                    }
                    member.checked = (*generation, *epoch);
                    member.state = State::Lacking;
                }
            }
            Err(ReadRefusal::Refused(refusal)) if !refusal.is_retryable() => {
                unsettled.members.retain(|session, member| {
                    let is_refused = asked(member);
                    if is_refused {
                        out.push(Output::Behind { session: *session, position });
                    }
                    !is_refused
                });
            }
            _ => {
                for member in unsettled.members.values_mut().filter(|member| asked(member)) {
                    member.state = State::Stuck { checking: true };
                }
            }
        }
    }

    /// Tells how far the log is replicated to those who have it that far: to the level ones all at once, to
    /// those that have just become level (`untold`) what they missed.
    pub(super) fn tick_replicated(
        &mut self,
        untold: Vec<SessionId>,
        touched: Touched,
        is_news: bool,
        out: &mut Vec<Output>,
    ) {
        let (position, head, era) = (self.replicated, self.head, self.era);
        if position != Position::START && reaches(head, position) {
            let to = if self.is_told { untold } else { self.level.to_vec() };
            self.is_told = true;
            if !to.is_empty() {
                out.push(Output::Replicated { position, has: head, to, is_news });
            }
        }
        let Some(unsettled) = &mut self.unsettled else { return };
        unsettled.each(touched, |session, member| {
            let is_checked = member.checked >= era
                && !matches!(member.state, State::Checking | State::Stuck { checking: true });
            if is_checked && member.told < position && reaches(member.position, position) {
                member.told = position;
                out.push(Output::Replicated { position, has: member.position, to: vec![session], is_news });
            }
        });
    }
}

/// Whether an entry stands at or behind another one, in no lower era.
fn reaches(at: Position, replicated: Position) -> bool {
    at.offset >= replicated.offset && at.era() >= replicated.era()
}
