//! What is asked of all users, and what is answered.

use super::top::TopReach;
use crate::engine::{KeyReach, ReachQuestion};
use crate::model::{CapKey, Level, Rule, Trial, TsMs};
use std::time::Duration;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// What a key reaches.
    Reach {
        /// The key.
        key: CapKey<'static>,
        /// Of which events, when.
        asked: ReachQuestion,
        /// With the curve of the day before.
        by_hour: bool,
    },
    /// Which keys of a level reach most users.
    Top {
        /// The level.
        level: Level,
        /// Of which events, when.
        asked: ReachQuestion,
        /// How many keys are wanted.
        top: usize,
    },
    /// What a rule would do, beside the others or in the place of the one of its id.
    Trial {
        /// The rule.
        rule: Rule,
        /// The revision of the rules in force.
        revision: u64,
    },
}

impl Question {
    /// Two questions with one name have the same answer.
    pub(super) fn name(&self) -> String {
        format!("{self:?}")
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// What a key reaches.
    Reach {
        /// The sums.
        reach: KeyReach,
        /// From this instant on everything is held.
        complete_from: TsMs,
    },
    /// Which keys reach most users.
    Top {
        /// The keys.
        top: TopReach,
        /// From this instant on everything is held.
        complete_from: TsMs,
    },
    /// What a rule would do.
    Trial(Trial),
}

/// An answer: of one pass over all logs.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The instant that was judged.
    pub as_of: TsMs,
    /// How long the pass took.
    pub took: Duration,
    /// How many shards it read.
    pub shards: usize,
    /// Rows, or runs of them, that could not be read and are not counted.
    pub unreadable: u64,
    /// What was found.
    pub found: Found,
}
