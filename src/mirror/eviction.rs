//! A Redis that is full and evicts keys: what it evicted is sent again.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The least time between two full passes that evictions ask for; doubled with each, up to the most.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(320);

/// What is known of evictions. Sending everything again may make a full Redis evict again: the first pass begins at
/// once, those after it ever later, until it has been quiet.
#[derive(Debug)]
pub(super) struct Evictions {
    /// Keys evicted since the server started, by server.
    counted: BTreeMap<String, u64>,
    is_due: bool,
    not_before: Instant,
    pause: Duration,
}

impl Evictions {
    pub fn new(now: Instant) -> Self {
        Self { counted: BTreeMap::new(), is_due: false, not_before: now, pause: PAUSE }
    }

    /// Takes what a server counts; how many are new. What it evicted before it was first asked is new, too: nobody
    /// knows whether those were ours.
    pub fn note(&mut self, addr: &str, count: u64, now: Instant) -> u64 {
        let before = self.counted.insert(addr.to_owned(), count).unwrap_or(0);
        // Less than before: it was started anew.
        let new = if count < before { count } else { count - before };
        if new > 0 {
            if now > self.not_before + self.pause {
                self.pause = PAUSE;
            }
            self.is_due = true;
        }
        new
    }

    /// When a pass is to begin for what was evicted.
    pub fn due_at(&self) -> Option<Instant> {
        self.is_due.then_some(self.not_before)
    }

    pub fn pass_begun(&mut self, now: Instant) {
        self.is_due = false;
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_eviction_asks_for_a_pass_at_once_and_going_on_ever_later() {
        let start = Instant::now();
        let mut evictions = Evictions::new(start);
        assert_eq!((evictions.note("a", 0, start), evictions.due_at()), (0, None));
        assert_eq!((evictions.note("a", 7, start), evictions.due_at()), (7, Some(start)));
        evictions.pass_begun(start);
        assert_eq!(evictions.due_at(), None);
        assert_eq!(evictions.note("a", 9, start), 2);
        assert_eq!(evictions.due_at(), Some(start + PAUSE));
        evictions.pass_begun(start + PAUSE);
        assert_eq!(evictions.note("b", 1, start + PAUSE), 1);
        assert_eq!(evictions.due_at(), Some(start + 3 * PAUSE));
        evictions.pass_begun(start + 3 * PAUSE);
        // Started anew; and it was quiet for long.
        let later = start + Duration::from_secs(3_600);
        assert_eq!(evictions.note("a", 3, later), 3);
        assert!(evictions.due_at().unwrap() < later);
        evictions.pass_begun(later);
        evictions.note("a", 4, later);
        assert_eq!(evictions.due_at(), Some(later + PAUSE));
    }
}
