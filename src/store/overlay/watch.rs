//! Saves old versions of rows for the walks under way (see `walk`).

use super::rows::Rows;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Maximum bytes of old versions kept for one walk. Heavier writes to one user end that user's walks.
const BEFORE_MAX: usize = 4 << 20;
/// The same for all walks together, so that walks over many users take no more.
const ALL_BEFORE_MAX: usize = 8 << 20;

/// The rows of a walk that changed since it began.
#[derive(Debug)]
pub(super) struct Watch {
    /// The prefix of their keys.
    prefix: Vec<u8>,
    since: Mutex<Since>,
}

#[derive(Debug)]
pub(super) struct Since {
    /// The rows that were active then and are frozen now.
    pub frozen: Option<Arc<Rows>>,
    /// Old versions of rows; `None` if there was no row.
    pub before: HashMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Bytes of all walks under way.
    all_bytes: Arc<AtomicUsize>,
    pub is_lost: bool,
}

impl Drop for Since {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The walks over rows of a shard.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<Weak<Watch>>);

impl Watches {
    pub(super) fn add(&mut self, watch: &Arc<Watch>) {
        self.0.retain(|watch| watch.strong_count() > 0);
        self.0.push(Arc::downgrade(watch));
    }

    /// Called before a row changes.
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

    /// Called when the active rows are frozen: later changes do not affect the walks of now.
    pub(super) fn frozen(&mut self, rows: &Arc<Rows>) {
        for watch in self.0.drain(..).filter_map(|watch| watch.upgrade()) {
            watch.since().frozen = Some(rows.clone());
        }
    }
}

impl Watch {
    /// For rows with a prefix. `all_bytes` counts the bytes of all walks.
    pub(super) fn new(prefix: &[u8], all_bytes: &Arc<AtomicUsize>) -> Self {
        let before = HashMap::new();
        let since = Since { frozen: None, before, bytes: 0, all_bytes: all_bytes.clone(), is_lost: false };
        Self { prefix: prefix.to_vec(), since: Mutex::new(since) }
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
        let bytes = key.len() + row.map_or(0, <[u8]>::len) + size_of::<(Vec<u8>, Option<Vec<u8>>)>();
        self.bytes += bytes;
        let all = self.all_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.bytes > BEFORE_MAX || all > ALL_BEFORE_MAX {
            self.all_bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
            self.before = HashMap::new();
            self.is_lost = true;
            return;
        }
        self.before.insert(key.to_vec(), row.map(<[u8]>::to_vec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_passes_together_keep_a_bounded_number_of_bytes() {
        let all = Arc::new(AtomicUsize::new(0));
        let row = vec![7; 1 << 20];
        let watches: Vec<_> = (0..4).map(|_| Watch::new(b"u", &all)).collect();
        for n in 0..3u8 {
            watches.iter().for_each(|watch| watch.since().keep(&[b'u', n], Some(&row)));
        }
        let lost = watches.iter().filter(|watch| watch.since().is_lost).count();
        assert!((1..4).contains(&lost), "{lost}: some are lost, and the others go on");
        let kept: usize = watches.iter().map(|watch| watch.since().before.len()).sum();
        assert!(kept << 20 <= ALL_BEFORE_MAX);
        assert!(all.load(Ordering::Relaxed) >= kept << 20);
        drop(watches);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
