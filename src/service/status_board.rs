//! The parts of `/status`, each told by the component that it is about.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Part = Arc<dyn Fn() -> Value + Send + Sync>;

/// The parts of `/status`, each told by who knows about it: http cannot ask the Kafka adapter, and need not. Clones share
/// them.
#[derive(Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<&'static str, Part>>>);

impl StatusBoard {
    /// Adds a member of the answer, or takes the place of the one of that name. `tell` is called for each answer, on a
    /// thread that answers others, too: it must not wait.
    pub fn add(&self, name: &'static str, tell: impl Fn() -> Value + Send + Sync + 'static) {
        self.parts().insert(name, Arc::new(tell));
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every part.
    pub fn tell(&self) -> Map<String, Value> {
        // Asked outside of the lock: who is asked may want to add something.
        let parts: Vec<_> = self.parts().iter().map(|(name, part)| (*name, part.clone())).collect();
        parts.into_iter().map(|(name, part)| (name.to_owned(), part())).collect()
    }
}
