//! Claims an epoch, and decides where it begins: after which snapshot, and after which segment of that snapshot's chain.
//!
//! The chain is sealed: the next segment of it is created, by the new epoch and without a write in it. A segment is created only
//! if absent, so a process that has shipped one knows by that alone that it counts, and one whose chain is sealed cannot ship.

use super::catalog::Catalog;
use super::chain::{ChainAt, Header, OBJECT_BYTES_MAX, decode, encode};
use super::claim::{Begin, CLAIM_FORMAT, Claim};
use super::error::SnapshotError;
use super::layout::FORMAT;
use super::manifest::Manifest;
use super::segments::Segments;
use crate::bucket::Created;
use bytes::Bytes;

/// Segments of a chain that are tried to be sealed at once, at first.
const SEALS_AT_ONCE: u64 = 2;

/// And at most.
const SEALS_AT_ONCE_MAX: u64 = 16;

/// Creates the claim of an epoch; false if somebody else has it.
pub(super) async fn claim(catalog: &Catalog, claim: &Claim) -> Result<bool, SnapshotError> {
    let json = serde_json::to_vec(claim).map_err(|error| SnapshotError::Internal(error.to_string()))?;
    Ok(catalog.bucket.create(&catalog.layout.epoch(claim.epoch), Bytes::from(json)).await? == Created::Ours)
}

/// Says where a claimed epoch begins: after the snapshot `newest`, of a number up to `after`. What an earlier try said stands.
pub(super) async fn begin(
    catalog: &Catalog,
    claim: &Claim,
    after: u64,
    newest: Option<&Manifest>,
) -> Result<(), SnapshotError> {
    let (mut chain, mut last) = (None, 0);
    if let Some((at, epoch)) = newest.and_then(|newest| Some((newest.chain.as_ref()?, newest.epoch))) {
        last = seal(catalog, claim, at, epoch).await?;
        chain = Some(at.name.clone());
    }
    let (epoch, nonce) = (claim.epoch, claim.nonce.clone());
    let begin = Begin { format: CLAIM_FORMAT, epoch, nonce, after: Some(after), chain, last };
    let json = serde_json::to_vec(&begin).map_err(|error| SnapshotError::Internal(error.to_string()))?;
    let object = catalog.layout.begin(epoch);
    match catalog.bucket.create(&object, Bytes::from(json)).await? {
        Created::Ours => Ok(()),
        Created::Theirs(found) if Begin::decode(&object, epoch, &found)?.nonce == claim.nonce => Ok(()),
        Created::Theirs(_) => Err(SnapshotError::Internal(format!("somebody else has epoch {epoch}"))),
    }
}

/// Ends the chain of a snapshot of `epoch`. Returns its last segment that counts.
async fn seal(catalog: &Catalog, claim: &Claim, chain: &ChainAt, epoch: u64) -> Result<u64, SnapshotError> {
    // Should one be missing, a restore says so.
    let mut last = Segments::find(catalog, epoch, chain).await?.last;
    // Several at once, and more each time: whoever ships back to back must not stay ahead.
    let mut width = SEALS_AT_ONCE;
    loop {
        let tries = (last + 1..=last + width).map(|number| seal_one(catalog, claim, chain, number));
        for is_seal in futures_util::future::join_all(tries).await {
            if is_seal? {
                return Ok(last);
            }
            // It was shipped since they were listed.
            last += 1;
        }
        width = (2 * width).min(SEALS_AT_ONCE_MAX);
    }
}

/// Whether this segment is a seal, ours or that of another epoch.
async fn seal_one(catalog: &Catalog, claim: &Claim, chain: &ChainAt, number: u64) -> Result<bool, SnapshotError> {
    let (name, previous, sealed_by) = (chain.name.clone(), String::new(), Some(claim.epoch));
    let header = Header { format: FORMAT, chain: name, number, previous, closed_ms: 0, sealed_by };
    let (bytes, _) = encode(&header, &[])?;
    let object = catalog.layout.segment(&chain.name, number);
    Ok(match catalog.bucket.create_reading(&object, Bytes::from(bytes), OBJECT_BYTES_MAX).await? {
        Created::Ours => true,
        // One that is damaged is no seal; a restore says what is wrong with it.
        Created::Theirs(found) => {
            decode(&object, &chain.name, number, &found).is_ok_and(|segment| segment.header.sealed_by.is_some())
        }
    })
}
