//! The log of one (user, key): the truth from which every count, verdict and expiry is derived.

use super::{Kind, Reservation, TsMs};
use smallvec::SmallVec;

/// The most kinds of events that one log holds.
pub const MAX_KINDS: usize = 16;
/// The most events that one log holds, of all kinds together. An entry is at most 14 bytes on average (8 of a hash, 6 of
/// the time since the one before, even if they lie centuries apart), so with its reservations a row is less than
/// [`MAX_ROW_BYTES`].
pub const MAX_LOG_EVENTS: usize = 65_536;
/// No row of a log is longer.
pub const MAX_ROW_BYTES: usize = 1 << 20;

/// One counted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When it happened.
    pub ts: TsMs,
    /// [`super::Event::hash`]; 0 where the event had no id.
    pub hash: u64,
}

/// The counted events of one kind, oldest first; of one instant, in the order in which they were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The kind.
    pub kind: Kind,
    /// How many events were counted besides those kept.
    pub trimmed: u64,
    /// The events that are kept, oldest first.
    pub entries: SmallVec<[Entry; 2]>,
    /// Reservations that no event has confirmed, in the order in which they were made: beside the entries, not among
    /// them, so that one that lapses has pushed nothing out.
    pub reservations: Vec<Reservation>,
}

impl Section {
    fn new(kind: Kind) -> Self {
        Self { kind, trimmed: 0, entries: SmallVec::new(), reservations: Vec::new() }
    }

    /// Events counted since the log was made, kept or not; reservations are none.
    pub fn lifetime(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    /// The newest `history_limit` entries: more can be there only since the limit was lowered.
    pub fn kept(&self, history_limit: usize) -> &[Entry] {
        &self.entries[self.entries.len().saturating_sub(history_limit)..]
    }

    /// Whether another event would push one out.
    pub fn is_full(&self, history_limit: usize) -> bool {
        self.entries.len() >= history_limit
    }
}

/// What became of an entry given to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the log.
    Kept,
    /// The log is full of newer events: only the lifetime count rose.
    OnlyCounted,
}

/// The counted events of one (user, key), by kind, and what is reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// In the order in which the kinds first came; no section is without entries and reservations.
    pub sections: SmallVec<[Section; 1]>,
}

impl Log {
    /// A log without events.
    pub const fn empty() -> Self {
        Self { sections: SmallVec::new_const() }
    }

    /// The events of a kind; `None` if there are none.
    pub fn section(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// The time of the newest event of any kind, or `None` of an empty log.
    pub fn newest(&self) -> Option<TsMs> {
        self.sections.iter().filter_map(|section| section.entries.last()).map(|entry| entry.ts).max()
    }

    /// Whether there are no events and no reservations.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// The time of an event kept here that has this kind and hash, and lies no further than `window_ms` from `ts`. There is
    /// none like an event without an id (hash 0).
    pub fn seen(&self, kind: Kind, hash: u64, ts: TsMs, window_ms: u64) -> Option<TsMs> {
        if hash == 0 {
            return None;
        }
        let mut entries = self.section(kind)?.entries.iter();
        let seen = entries.find(|entry| entry.hash == hash && entry.ts.0.abs_diff(ts.0) <= window_ms);
        seen.map(|entry| entry.ts)
    }

    /// Whether an event of this kind can be added where a log holds at most `max_kinds`. A log that holds more, from a
    /// version that knew no such limit, keeps them.
    #[inline]
    pub fn takes(&self, kind: Kind, max_kinds: usize) -> bool {
        self.sections.len() < max_kinds || self.section(kind).is_some()
    }

    /// Whether the log is full and `ts` is at or before the oldest event that it keeps of this kind.
    pub fn is_before_kept(&self, kind: Kind, ts: TsMs, history_limit: usize) -> bool {
        self.section(kind).is_some_and(|section| {
            section.is_full(history_limit) && section.kept(history_limit).first().is_some_and(|oldest| ts <= oldest.ts)
        })
    }

    fn section_mut(&mut self, kind: Kind) -> &mut Section {
        let at = self.sections.iter().position(|section| section.kind == kind).unwrap_or_else(|| {
            self.sections.push(Section::new(kind));
            self.sections.len() - 1
        });
        &mut self.sections[at]
    }

    /// Counts a reservation, from now on and until it expires.
    pub fn add_reservation(&mut self, kind: Kind, held: Reservation) {
        self.section_mut(kind).reservations.push(held);
    }

    /// The first reservation of this kind with this hash.
    pub fn reservation(&self, kind: Kind, hash: u64) -> Option<&Reservation> {
        self.section(kind)?.reservations.iter().find(|held| held.hash == hash)
    }

    /// Takes out the first reservation of this kind with this hash.
    pub fn remove_reservation(&mut self, kind: Kind, hash: u64) -> Option<Reservation> {
        let section = self.sections.iter_mut().find(|section| section.kind == kind)?;
        let at = section.reservations.iter().position(|held| held.hash == hash)?;
        let held = section.reservations.remove(at);
        self.drop_empty();
        Some(held)
    }

    /// Forgets the reservations that have lapsed at `now`.
    pub fn drop_lapsed(&mut self, now: TsMs) {
        let mut reservations = self.sections.iter().flat_map(|section| &section.reservations);
        if reservations.any(|reservation| reservation.expires_at <= now) {
            self.sections.iter_mut().for_each(|section| section.reservations.retain(|held| held.expires_at > now));
            self.drop_empty();
        }
    }

    /// Forgets every event; what is reserved stays.
    pub fn drop_events(&mut self) {
        for section in &mut self.sections {
            section.entries.clear();
            section.trimmed = 0;
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.sections.retain(|section| !(section.entries.is_empty() && section.reservations.is_empty()));
    }

    /// Counts an event, keeping the newest `history_limit` of its kind.
    pub fn insert(&mut self, kind: Kind, entry: Entry, history_limit: usize) -> Inserted {
        let section = self.section_mut(kind);
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
    fn a_reservation_leaves_no_trace_once_it_lapses_or_is_taken_out() {
        let held =
            |hash, expires_at| Reservation { ts: TsMs(5), expires_at: TsMs(expires_at), hash, keys: Box::default() };
        let mut log = Log::default();
        log.add_reservation(Kind::IMPRESSION, held(1, 10));
        log.add_reservation(Kind::IMPRESSION, held(2, 20));
        log.add_reservation(Kind::CLICK, held(3, 10));
        log.drop_lapsed(TsMs(9));
        assert_eq!(log.sections.len(), 2);
        log.drop_lapsed(TsMs(10));
        assert!(log.reservation(Kind::IMPRESSION, 1).is_none() && log.section(Kind::CLICK).is_none());
        assert_eq!(log.remove_reservation(Kind::IMPRESSION, 2), Some(held(2, 20)));
        assert!(log.is_empty());
    }

    #[test]
    fn an_id_is_known_within_the_window_before_and_after() {
        let mut log = Log::default();
        for ts in [100, 200] {
            log.insert(Kind::IMPRESSION, Entry { ts: TsMs(ts), hash: 7 }, 4);
        }
        let seen = |ts| log.seen(Kind::IMPRESSION, 7, TsMs(ts), 10).map(|ts| ts.0);
        assert_eq!(
            [89, 90, 110, 111, 190, 210, 211].map(seen),
            [None, Some(100), Some(100), None, Some(200), Some(200), None]
        );
    }

    #[test]
    fn a_log_takes_kinds_that_it_holds_and_new_ones_while_there_is_room() {
        let mut log = Log::default();
        log.insert(Kind::CLICK, entry(1), 4);
        log.insert(Kind::IMPRESSION, entry(1), 4);
        assert!(log.takes(Kind::CONVERSION, 3) && !log.takes(Kind::CONVERSION, 2));
        assert!(log.takes(Kind::CLICK, 1));
    }

    #[test]
    fn kinds_are_kept_apart() {
        let mut log = Log::default();
        log.insert(Kind::CLICK, entry(9), 4);
        log.insert(Kind::IMPRESSION, entry(7), 4);
        assert_eq!(log.seen(Kind::CLICK, 9, TsMs(0), u64::MAX), Some(TsMs(9)));
        assert_eq!(log.seen(Kind::IMPRESSION, 9, TsMs(9), u64::MAX), None);
        assert_eq!(log.newest(), Some(TsMs(9)));
    }
}
