//! What is measured of keys.

use metrics::{describe_counter, describe_gauge, gauge};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Keys that metrics name. The others are counted together, so that what is scraped stays small.
const NAMED_MAX: usize = 1_000;

/// What keys beyond those are called: no key's id.
const OTHERS: &str = "(others)";

/// Those that are named, in the order in which they called first.
static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A key as metrics name it.
pub(super) fn label(id: &str) -> String {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    label_of(&mut named, id, NAMED_MAX)
}

fn label_of(named: &mut BTreeSet<String>, id: &str, most: usize) -> String {
    if !named.contains(id) {
        if named.len() >= most {
            return OTHERS.to_owned();
        }
        named.insert(id.to_owned());
    }
    id.to_owned()
}

/// Describes the metrics.
pub fn describe() {
    describe_counter!(
        "freqcap_auth_total",
        "Calls by key and result: ok, forbidden (another scope is needed), expired; without a key absent or unknown. The first \
         1,000 keys that call have names, the others are `(others)`"
    );
    describe_gauge!("freqcap_keys", "Keys in force");
    describe_gauge!(
        "freqcap_keys_reload_failed",
        "Whether the file of keys cannot be used as it is now: the keys from before are in force"
    );
}

pub(super) fn note_keys(count: usize, failed: bool) {
    gauge!("freqcap_keys").set(count as f64);
    gauge!("freqcap_keys_reload_failed").set(if failed { 1.0 } else { 0.0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_keys_have_names() {
        let mut named = BTreeSet::new();
        let mut label = |id: &str| label_of(&mut named, id, 2);
        assert_eq!((label("a"), label("b"), label("c")), ("a".to_owned(), "b".to_owned(), OTHERS.to_owned()));
        assert_eq!((label("a"), label("d")), ("a".to_owned(), OTHERS.to_owned()));
    }
}
