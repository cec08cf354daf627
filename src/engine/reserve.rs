//! Reservations: checked and counted in one step, held until an event confirms them, they lapse or are released.

use super::{Logs, Policy};
use crate::model::{Entry, Kind, MAX_RESERVATION_BYTES, MAX_RESERVATIONS, Reservation, TsMs};

/// Until when a reservation counts that nobody confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationTerm {
    /// Until this instant.
    Until(TsMs),
    /// It is an event from the start.
    ForGood,
}

/// Whether a log has room for so many more reservations, with keys of so many bytes ([`Reservation::key_bytes`]). Where it has
/// not, none may be made: a log that forgot one would let an ad through that is at its cap.
pub fn has_room<L: Logs>(logs: &L, at: L::At, more: usize, more_bytes: usize) -> bool {
    let (mut count, mut bytes) = (more, more_bytes);
    for reservation in logs.log(at).sections.iter().flat_map(|section| &section.reservations) {
        count += 1;
        bytes += Reservation::key_bytes(reservation.keys.iter().map(AsRef::as_ref));
    }
    count <= MAX_RESERVATIONS && bytes <= MAX_RESERVATION_BYTES
}

/// Whether the event that would confirm a reservation of an ad is counted already, as things are: then it can neither be
/// reserved nor counted once more. To be asked before a call reserves anything, for a call that names an ad twice
/// reserves it twice.
pub fn is_counted<L: Logs>(policy: &Policy, logs: &L, da: L::At, (kind, hash): (Kind, u64), now: TsMs) -> bool {
    logs.log(da).seen(kind, hash, now, policy.duplicate_window_ms()).is_some()
}

/// Reserves an ad unless one of its keys is capped; says whether it did. The first of `keys` is the ad's own, and
/// `names` are those of the others. `hash` is that of the event that will confirm it.
pub fn reserve<L: Logs>(
    policy: &Policy,
    logs: &mut L,
    keys: &[L::At],
    names: &[&str],
    (kind, hash): (Kind, u64),
    term: ReservationTerm,
    now: TsMs,
) -> bool {
    if keys.iter().any(|&at| logs.capped_until(at).is_some()) {
        return false;
    }
    for (number, &at) in keys.iter().enumerate() {
        logs.change(at, |log| match term {
            ReservationTerm::ForGood => {
                log.insert(kind, Entry { ts: now, hash }, policy.history_limit());
            }
            ReservationTerm::Until(expires_at) => {
                let others = names.iter().filter(|_| number == 0).map(|&name| name.into()).collect();
                log.add_reservation(kind, Reservation { ts: now, expires_at, hash, keys: others });
            }
        });
    }
    true
}

/// Gives back every reservation of an ad that waits for the event with this hash; says how many there were.
pub fn release<L: Logs>(logs: &mut L, da: L::At, kind: Kind, hash: u64) -> usize {
    let mut released = 0;
    while let Some(held) = logs.log(da).reservation(kind, hash) {
        let others: Vec<L::At> = held.keys.iter().filter_map(|key| logs.sibling(da, key)).collect();
        for at in std::iter::once(da).chain(others) {
            logs.change(at, |log| {
                log.remove_reservation(kind, hash);
            });
        }
        released += 1;
    }
    released
}
