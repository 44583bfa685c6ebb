//! Takes re-homings from one home to the next.
//!
//! ```text
//!   row appears ──▶ Sealing ──sealed──▶ Importing ──imported──▶ Finishing ──▶ row is gone
//!                      └──────────────────┴── refused, or it takes too long: abort ──▶ row is gone
//! ```
//!
//! A pure state machine. It is shown the rows of re-homings, the placement and the time. It keeps nothing that
//! cannot be found out again: a new one seals and imports anew, which the homes answer as they did before. It asks
//! whoever is home now, so a failover on either side only makes it ask again.

use crate::{
    bounds,
    command::{AbortedRehome, Command, ImportedRehome, Rehome},
};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::{
    Generation, LogId, NodeRow, Offset, PartitionId, PartitionState, Placement, RegionId, RehomeId,
    Retirement,
};

/// What a home is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To seal the log in its generation, for a partition that is held in these regions.
    Seal {
        /// The regions.
        held_in: Vec<RegionId>,
    },
    /// To import the log.
    Import {
        /// What it has added up to, unread.
        fold: Bytes,
    },
}

/// One question to a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// For which re-homing.
    pub rehome: RehomeId,
    /// The log.
    pub log: LogId,
    /// The partition whose home is asked.
    pub partition: PartitionId,
    /// The generation that ends, or begins.
    pub generation: Generation,
    /// What.
    pub step: Step,
}

/// What a home says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The log is sealed.
    Sealed {
        /// Its last offset.
        head: Offset,
        /// What it has added up to.
        fold: Bytes,
    },
    /// The log is imported.
    Imported,
    /// Ask again: no answer, another home, or not just now.
    NotNow(String),
    /// It cannot be.
    Refused(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have a connection to this node ready.
    Prepare(NodeRow),
    /// Ask a home, and come back with what it says.
    Ask(NodeRow, Ask),
    /// A command for the directory's rows.
    Submit(Command),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rehomings {
    courses: BTreeMap<LogId, Course>,
}

#[derive(Debug)]
struct Course {
    id: RehomeId,
    began_ms: u64,
    stage: Stage,
    /// A home was asked, and has not answered.
    is_asking: bool,
    not_before_ms: u64,
}

#[derive(Debug)]
enum Stage {
    Sealing,
    Importing { head: Offset, fold: Bytes },
    Finishing { first_offset: Offset },
}

impl Rehomings {
    /// A home has said something about a re-homing.
    pub fn heard(&mut self, now_ms: u64, log: LogId, id: RehomeId, said: Said, out: &mut Vec<Action>) {
        let Some(course) = self.courses.get_mut(&log).filter(|course| course.id == id) else { return };
        course.is_asking = false;
        match (said, &course.stage) {
            (Said::Sealed { head, fold }, Stage::Sealing) => course.stage = Stage::Importing { head, fold },
            (Said::Imported, Stage::Importing { head, .. }) => {
                course.stage = Stage::Finishing { first_offset: head.plus(1) };
            }
            (Said::Refused(why), _) => {
                course.not_before_ms = now_ms + bounds::REHOME_RETRY_MS;
                out.push(abort(log, id, why));
            }
            (Said::NotNow(why), _) => {
                tracing::debug!(%log, %id, why, "a step of a re-homing is asked for again");
                course.not_before_ms = now_ms + bounds::REHOME_RETRY_MS;
            }
            // An answer to what was asked before.
            _ => {}
        }
    }

    /// Looks at all that is under way.
    pub fn look(&mut self, now_ms: u64, view: &Placement, rows: &[Rehome], out: &mut Vec<Action>) {
        self.courses.retain(|log, course| rows.iter().any(|row| row.log == *log && row.id == course.id));
        for row in rows {
            let course = self.courses.entry(row.log).or_insert_with(|| {
                let nodes = [row.from.partition, row.to].map(|partition| home(view, partition));
                out.extend(nodes.into_iter().flatten().map(|node| Action::Prepare(node.clone())));
                Course {
                    id: row.id,
                    began_ms: now_ms,
                    stage: Stage::Sealing,
                    is_asking: false,
                    not_before_ms: 0,
                }
            });
            course.look(now_ms, view, row, out);
        }
    }
}

impl Course {
    fn look(&mut self, now_ms: u64, view: &Placement, row: &Rehome, out: &mut Vec<Action>) {
        if now_ms < self.not_before_ms {
            return;
        }
        if now_ms >= self.began_ms + bounds::REHOME_MAX_MS {
            self.not_before_ms = now_ms + bounds::FAILOVER_RETRY_MS;
            return out.push(abort(row.log, row.id, "it took too long".into()));
        }
        let (partition, generation, step) = match &self.stage {
            _ if self.is_asking => return,
            Stage::Finishing { first_offset } => {
                let (log, id, first_offset) = (row.log, row.id, *first_offset);
                self.not_before_ms = now_ms + bounds::REHOME_RETRY_MS;
                let imported = ImportedRehome { log, id, first_offset };
                return out.push(Action::Submit(Command::FinishRehome(imported)));
            }
            Stage::Sealing => {
                let step = Step::Seal { held_in: held_in(view, row.to) };
                (row.from.partition, row.from.generation, step)
            }
            Stage::Importing { fold, .. } => {
                (row.to, row.from.generation.plus(1), Step::Import { fold: fold.clone() })
            }
        };
        let Some(node) = home(view, partition) else { return };
        self.is_asking = true;
        let ask = Ask { rehome: row.id, log: row.log, partition, generation, step };
        out.push(Action::Ask(node.clone(), ask));
    }
}

fn abort(log: LogId, id: RehomeId, why: String) -> Action {
    Action::Submit(Command::AbortRehome(AbortedRehome { log, id: Some(id), by: String::new(), why }))
}

/// The home of a partition, where it can act now.
fn home(view: &Placement, partition: PartitionId) -> Option<&NodeRow> {
    let row = view.partition(partition)?;
    let acts = row.state == PartitionState::Homed && row.waiting.is_empty();
    view.node(&row.home.as_ref().filter(|_| acts)?.node)
}

/// The regions that may hold a partition. Those that have left hold nothing any more.
fn held_in(view: &Placement, partition: PartitionId) -> Vec<RegionId> {
    let there = view.regions().filter(|row| row.retirement != Retirement::Retired).map(|row| &row.region);
    match view.partition(partition) {
        Some(row) if !row.allowed.is_empty() => {
            there.filter(|region| row.allowed.contains(region)).cloned().collect()
        }
        _ => there.cloned().collect(),
    }
}

#[cfg(test)]
mod tests;
