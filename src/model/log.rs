//! The log of one (user, key): the truth from which every count, verdict and expiry is derived.

use super::{Kind, TsMs};
use smallvec::SmallVec;

/// One counted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub ts: TsMs,
    /// [`super::Event::hash`]; 0 where the event had no id.
    pub hash: u64,
}

/// The counted events of one kind, oldest first; of one instant, in the order in which they were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub kind: Kind,
    /// How many events were counted besides those kept.
    pub trimmed: u64,
    pub entries: SmallVec<[Entry; 2]>,
}

impl Section {
    /// Events counted since the log was made, kept or not.
    pub fn lifetime(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    /// The newest `history_limit` entries: more can be there only since the limit was lowered.
    pub fn kept(&self, history_limit: usize) -> &[Entry] {
        &self.entries[self.entries.len().saturating_sub(history_limit)..]
    }

    pub fn is_full(&self, history_limit: usize) -> bool {
        self.entries.len() >= history_limit
    }
}

/// What became of an entry given to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    Kept,
    /// The log is full of newer events: only the lifetime count rose.
    OnlyCounted,
}

/// The counted events of one (user, key), by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// In the order in which the kinds first came; no section is empty.
    pub sections: SmallVec<[Section; 1]>,
}

impl Log {
    pub fn section(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// The time of the newest event of any kind, or `None` of an empty log.
    pub fn newest(&self) -> Option<TsMs> {
        self.sections.iter().filter_map(|section| section.entries.last()).map(|entry| entry.ts).max()
    }

    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// Whether an event of this kind with this hash is kept here. An event without an id (hash 0) never is.
    pub fn contains(&self, kind: Kind, hash: u64) -> bool {
        hash != 0 && self.section(kind).is_some_and(|section| section.entries.iter().any(|entry| entry.hash == hash))
    }

    /// Whether the log is full and `ts` is at or before the oldest event that it keeps of this kind.
    pub fn is_before_kept(&self, kind: Kind, ts: TsMs, history_limit: usize) -> bool {
        self.section(kind).is_some_and(|section| {
            section.is_full(history_limit) && section.kept(history_limit).first().is_some_and(|oldest| ts <= oldest.ts)
        })
    }

    /// Counts an event, keeping the newest `history_limit` of its kind.
    pub fn insert(&mut self, kind: Kind, entry: Entry, history_limit: usize) -> Inserted {
        let section = match self.sections.iter_mut().position(|section| section.kind == kind) {
            Some(at) => &mut self.sections[at],
            None => {
                self.sections.push(Section { kind, trimmed: 0, entries: SmallVec::new() });
                let last = self.sections.len() - 1;
                &mut self.sections[last]
            }
        };
        if section.is_full(history_limit) && section.kept(history_limit).first().is_some_and(|old| entry.ts <= old.ts) {
            section.trimmed += 1;
            return Inserted::OnlyCounted;
        }
        let at = match section.entries.last() {
            Some(newest) if entry.ts < newest.ts => section.entries.partition_point(|kept| kept.ts <= entry.ts),
            _ => section.entries.len(),
        };
        section.entries.insert(at, entry);
        let surplus = section.entries.len().saturating_sub(history_limit);
        section.entries.drain(..surplus);
        section.trimmed += surplus as u64;
        Inserted::Kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ts: u64) -> Entry {
        Entry { ts: TsMs(ts), hash: ts }
    }

    fn kept(log: &Log) -> Vec<u64> {
        log.section(Kind::IMPRESSION).unwrap().entries.iter().map(|entry| entry.ts.0).collect()
    }

    #[test]
    fn a_full_log_keeps_the_newest_and_counts_the_rest() {
        let mut log = Log::default();
        for ts in [30, 10, 20, 40] {
            assert_eq!(log.insert(Kind::IMPRESSION, entry(ts), 3), Inserted::Kept);
        }
        assert_eq!(kept(&log), [20, 30, 40]);
        for ts in [5, 20] {
            assert!(log.is_before_kept(Kind::IMPRESSION, TsMs(ts), 3));
            assert_eq!(log.insert(Kind::IMPRESSION, entry(ts), 3), Inserted::OnlyCounted);
        }
        assert_eq!(log.insert(Kind::IMPRESSION, entry(21), 3), Inserted::Kept);
        assert_eq!(kept(&log), [21, 30, 40]);
        assert_eq!(log.section(Kind::IMPRESSION).unwrap().lifetime(), 7);
    }

    #[test]
    fn a_lowered_limit_shows_only_the_newest() {
        let mut log = Log::default();
        for ts in 1..=5 {
            log.insert(Kind::IMPRESSION, entry(ts), 5);
        }
        let section = log.section(Kind::IMPRESSION).unwrap();
        assert_eq!(section.kept(2), [entry(4), entry(5)]);
        assert!(log.is_before_kept(Kind::IMPRESSION, TsMs(4), 2));
        log.insert(Kind::IMPRESSION, entry(6), 2);
        assert_eq!((kept(&log), log.section(Kind::IMPRESSION).unwrap().lifetime()), (vec![5, 6], 6));
    }

    #[test]
    fn kinds_are_kept_apart() {
        let mut log = Log::default();
        log.insert(Kind::CLICK, entry(9), 4);
        log.insert(Kind::IMPRESSION, entry(7), 4);
        assert!(log.contains(Kind::CLICK, 9) && !log.contains(Kind::IMPRESSION, 9));
        assert_eq!(log.newest(), Some(TsMs(9)));
    }
}
