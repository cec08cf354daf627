//! Counting held events of an ad under keys that it did not have when they came.

use super::{Logs, Policy};
use crate::model::{Entry, Kind, Log};

/// Counts the events that the log of an ad holds in the logs of other keys of the user, except those that are there already.
/// Says how many were added. However often this runs, an event is there once: an event is told by its time and hash, and what an
/// event without an id looks like is counted as often as the ad's log has it.
///
/// An event at or before the oldest that a full log keeps is left out: it cannot be told whether it was counted there.
pub fn backfill<L: Logs>(policy: &Policy, logs: &mut L, da: L::At, keys: &[L::At]) -> usize {
    let mut added = 0;
    for &at in keys {
        let missing = missing(policy, logs.log(da), logs.log(at));
        if missing.is_empty() {
            continue;
        }
        logs.change(at, |log| {
            for (kind, entry) in missing {
                // What was added a moment ago may have filled it.
                if !log.is_before_kept(kind, entry.ts, policy.history_limit()) {
                    log.insert(kind, entry, policy.history_limit());
                    added += 1;
                }
            }
        });
    }
    added
}

/// The events of one log that another lacks, each kind from the oldest on.
fn missing(policy: &Policy, held: &Log, other: &Log) -> Vec<(Kind, Entry)> {
    let mut missing = Vec::new();
    let mut kinds = other.sections.len();
    for section in &held.sections {
        let there = other.section(section.kind);
        if there.is_none() && kinds >= policy.max_kinds() {
            continue;
        }
        let before = missing.len();
        let kept = section.kept(policy.history_limit());
        for (number, entry) in kept.iter().enumerate() {
            if other.is_before_kept(section.kind, entry.ts, policy.history_limit()) {
                continue;
            }
            // Equal entries follow each other, but for others of the same instant.
            let same = kept[..number].iter().rev().take_while(|kept| kept.ts == entry.ts);
            let so_far = same.filter(|kept| *kept == entry).count();
            let counted = there.map_or(0, |there| {
                let from = there.entries.partition_point(|kept| kept.ts < entry.ts);
                let same = there.entries[from..].iter().take_while(|kept| kept.ts == entry.ts);
                same.filter(|kept| *kept == entry).count()
            });
            if so_far >= counted {
                missing.push((section.kind, *entry));
            }
        }
        kinds += usize::from(there.is_none() && missing.len() > before);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RuleSet, TsMs};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Two logs of a user: of the ad, and of the key.
    struct Two([Log; 2]);

    impl Logs for Two {
        type At = usize;

        fn log(&self, at: usize) -> &Log {
            &self.0[at]
        }

        fn change(&mut self, at: usize, change: impl FnOnce(&mut Log)) {
            change(&mut self.0[at]);
        }

        fn capped_until(&self, _at: usize) -> Option<TsMs> {
            None
        }

        fn sibling(&self, _at: usize, _key: &str) -> Option<usize> {
            None
        }
    }

    fn policy(limit: usize) -> Policy {
        Policy::new(RuleSet::new([]), limit, 1_000, 1_000, 0)
    }

    /// What came: its time, its hash, and whether the key was counted, too.
    type Came = Vec<(u64, u64, bool)>;

    fn logs(came: &Came, limit: usize) -> Two {
        let mut two = Two(Default::default());
        for &(ts, hash, is_in_both) in came {
            let entry = Entry { ts: TsMs(ts), hash };
            two.0[0].insert(Kind::IMPRESSION, entry, limit);
            if is_in_both {
                two.0[1].insert(Kind::IMPRESSION, entry, limit);
            }
        }
        two
    }

    fn entries(log: &Log) -> Vec<(u64, u64)> {
        let entries = log.section(Kind::IMPRESSION).map(|section| section.entries.to_vec()).unwrap_or_default();
        let mut told: Vec<_> = entries.iter().map(|entry| (entry.ts.0, entry.hash)).collect();
        told.sort_unstable();
        told
    }

    proptest! {
        #[test]
        fn every_held_event_is_there_once_however_often_it_runs(
            came in prop::collection::vec((1..40u64, 0..3u64, any::<bool>()), 0..60),
            times in 1..4usize,
        ) {
            // An id counts once: the hash of an event with one is its own.
            let came: Came = came.into_iter().enumerate().map(|(n, (ts, hash, both))| (ts, if hash == 0 { 0 } else { n as u64 + 1 }, both)).collect();
            let mut two = logs(&came, 256);
            let before = entries(&two.0[1]).len();
            let added = backfill(&policy(256), &mut two, 0, &[1]);
            prop_assert_eq!(before + added, came.len());
            for _ in 1..times {
                prop_assert_eq!(backfill(&policy(256), &mut two, 0, &[1]), 0);
            }
            prop_assert_eq!(entries(&two.0[1]), entries(&two.0[0]));
            prop_assert_eq!(two.0[1].section(Kind::IMPRESSION).map_or(0, |section| section.lifetime()), came.len() as u64);
        }

        #[test]
        fn a_full_log_keeps_the_newest_of_all_and_none_twice(
            came in prop::collection::btree_map(1..200u64, any::<bool>(), 0..40),
            limit in 1..12usize,
        ) {
            let came: Came = came.into_iter().map(|(ts, both)| (ts, ts, both)).collect();
            let mut two = logs(&came, limit);
            let expected: BTreeMap<u64, u64> =
                entries(&two.0[0]).into_iter().chain(entries(&two.0[1])).collect();
            let expected: Vec<_> = expected.into_iter().rev().take(limit).collect::<Vec<_>>().into_iter().rev().collect();
            backfill(&policy(limit), &mut two, 0, &[1]);
            prop_assert_eq!(entries(&two.0[1]), expected);
            let again = two.0[1].clone();
            prop_assert_eq!(backfill(&policy(limit), &mut two, 0, &[1]), 0);
            prop_assert_eq!(&two.0[1], &again);
        }
    }

    #[test]
    fn kinds_are_kept_apart_and_no_log_gets_too_many() {
        let mut two = Two(Default::default());
        for (number, kind) in ["impression", "click"].into_iter().enumerate() {
            let entry = Entry { ts: TsMs(number as u64 + 1), hash: 0 };
            two.0[0].insert(Kind::new(kind).unwrap(), entry, 256);
        }
        for number in 0..policy(256).max_kinds() - 1 {
            two.0[1].insert(Kind::new(&format!("k{number}")).unwrap(), Entry { ts: TsMs(1), hash: 0 }, 256);
        }
        assert_eq!(backfill(&policy(256), &mut two, 0, &[1]), 1);
        assert_eq!(two.0[1].sections.len(), policy(256).max_kinds());
    }
}
