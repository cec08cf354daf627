//! What passes over rows of a user are handed of changes that are made meanwhile (see `walk`).

use super::rows::Rows;
use hashbrown::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// So many bytes of what was there before are kept for a pass. Who writes that much about one user at once keeps its reads
/// from an end.
const BEFORE_MAX: usize = 4 << 20;
/// What changed of the rows that a pass goes through since it began.
#[derive(Debug)]
pub(super) struct Watch {
    /// What their keys begin with.
    prefix: Vec<u8>,
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
pub(super) struct Since {
    /// What was active then, and is frozen now.
    pub frozen: Option<Arc<Rows>>,
    /// Rows as they were then; `None` where there was none.
    pub before: HashMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    pub is_lost: bool,
}

/// Those who watch rows of a shard.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Weak<Watch>>);

impl Watches {
    pub(super) fn add(&mut self, watch: &Arc<Watch>) {
        self.0.retain(|watch| watch.strong_count() > 0);
        self.0.push(Arc::downgrade(watch));
    }

    /// Told before a row changes.
    #[inline]
    pub(super) fn before_change(&mut self, active: &Rows, hash: u32, key: &[u8]) {
        if !self.0.is_empty() {
            self.keep(active, hash, key);
        }
    }

    #[cold]
    fn keep(&mut self, active: &Rows, hash: u32, key: &[u8]) {
        self.0.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if key.starts_with(&watch.prefix) {
                watch.since().keep(key, active.get(hash, key));
            }
            true
        });
    }

    /// Told when the active rows are frozen: from then on what changes is no concern of who watches now.
    pub(super) fn frozen(&mut self, rows: &Arc<Rows>) {
        for watch in self.0.drain(..).filter_map(|watch| watch.upgrade()) {
            watch.since().frozen = Some(rows.clone());
        }
    }
}

impl Watch {
    /// Of rows whose keys begin with a prefix.
    pub(super) fn new(prefix: &[u8]) -> Self {
        Self { prefix: prefix.to_vec(), since: Mutex::default() }
    }

    pub(super) fn since(&self) -> MutexGuard<'_, Since> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Since {
    fn keep(&mut self, key: &[u8], row: Option<&[u8]>) {
        if self.is_lost || self.before.contains_key(key) {
            return;
        }
        self.bytes += key.len() + row.map_or(0, <[u8]>::len) + size_of::<(Vec<u8>, Option<Vec<u8>>)>();
        self.before.insert(key.to_vec(), row.map(<[u8]>::to_vec));
        if self.bytes > BEFORE_MAX {
            self.before = HashMap::new();
            self.is_lost = true;
        }
    }
}
