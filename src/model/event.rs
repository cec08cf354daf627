//! An event: somebody saw (clicked, bought through) an ad.

use super::{CapKey, DaId, EventId, Kind, TsMs, UserId};
use smallvec::SmallVec;

/// The most keys an event or a question may name besides its ad.
pub const MAX_KEYS: usize = 16;

/// An event whose every part is valid by itself; whether its time is too far ahead is judged by who has the clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// Who saw the ad.
    pub user: UserId<'a>,
    /// The ad.
    pub da: DaId<'a>,
    /// The log time; `None` is "now".
    pub ts: Option<TsMs>,
    /// Tells retries apart from other events.
    pub id: Option<EventId<'a>>,
    /// What the user did.
    pub kind: Kind,
    /// Keys besides `da:<da>`: at most [`MAX_KEYS`], each once.
    pub keys: SmallVec<[CapKey<'a>; 2]>,
}

impl Event<'_> {
    /// [`event_hash`] of an event with an id; 0, which stands for "no id", of one without.
    pub fn hash(&self) -> u64 {
        self.id.as_ref().map_or(0, |id| event_hash(&self.da, id))
    }
}

/// An ad that may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<'a> {
    /// The ad.
    pub da: DaId<'a>,
    /// Keys besides `da:<da>`: at most [`MAX_KEYS`], each once, in the order in which they were named.
    pub keys: SmallVec<[CapKey<'a>; 2]>,
    /// Whether the keys that the catalogue has of the ad belong to it, too.
    pub catalogue: bool,
}

impl Candidate<'_> {
    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> Candidate<'static> {
        let keys = self.keys.into_iter().map(CapKey::into_owned).collect();
        Candidate { da: self.da.into_owned(), keys, catalogue: self.catalogue }
    }
}

/// The 64-bit hash that logs keep of an event with an id, and of a reservation: XXH3 of the ad, a zero byte and the id.
/// The ad is in it so that two ads of one campaign with the same event id never look alike in the campaign's log. Never
/// 0. Part of the format on disk.
pub fn event_hash(da: &DaId<'_>, id: &EventId<'_>) -> u64 {
    let (da, id) = (da.as_str().as_bytes(), id.as_str().as_bytes());
    let mut bytes: SmallVec<[u8; 128]> = SmallVec::with_capacity(da.len() + 1 + id.len());
    bytes.extend_from_slice(da);
    bytes.push(0);
    bytes.extend_from_slice(id);
    xxhash_rust::xxh3::xxh3_64(&bytes).max(1)
}
