//! Asks, and runs the thread that answers.

use super::board::{Board, Entered, PassQuestions, Progress, SurveyBusy};
use super::counters::Counters;
use super::pass::{Passed, pass};
use super::question::{Answer, Question};
use crate::clock::Clock;
use crate::shard::rulebook::Rulebook;
use crate::store::Store;
use metrics::{Histogram, histogram};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What comes of a question.
#[derive(Debug, Clone)]
pub enum Asked {
    /// The answer.
    Answered(Arc<Answer>),
    /// It takes longer: ask again.
    UnderWay(Progress),
}

/// Asks questions about all users. Cheap to clone.
#[derive(Clone)]
pub struct Survey {
    board: Arc<Board>,
    clock: Clock,
}

impl Survey {
    /// Asks, and waits at most for `patience`. An answer may be as old as `max_age`; with zero, only a pass will do that is
    /// yet to begin, or that somebody was told to wait for.
    pub async fn ask(&self, question: Question, max_age: Duration, patience: Duration) -> Result<Asked, SurveyBusy> {
        let deadline = Instant::now() + patience;
        let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        let oldest = (max_age_ms > 0).then(|| self.clock.now().saturating_sub(max_age_ms));
        let name = question.name();
        // Before the question: no pass must end in between unseen.
        let mut passes = self.board.passes();
        let from = match self.board.enter(&name, question, oldest)? {
            Entered::Answered(answer) => return Ok(Asked::Answered(answer)),
            Entered::Waits(from) => from,
        };
        loop {
            if let Some(answer) = self.board.answer_of(&name, from) {
                return Ok(Asked::Answered(answer));
            }
            // The board outlives the handle, so the sender is there.
            if !matches!(timeout_at(deadline, passes.changed()).await, Ok(Ok(()))) {
                return Ok(match self.board.leave(&name, from) {
                    Ok(answer) => Asked::Answered(answer),
                    Err(progress) => Asked::UnderWay(progress),
                });
            }
        }
    }

    /// Ends the thread that answers.
    pub(in crate::shard) fn end(&self) {
        self.board.end();
    }
}

/// Answers what is asked: one pass after the other, while there are questions.
pub(in crate::shard) struct Surveyor {
    board: Arc<Board>,
    stores: Vec<Arc<Store>>,
    rulebook: Rulebook,
    clock: Clock,
    seconds: Histogram,
}

impl Surveyor {
    pub(in crate::shard) fn new(stores: Vec<Arc<Store>>, rulebook: Rulebook, clock: Clock) -> (Self, Survey) {
        let board = Arc::new(Board::new(stores.iter().map(|store| store.shards().len()).sum()));
        let survey = Survey { board: board.clone(), clock: clock.clone() };
        (Self { board, stores, rulebook, clock, seconds: histogram!("freqcap_reach_pass_seconds") }, survey)
    }

    /// Works until [`Survey::end`].
    pub(in crate::shard) fn run(self) {
        while let Some(pass) = self.board.begin_pass(|| self.clock.now()) {
            self.answer(pass);
        }
    }

    fn answer(&self, PassQuestions { names, questions, as_of, begun }: PassQuestions) {
        let (policy, held_since) = self.rulebook.in_force_and_held_since();
        let (mut counters, wanted) = Counters::new(&questions, policy, held_since, as_of);
        let (pause, done) = (|time| self.board.pause(time), || self.board.shard_is_done());
        let Passed { unreadable, ended } = pass(&self.stores, (&mut counters, &wanted), pause, done);
        if ended {
            return;
        }
        let took = begun.elapsed();
        self.seconds.record(took.as_secs_f64());
        let (shards, questions) = (self.board.shards(), questions.len());
        tracing::debug!(questions, ms = took.as_millis(), "all logs were read to answer questions");
        let answer = |found| Answer { as_of, took, shards, unreadable, found };
        self.board.end_pass(names, counters.finish().into_iter().map(answer));
    }
}
