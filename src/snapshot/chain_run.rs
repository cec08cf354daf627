//! The chain of a run, while it is written: its name and the number of the next segment.

use super::chain::{ChainAt, Header};
use super::layout::FORMAT;
use super::source::Source;
use crate::random::random_id;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The chain of a run; cheap to clone.
#[derive(Clone)]
pub(super) struct Chain {
    state: Arc<Mutex<State>>,
    /// A chain has ended: a snapshot is due.
    pub(super) ended: Arc<Notify>,
}

struct State {
    epoch: u64,
    /// `None` before the first, and once it has ended.
    name: Option<String>,
    /// The number of the next segment.
    next: u64,
    previous: String,
}

impl Chain {
    pub(super) fn new(epoch: u64) -> Self {
        let state = State { epoch, name: None, next: 1, previous: String::new() };
        Self { state: Arc::new(Mutex::new(state)), ended: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before a checkpoint: begins a chain where there is none. Returns what the manifest is to name.
    pub(super) fn at(&self, source: &dyn Source, keep_bytes: usize) -> ChainAt {
        let mut state = self.state();
        let (epoch, next) = (state.epoch, state.next);
        match &state.name {
            Some(name) => ChainAt { name: name.clone(), from: next },
            None => {
                source.keep_tail(keep_bytes);
                let name = format!("{epoch:010}-{}", random_id());
                (state.name, state.next, state.previous) = (Some(name.clone()), 1, String::new());
                ChainAt { name, from: 1 }
            }
        }
    }

    /// The chain that is being written.
    pub(super) fn name(&self) -> Option<String> {
        self.state().name.clone()
    }

    pub(super) fn header(&self, closed_ms: u64) -> Option<Header> {
        let state = self.state();
        let (chain, number, previous) = (state.name.clone()?, state.next, state.previous.clone());
        Some(Header { format: FORMAT, chain, number, previous, closed_ms })
    }

    pub(super) fn shipped(&self, hash: String) {
        let mut state = self.state();
        state.next += 1;
        state.previous = hash;
    }

    pub(super) fn end(&self) {
        self.state().name = None;
        self.ended.notify_one();
    }
}
