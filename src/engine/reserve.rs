//! Reservations: checked and counted in one step, held until an event confirms them, they lapse or are released.

use super::{Logs, Policy};
use crate::model::{Entry, Held, Kind, MAX_HELD, MAX_HELD_BYTES, TsMs};

/// Until when a reservation counts that nobody confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Until(TsMs),
    /// It is an event from the start.
    ForGood,
}

/// Whether a log has room for so many more reservations of a kind. Where it has not, none may be made: a log that forgot
/// one would let an ad through that is at its cap.
pub fn has_room<L: Logs>(logs: &L, at: L::At, kind: Kind, more: usize) -> bool {
    let Some(section) = logs.log(at).section(kind) else { return true };
    let bytes = |held: &Held| held.keys.iter().map(|key| key.len()).sum::<usize>();
    section.held.len() + more <= MAX_HELD && section.held.iter().map(bytes).sum::<usize>() <= MAX_HELD_BYTES
}

/// Reserves an ad unless one of its keys is capped; says whether it did. The first of `keys` is the ad's own, and
/// `names` are those of the others. `hash` is that of the event that will confirm it.
pub fn reserve<L: Logs>(
    policy: &Policy,
    logs: &mut L,
    keys: &[L::At],
    names: &[&str],
    (kind, hash): (Kind, u64),
    hold: Hold,
    now: TsMs,
) -> bool {
    if keys.iter().any(|&at| logs.capped_until(at).is_some()) {
        return false;
    }
    for (number, &at) in keys.iter().enumerate() {
        logs.change(at, |log| match hold {
            Hold::ForGood => {
                log.insert(kind, Entry { ts: now, hash }, policy.history_limit());
            }
            Hold::Until(expires_at) => {
                let others = names.iter().filter(|_| number == 0).map(|&name| name.into()).collect();
                log.hold(kind, Held { ts: now, expires_at, hash, keys: others });
            }
        });
    }
    true
}

/// Gives back every reservation of an ad that waits for the event with this hash; says how many there were.
pub fn release<L: Logs>(logs: &mut L, da: L::At, kind: Kind, hash: u64) -> usize {
    let mut released = 0;
    while let Some(held) = logs.log(da).held(kind, hash) {
        let others: Vec<L::At> = held.keys.iter().filter_map(|key| logs.beside(da, key)).collect();
        for at in std::iter::once(da).chain(others) {
            logs.change(at, |log| {
                log.unhold(kind, hash);
            });
        }
        released += 1;
    }
    released
}
