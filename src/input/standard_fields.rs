//! The standard names of an event's fields.

/// The names of an event's fields, in the order in which fields are validated: for each field its canonical name, then
/// its aliases. The index of a name is its slot.
pub(super) const STANDARD: [&str; 14] = [
    "user",
    "user_no",
    "user_id", // user
    "da",
    "da_id",
    "ad_id", // da
    "ts",
    "logTime",
    "log_time",
    "timestamp", // ts
    "id",
    "event_id", // id
    "kind",
    "keys",
];

pub(super) const USER: std::ops::Range<usize> = 0..3;
pub(super) const DA: std::ops::Range<usize> = 3..6;
pub(super) const TS: std::ops::Range<usize> = 6..10;
pub(super) const ID: std::ops::Range<usize> = 10..12;
pub(super) const KIND: usize = 12;
pub(super) const KEYS: usize = 13;

/// The slot of a standard name. A match on bytes compiles to a jump by length and one comparison.
pub(super) fn slot(name: &[u8]) -> Option<usize> {
    Some(match name {
        b"user" => 0,
        b"user_no" => 1,
        b"user_id" => 2,
        b"da" => 3,
        b"da_id" => 4,
        b"ad_id" => 5,
        b"ts" => 6,
        b"logTime" => 7,
        b"log_time" => 8,
        b"timestamp" => 9,
        b"id" => 10,
        b"event_id" => 11,
        b"kind" => KIND,
        b"keys" => KEYS,
        _ => return None,
    })
}
