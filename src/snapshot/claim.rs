//! Who began an epoch, and where: what an older epoch writes behind that is void.
//!
//! An epoch is claimed first and says where it begins afterwards, by what is listed then. So whatever an older process wrote and
//! then found no newer claim beside is part of the history: no window is left between a listing and a claim.

use super::error::SnapshotError;
use super::layout::FORMAT;
use serde::{Deserialize, Serialize};

/// The version of claims and beginnings. In version 1 the claim said where it begins, by a listing from before it.
pub(super) const CLAIM_FORMAT: u32 = 2;

/// Who has an epoch. Created only if absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub format: u32,
    pub epoch: u64,
    pub nonce: String,
    /// For people: host and process.
    pub holder: String,
    /// Version 1: as in [`Begin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Where a claimed epoch begins. Created only if absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub format: u32,
    pub epoch: u64,
    pub nonce: String,
    /// The number of the newest snapshot, 0 where there was none; version 1 has it in the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// The chain of that snapshot, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The last segment of the chain that counts.
    #[serde(default)]
    pub last: u64,
}

/// A snapshot of an epoch before `epoch` and of a number above `after` is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    pub epoch: u64,
    pub after: u64,
}

impl Claim {
    pub(super) fn decode(object: &str, epoch: u64, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
        let claim: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        check(object, claim.format, claim.epoch, epoch)?;
        Ok(claim)
    }

    pub(super) fn bound(&self) -> Option<Bound> {
        Some(Bound { epoch: self.epoch, after: self.after? })
    }
}

impl Begin {
    pub(super) fn decode(object: &str, epoch: u64, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
        let begin: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        check(object, begin.format, begin.epoch, epoch)?;
        Ok(begin)
    }

    pub(super) fn bound(&self) -> Option<Bound> {
        Some(Bound { epoch: self.epoch, after: self.after? })
    }
}

fn check(object: &str, format: u32, found: u64, epoch: u64) -> Result<(), SnapshotError> {
    if format > CLAIM_FORMAT.max(FORMAT) {
        return Err(SnapshotError::NewerFormat { object: object.to_owned(), found: format });
    }
    if found == epoch {
        return Ok(());
    }
    Err(SnapshotError::Damaged { object: object.to_owned(), what: format!("it says that it is of epoch {found}") })
}

/// Whether a later epoch began after an earlier snapshot than this one.
pub(super) fn is_void(epoch: u64, sequence: u64, bounds: &[Bound]) -> bool {
    bounds.iter().any(|bound| bound.epoch > epoch && sequence > bound.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_epoch_writes_after_a_newer_began_is_void() {
        let bound = |epoch, after| Bound { epoch, after };
        let bounds = [bound(1, 0), bound(2, 10), bound(4, 20)];
        for (epoch, sequence, void) in [
            (1, 10, false),
            (1, 11, true),
            (2, 11, false),
            (2, 20, false),
            (2, 21, true),
            (3, 21, true),
            (4, 21, false),
        ] {
            assert_eq!(is_void(epoch, sequence, &bounds), void, "epoch {epoch}, snapshot {sequence}");
        }
    }

    /// The forms of both versions. Once written they must be read for ever.
    #[test]
    fn claims_and_beginnings_of_both_versions_are_read() {
        let claim = br#"{"format":1,"epoch":3,"nonce":"n","holder":"h","after":7}"#;
        assert_eq!(Claim::decode("c", 3, claim).unwrap().bound(), Some(Bound { epoch: 3, after: 7 }));
        let begin = br#"{"format":1,"epoch":3,"nonce":"n","chain":"c","last":9}"#;
        let begin = Begin::decode("b", 3, begin).unwrap();
        assert_eq!((begin.bound(), begin.chain.as_deref(), begin.last), (None, Some("c"), 9));
        let claim = br#"{"format":2,"epoch":3,"nonce":"n","holder":"h"}"#;
        assert_eq!(Claim::decode("c", 3, claim).unwrap().bound(), None);
        let begin = br#"{"format":2,"epoch":3,"nonce":"n","after":7,"chain":"c","last":9}"#;
        assert_eq!(Begin::decode("b", 3, begin).unwrap().bound(), Some(Bound { epoch: 3, after: 7 }));
        let begin = br#"{"format":2,"epoch":3,"nonce":"n","after":0,"last":0}"#;
        assert_eq!(Begin::decode("b", 3, begin).unwrap().chain, None);
        assert_eq!(Begin::decode("b", 4, begin).unwrap_err().code(), "snapshot_damaged");
        let newer = br#"{"format":3,"epoch":3,"nonce":"n","holder":"h"}"#;
        assert_eq!(Claim::decode("c", 3, newer).unwrap_err().code(), "snapshot_newer_format");
    }
}
