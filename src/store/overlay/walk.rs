//! A pass over rows of one user in the overlay, as they all are at one instant, however long it takes.
//!
//! It copies no more than a step at a time, and writers never wait for longer than one. What they change of the user's
//! rows meanwhile they hand to the pass as it was; rows that are frozen meanwhile change no more, and stay until it ends.

use super::rows::Rows;
use super::{Overlay, OwnedRows, read, write};
use crate::model::ShardId;
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// So many bytes of what was there before are kept for a pass. Who writes that much about one user at once keeps its reads
/// from an end.
const BEFORE_MAX: usize = 4 << 20;
/// The most rows of a step, and the bytes from which on one ends.
const STEP_ROWS: usize = 512;
const STEP_BYTES: usize = 256 << 10;

/// What changed of the rows that a pass goes through since it began.
#[derive(Debug)]
pub(super) struct Watch {
    /// What their keys begin with.
    prefix: Vec<u8>,
    since: Mutex<Since>,
}

#[derive(Debug, Default)]
struct Since {
    /// What was active then, and is frozen now.
    frozen: Option<Arc<Rows>>,
    /// Rows as they were then; `None` where there was none.
    before: HashMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    is_lost: bool,
}

/// Too much changed while a pass was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Lost;

/// Those who watch rows of a shard.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Weak<Watch>>);

impl Watches {
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
    fn since(&self) -> MutexGuard<'_, Since> {
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

/// The pass.
pub(in super::super) struct Walk<'o> {
    overlay: &'o Overlay,
    shard: ShardId,
    /// Frozen when it began.
    frozen: Option<Arc<Rows>>,
    watch: Arc<Watch>,
}

/// Rows of a step in the order of their keys, and where the next one begins: `None` at the end.
type Step = (OwnedRows, Option<Vec<u8>>);

impl Overlay {
    /// Begins a pass over rows whose keys begin with a prefix. At its instant `at_once` is called: nothing leaves or comes
    /// into the shard meanwhile.
    pub(in super::super) fn walk<T>(&self, prefix: &[u8], at_once: impl FnOnce() -> T) -> (Walk<'_>, T) {
        let shard = ShardId(prefix[0]);
        let watch = Arc::new(Watch { prefix: prefix.to_vec(), since: Mutex::default() });
        let mut rows = write(&self.shards[shard.index()]);
        rows.watches.0.retain(|watch| watch.strong_count() > 0);
        rows.watches.0.push(Arc::downgrade(&watch));
        let frozen = rows.frozen.clone();
        let then = at_once();
        drop(rows);
        (Walk { overlay: self, shard, frozen, watch }, then)
    }
}

impl Walk<'_> {
    /// The first rows of a range, which is within what is walked. A row that is empty was removed.
    pub(in super::super) fn step(&self, range: &Range<Vec<u8>>) -> Result<Step, Lost> {
        loop {
            let rows = read(&self.overlay.shards[self.shard.index()]);
            let since = self.watch.since();
            if since.is_lost {
                return Err(Lost);
            }
            let active = since.frozen.as_deref().unwrap_or(&rows.active);
            let of_active = active.in_order(range, STEP_ROWS);
            let of_frozen = self.frozen.as_ref().map_or(Some(Vec::new()), |frozen| frozen.in_order(range, STEP_ROWS));
            if let (Some(of_active), Some(of_frozen)) = (of_active, of_frozen) {
                return Ok(self.merge((active, &of_active), &of_frozen, &since));
            }
        }
    }

    fn merge(&self, (active, of_active): (&Rows, &[u32]), of_frozen: &[u32], since: &Since) -> Step {
        let frozen = self.frozen.as_deref();
        // Where one of the two has more than was asked for, what lies behind its last row is for the next step.
        let goes_on = of_active.len().max(of_frozen.len()) == STEP_ROWS;
        let (mut of_active, mut of_frozen) = (of_active.iter().peekable(), of_frozen.iter().peekable());
        let mut found = OwnedRows::new();
        let mut last = None;
        let mut bytes = 0;
        for _ in 0..STEP_ROWS {
            let newer = of_active.peek().map(|&&at| active.key_at(at));
            let older = frozen.and_then(|frozen| of_frozen.peek().map(|&&at| frozen.key_at(at)));
            let Some(key) = [newer, older].into_iter().flatten().min() else { break };
            of_active.next_if(|&&at| active.key_at(at) == key);
            of_frozen.next_if(|&&at| frozen.is_some_and(|frozen| frozen.key_at(at) == key));
            let hash = self.overlay.hash(key);
            let row = match since.before.get(key) {
                Some(before) => before.as_deref(),
                None => active.get(hash, key),
            };
            // One that came since then is not there yet.
            if let Some(row) = row.or_else(|| frozen?.get(hash, key)) {
                found.push((key.to_vec(), row.to_vec()));
                bytes += key.len() + row.len();
            }
            last = Some(key);
            if bytes >= STEP_BYTES {
                break;
            }
        }
        let is_end = !goes_on && of_active.peek().is_none() && of_frozen.peek().is_none();
        (found, last.filter(|_| !is_end).map(next_key))
    }
}

/// The least key after a key.
fn next_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
