//! A place taken in advance: a reservation as the logs have it.

use super::TsMs;

/// The most reservations that one log holds, of all kinds: each makes the row longer, and all lapse within an hour.
pub const MAX_RESERVATIONS: usize = 4_096;
/// The most bytes of keys reserved along that one log holds.
pub const MAX_RESERVATION_BYTES: usize = 40 << 10;

/// A reservation: counts from the moment it was made until `expires_at`, unless an event confirms it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// When it was made.
    pub ts: TsMs,
    /// From here on it is as if it had never been.
    pub expires_at: TsMs,
    /// [`super::Event::hash`] of the event that confirms it; never 0.
    pub hash: u64,
    /// In the log of the ad: the other keys that were reserved with it. Empty in theirs.
    pub keys: Box<[Box<str>]>,
}

impl Reservation {
    /// The bytes that keys reserved along take in a row, with their lengths.
    pub fn key_bytes<'k>(keys: impl Iterator<Item = &'k str>) -> usize {
        keys.map(|key| 2 + key.len()).sum()
    }
}
