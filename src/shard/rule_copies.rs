//! The rules in the stores of several units: the first decides, and each of the others has a copy.

use crate::store::{RulesChange, RulesMark, Store, StoreError};
use std::sync::Arc;

/// How many stores are written to at once: each waits for the disk.
const AT_ONCE: usize = 16;

/// The mark of the rules that the first store was last judged by; with a higher revision where another store has one, for no
/// two sets of rules share a revision. `None` where the first store is new. Blocks on disk.
pub(super) fn newest_mark(stores: &[Arc<Store>]) -> Result<Option<RulesMark>, StoreError> {
    let mut marks = Vec::with_capacity(stores.len());
    for store in stores {
        marks.push(store.rules().in_force()?);
    }
    let highest = marks.iter().flatten().map(|mark| mark.revision).max().unwrap_or(0);
    match marks.first().copied().flatten() {
        // The first store went back to an earlier state: its rules come into force anew, under a revision of their own.
        Some(first) if first.revision < highest => Ok(Some(RulesMark { revision: highest, fingerprint: 0, ..first })),
        None if highest > 0 => Ok(Some(RulesMark { revision: highest, ..RulesMark::default() })),
        first => Ok(first),
    }
}

/// Brings the rules of every other store in line with those of the first. Durable where it returns. Blocks on disk.
pub(super) fn copy_all(stores: &[Arc<Store>]) -> Result<(), StoreError> {
    let Some((first, others)) = stores.split_first().filter(|(_, others)| !others.is_empty()) else { return Ok(()) };
    let state = first.rules().state()?;
    each(others, |store| if store.rules().state()? == state { Ok(()) } else { store.rules().replace(&state) })
}

/// Writes a change that the first store has into every other, without its lines of the audit. Durable where it returns; an
/// error says that one lacks it, not which others have it. Blocks on disk.
pub(super) fn copy(stores: &[Arc<Store>], change: RulesChange<'_>) -> Result<(), StoreError> {
    each(&stores[1..], |store| store.rules().put_in_force(RulesChange { lines: &[], ..change }))
}

/// Does the same with each store, some at a time. The first error, once all are done.
pub(super) fn each(
    stores: &[Arc<Store>],
    work: impl Fn(&Store) -> Result<(), StoreError> + Sync,
) -> Result<(), StoreError> {
    if stores.is_empty() {
        return Ok(());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .chunks(stores.len().div_ceil(AT_ONCE))
            .map(|some| {
                let work = &work;
                scope.spawn(move || some.iter().map(|store| work(store)).fold(Ok(()), Result::and))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(StoreError::Poisoned)));
        joined.fold(Ok(()), Result::and)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TsMs;
    use crate::store::StoreOptions;

    fn stores(dir: &std::path::Path, units: usize) -> Vec<Arc<Store>> {
        let options = StoreOptions { data_dir: dir.to_owned(), ..StoreOptions::default() };
        (0..units).map(|unit| Arc::new(Store::open(&options.of_unit(unit, units)).unwrap())).collect()
    }

    fn mark(revision: u64) -> RulesMark {
        RulesMark { revision, fingerprint: revision + 100, retention_ms: 7, held_since: TsMs(9) }
    }

    fn change<'c>(revision: u64, rules: &'c [(&'c str, Option<&'c [u8]>)]) -> RulesChange<'c> {
        RulesChange { mark: mark(revision), rules, ..RulesChange::default() }
    }

    #[test]
    fn a_start_gives_every_store_what_the_first_has() {
        let dir = tempfile::tempdir().unwrap();
        let stores = stores(dir.path(), 4);
        assert_eq!(newest_mark(&stores).unwrap(), None);
        type Changed = [(&'static str, Option<&'static [u8]>); 1];
        let (a, b, stray): (Changed, Changed, Changed) =
            ([("a", Some(b"{1}"))], [("b", Some(b"{2}"))], [("stray", Some(b"{}"))]);
        let (first, second) = (change(1, &a), change(2, &b));
        for store in &stores {
            store.rules().put_in_force(first).unwrap();
        }
        // A crash came after the first two.
        stores[0].rules().put_in_force(second).unwrap();
        copy(&stores[..2], second).unwrap();
        stores[3].rules().put_in_force(change(1, &stray)).unwrap();
        copy_all(&stores).unwrap();
        let state = stores[0].rules().state().unwrap();
        for store in &stores {
            assert_eq!(store.rules().state().unwrap(), state);
            assert_eq!(store.rules().all().unwrap().len(), 2);
        }
        assert_eq!(newest_mark(&stores).unwrap(), Some(mark(2)));
    }

    #[test]
    fn no_revision_is_used_again_where_the_first_store_went_back() {
        let dir = tempfile::tempdir().unwrap();
        let stores = stores(dir.path(), 2);
        let change = |revision| RulesChange { mark: mark(revision), ..RulesChange::default() };
        stores[0].rules().put_in_force(change(3)).unwrap();
        stores[1].rules().put_in_force(change(8)).unwrap();
        // It is like the mark of no rules, so they come into force anew under the next revision.
        let expected = RulesMark { revision: 8, fingerprint: 0, ..mark(3) };
        assert_eq!(newest_mark(&stores).unwrap(), Some(expected));
    }
}
