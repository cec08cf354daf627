//! When a consumer's copy had which changes: the newest to some milliseconds, older ones more coarsely.

use crate::model::TsMs;
use std::collections::VecDeque;

/// Instants that are kept.
const INSTANTS: usize = 64;
/// Instants that are closer together are one.
const SPACING_MS: u64 = 2;

/// When a copy had which of a shard's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// Nobody keeps a copy.
    Nobody,
    /// It has not got all of them yet.
    NotYet,
    /// From this instant on at the latest; `None` if that was before it was noted.
    Since(Option<TsMs>),
}

/// Up to which change a copy was at which instants, oldest first.
#[derive(Debug, Default)]
pub(super) struct Confirmed {
    /// Up to where it was before the first instant.
    before: u64,
    instants: VecDeque<(u64, TsMs)>,
}

impl Confirmed {
    /// The copy has the changes up to `seq` now. That may be fewer than before: it may lose data.
    pub fn note(&mut self, seq: u64, at: TsMs) {
        let (last_seq, last_at) = self.instants.back().copied().unwrap_or((self.before, TsMs(0)));
        if seq <= last_seq {
            return;
        }
        let at = at.max(last_at);
        // From the one before the last, not from the last: it would otherwise never be a new one while all are close together.
        let before_last = self.instants.len().checked_sub(2).map(|number| self.instants[number].1);
        if before_last.is_some_and(|before| at.0 < before.0.saturating_add(SPACING_MS)) {
            self.instants.pop_back();
        }
        self.instants.push_back((seq, at));
        if self.instants.len() > INSTANTS {
            self.forget_one(at);
        }
    }

    /// Forgets the instant by which the least is lost, for its age: what it stood for is told as of the next.
    fn forget_one(&mut self, now: TsMs) {
        // The earliest of what it stands for came right after the one before it.
        let lost = |number: usize| {
            let (before, next) = (self.instants[number - 1].1, self.instants[number + 1].1);
            (next.0 - before.0) as f64 / (now.0.saturating_sub(before.0) + 1) as f64
        };
        let least = (1..self.instants.len() - 1).min_by(|a, b| lost(*a).total_cmp(&lost(*b)));
        if let Some(number) = least {
            self.instants.remove(number);
        }
    }

    /// A run begins, or the copy is whole again: what it has is known, since when is not.
    pub fn begin(&mut self, seq: u64) {
        if self.instants.is_empty() {
            self.before = self.before.max(seq);
        }
    }

    /// When the copy had the changes up to `seq`, of which it has all.
    pub fn at(&self, seq: u64) -> Option<TsMs> {
        if seq <= self.before {
            return None;
        }
        self.instants.iter().find(|(up_to, _)| *up_to >= seq).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_well_and_older_ones_never_too_early() {
        let mut confirmed = Confirmed::default();
        confirmed.begin(10);
        for n in 11..=1_000u64 {
            confirmed.note(n, TsMs(n * 10));
        }
        assert_eq!(confirmed.at(10), None);
        for n in 11..=1_000u64 {
            let at = confirmed.at(n).unwrap();
            assert!(at.0 >= n * 10, "{n}: {at}");
            // No later than by a part of its age.
            assert!(at.0 - n * 10 <= (10_000 - n * 10) / 4 + 10, "{n}: {at}");
        }
        assert_eq!(confirmed.at(1_000), Some(TsMs(10_000)));
        assert!(confirmed.instants.len() <= INSTANTS);
        confirmed.note(5, TsMs(20_000));
        assert_eq!(confirmed.at(1_000), Some(TsMs(10_000)));
        // All close together.
        let mut busy = Confirmed::default();
        for n in 1..=5_000u64 {
            busy.note(n, TsMs(n / 2));
        }
        let at = busy.at(4_000).unwrap();
        assert!((2_000..2_200).contains(&at.0), "{at}");
    }
}
