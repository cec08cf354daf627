//! Evictions: a full Redis removes keys, and they are sent again.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Minimum time between two full syncs because of evictions. It doubles with each, up to a maximum.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(320);

/// Evictions so far. Sending everything again may make a full Redis evict again. So the first full sync begins at once,
/// and later ones after growing pauses, until there were no evictions for a while.
#[derive(Debug)]
pub(super) struct Evictions {
    /// Evictions counted by each server since it started.
    counted: BTreeMap<String, u64>,
    is_due: bool,
    not_before: Instant,
    pause: Duration,
}

impl Evictions {
    pub fn new(now: Instant) -> Self {
        Self { counted: BTreeMap::new(), is_due: false, not_before: now, pause: PAUSE }
    }

    /// Takes a server's count; returns how many evictions are new. Those before the first answer are new, too: they may
    /// have been ours.
    pub fn note(&mut self, addr: &str, count: u64, now: Instant) -> u64 {
        let before = self.counted.insert(addr.to_owned(), count).unwrap_or(0);
        // The server restarted.
        let new = if count < before { count } else { count - before };
        if new > 0 {
            if now > self.not_before + self.pause {
                self.pause = PAUSE;
            }
            self.is_due = true;
        }
        new
    }

    /// When a full sync is due because of evictions.
    pub fn due_at(&self) -> Option<Instant> {
        self.is_due.then_some(self.not_before)
    }

    pub fn full_sync_begun(&mut self, now: Instant) {
        self.is_due = false;
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eviction_asks_for_a_full_sync_at_once_and_later_ones_ever_later() {
        let start = Instant::now();
        let mut evictions = Evictions::new(start);
        assert_eq!((evictions.note("a", 0, start), evictions.due_at()), (0, None));
        assert_eq!((evictions.note("a", 7, start), evictions.due_at()), (7, Some(start)));
        evictions.full_sync_begun(start);
        assert_eq!(evictions.due_at(), None);
        assert_eq!(evictions.note("a", 9, start), 2);
        assert_eq!(evictions.due_at(), Some(start + PAUSE));
        evictions.full_sync_begun(start + PAUSE);
        assert_eq!(evictions.note("b", 1, start + PAUSE), 1);
        assert_eq!(evictions.due_at(), Some(start + 3 * PAUSE));
        evictions.full_sync_begun(start + 3 * PAUSE);
        // The server restarted, after a quiet time.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(evictions.note("a", 3, later), 3);
        assert!(evictions.due_at().unwrap() < later);
        evictions.full_sync_begun(later);
        evictions.note("a", 4, later);
        assert_eq!(evictions.due_at(), Some(later + PAUSE));
    }
}
