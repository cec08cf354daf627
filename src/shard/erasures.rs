//! The erasures of a writer: one after another, and a step of one after each turn.

use super::erase::EraseUser;
use super::refusal::Refusal;
use super::working_set::TurnOutcome;
use crate::model::{ShardSet, TsMs};
use crate::store::{Commit, Erasure, ErasureStep, GradualErasure, Store, StoreError};
use std::collections::VecDeque;

/// Maximum erasures that wait for a writer.
const QUEUE: usize = 1_024;

/// The erasures that a writer has begun, or is to begin.
#[derive(Default)]
pub(super) struct Erasures {
    queue: VecDeque<Underway>,
    /// The latest time of the turns since the first of them began.
    latest: TsMs,
}

struct Underway {
    erasure: GradualErasure,
    /// Who waits for it: nobody, if an earlier run began it.
    command: Option<EraseUser>,
    /// What an earlier run erased, and nobody was told.
    untold: Erasure,
}

/// What a step did, and who is to be answered once that is durable.
pub(super) struct Stepped {
    pub step: ErasureStep,
    /// The user, if the step wrote the tombstone.
    pub begun: Option<Box<str>>,
    pub done: Option<EraseUser>,
    pub is_done: bool,
}

impl Erasures {
    /// Finds what an earlier run began. Blocks on disk.
    pub(super) fn load(store: &Store, shards: ShardSet) -> Result<Self, StoreError> {
        let mut queue = VecDeque::new();
        for shard in shards.iter() {
            for unfinished in store.erasing().unfinished(shard)? {
                tracing::info!("goes on with an erasure that was not finished");
                let erasure = GradualErasure::resume(unfinished);
                queue.push_back(Underway { erasure, command: None, untold: Erasure::default() });
            }
        }
        Ok(Self { queue, latest: TsMs(0) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, command: EraseUser) {
        if self.queue.len() >= QUEUE {
            return super::task::Task::Erase(command).refuse(Refusal::Busy);
        }
        let erasure = GradualErasure::new(&command.user, command.by.clone());
        self.queue.push_back(Underway { erasure, command: Some(command), untold: Erasure::default() });
    }

    /// A turn counts events up to this time.
    pub(super) fn saw(&mut self, now: TsMs) {
        if !self.is_empty() {
            self.latest = self.latest.max(now);
        }
    }

    /// Adds what a turn took from what is left of users, in the same write.
    pub(super) fn add_replaced(&mut self, store: &Store, commit: &mut Commit<'_>, outcome: &TurnOutcome) {
        for (user, replaced) in &outcome.replaced {
            let mut begun = self.queue.iter_mut().map(|underway| &mut underway.erasure).filter(|it| it.is_begun());
            if let Some(erasure) = begun.find(|erasure| erasure.user() == &**user) {
                erasure.add(store, commit, replaced);
            }
        }
    }

    /// Takes a step of the first one. If that fails before it has begun, it is refused; else it is tried again.
    pub(super) fn step(&mut self, store: &Store, now: TsMs) -> Result<Option<Stepped>, StoreError> {
        let latest = self.latest.max(now);
        let Some(first) = self.queue.front_mut() else { return Ok(None) };
        let was_begun = first.erasure.is_begun();
        let step = match first.erasure.step(store, if was_begun { now } else { latest }) {
            Ok(step) => step,
            Err(error) => {
                self.refuse_first(if store.is_poisoned() { Refusal::Poisoned } else { Refusal::ReadFailed });
                return Err(error);
            }
        };
        let begun = (!was_begun && first.erasure.is_begun()).then(|| first.erasure.user().into());
        if !first.erasure.is_done() {
            return Ok(Some(Stepped { step, begun, done: None, is_done: false }));
        }
        let Some(Underway { erasure, command, untold }) = self.queue.pop_front() else { return Ok(None) };
        let mut all = *erasure.erasure();
        all.add(&untold);
        match &command {
            Some(command) => command.reply.set(all),
            None => self.tell_next(erasure.user(), &all),
        }
        if self.is_empty() {
            self.latest = TsMs(0);
        }
        Ok(Some(Stepped { step, begun, done: command, is_done: true }))
    }

    /// Whoever asked for the erasure that went on is answered what it erased, too.
    fn tell_next(&mut self, user: &str, erased: &Erasure) {
        let next = self.queue.iter_mut().find(|underway| underway.erasure.user() == user && underway.command.is_some());
        if let Some(next) = next {
            next.untold.add(erased);
        }
    }

    fn refuse_first(&mut self, refusal: Refusal) {
        let Some(first) = self.queue.front_mut() else { return };
        if let Some(command) = first.command.take() {
            super::task::Task::Erase(command).refuse(refusal);
        }
        if !first.erasure.is_begun() {
            self.queue.pop_front();
        }
    }

    /// Nothing is written any more.
    pub(super) fn refuse_all(&mut self) {
        for underway in self.queue.drain(..) {
            if let Some(command) = underway.command {
                super::task::Task::Erase(command).refuse(Refusal::Poisoned);
            }
        }
    }
}
