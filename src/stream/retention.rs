//! How long changes are kept for readers that are away.

use super::position::Position;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Notes within the bounds: they are kept to about a part of them.
const NOTES: u32 = 64;

struct Note {
    at: Instant,
    position: Position,
    total: u64,
}

/// Notes where the log ended when. So it knows which changes are older than `keep`, or are more than the newest `most`.
pub(super) struct Retention {
    keep: Duration,
    most: u64,
    notes: VecDeque<Note>,
    /// The total of the position from which on changes are kept.
    kept_from: Option<u64>,
}

impl Retention {
    pub fn new(keep: Duration, most: u64) -> Self {
        Self { keep, most, notes: VecDeque::new(), kept_from: None }
    }

    /// Takes note of the end of the log. Returns up to where changes may go, if that is further than before.
    pub fn note(&mut self, position: Position, now: Instant) -> Option<Position> {
        let total = position.total();
        let share = self.most / u64::from(NOTES);
        let is_due = |last: &Note| now >= last.at + self.keep / NOTES || total.wrapping_sub(last.total) > share;
        if self.notes.back().is_none_or(is_due) {
            self.notes.push_back(Note { at: now, position, total });
        }
        let mut kept_from = self.kept_from.unwrap_or(total);
        let mut gone = None;
        while let Some(first) = self.notes.front() {
            let is_old = now.saturating_duration_since(first.at) >= self.keep;
            if !is_old && total.wrapping_sub(first.total) <= self.most - share {
                break;
            }
            kept_from = first.total;
            gone = self.notes.pop_front().map(|note| note.position);
        }
        // So many came between two notes that all of them are too many.
        if total.wrapping_sub(kept_from) > self.most
            && let Some(first) = self.notes.front()
        {
            kept_from = first.total;
            gone = Some(first.position.clone());
        }
        self.kept_from = Some(kept_from);
        gone
    }

    /// Keeps nothing: changes up to here may go.
    pub fn keep_none(&mut self) {
        self.notes.clear();
        self.kept_from = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SHARDS, ShardId};

    #[test]
    fn changes_go_once_they_are_old_or_too_many() {
        let (start, keep) = (Instant::now(), Duration::from_secs(64));
        let mut retention = Retention::new(keep, 64 * SHARDS as u64);
        let mut note = |seconds: u64, seq: u64| {
            let gone = retention.note(Position::of(|_| seq), start + Duration::from_secs(seconds));
            gone.map(|position| position[ShardId(0)])
        };
        assert_eq!(note(0, 1), None);
        assert_eq!(note(1, 2), None);
        assert_eq!(note(63, 3), None);
        assert_eq!(note(64, 3), Some(1));
        assert_eq!(note(65, 3), Some(2));
        // All at once more than may be kept.
        assert_eq!(note(66, 60), None);
        assert_eq!(note(67, 67), Some(3));
        assert_eq!(note(68, 300), Some(300), "more between two notes than may be kept");
        assert_eq!(note(69, 300), None);
        assert_eq!(note(200, 300), Some(300));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let start = Instant::now();
        let mut retention = Retention::new(Duration::from_secs(3_600), 1_000_000);
        for second in 0..20_000u64 {
            retention.note(Position::of(|_| second * 20), start + Duration::from_secs(second));
            assert!(retention.notes.len() <= 2 * NOTES as usize + 2, "{}", retention.notes.len());
        }
    }
}
