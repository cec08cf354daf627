//! A chain: the writes of one run of a store in segments, numbered from 1 without gaps.
//!
//! A segment is an object that is created only if absent: the SHA-256 of what follows (32 bytes), then, compressed with zstd, the
//! length of a JSON header (u32), the header, and the writes: first sequence (u64), count (u32), length (u32), bytes; all numbers
//! little-endian. The header names the chain, the number, and the hash of the segment before it.

use super::error::SnapshotError;
use super::layout::FORMAT;
use crate::store::TailBatch;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Writes of more than this are another segment.
pub(super) const SEGMENT_BYTES: usize = 8 << 20;

/// A segment that unpacks to more is not one of ours: a single write is at most this large.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;

/// The compressed size that is still read.
pub(super) const OBJECT_BYTES_MAX: usize = 1 << 30;

const HASH_BYTES: usize = 32;

/// Where the writes after a snapshot are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainAt {
    /// The chain: epoch, and what no other chain has.
    pub name: String,
    /// The first segment that may have writes after the snapshot.
    pub from: u64,
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    pub chain: String,
    pub number: u64,
    /// The hash of the segment before it; empty in the first.
    pub previous: String,
    /// When it was closed, in ms since 1970 by the service's clock.
    pub closed_ms: u64,
}

/// A segment that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub header: Header,
    pub hash: String,
    pub batches: Vec<TailBatch>,
}

/// Makes the object of a segment. Returns it and its hash.
pub(super) fn encode(header: &Header, batches: &[TailBatch]) -> Result<(Vec<u8>, String), SnapshotError> {
    let internal = |error: std::io::Error| SnapshotError::Internal(error.to_string());
    let json = serde_json::to_vec(header).map_err(|error| SnapshotError::Internal(error.to_string()))?;
    let mut bytes =
        Vec::with_capacity(batches.iter().map(|batch| batch.bytes.len() + 16).sum::<usize>() + json.len() + 4);
    bytes.extend_from_slice(&length(&json)?);
    bytes.extend_from_slice(&json);
    for batch in batches {
        bytes.extend_from_slice(&batch.first.to_le_bytes());
        bytes.extend_from_slice(&batch.count.to_le_bytes());
        bytes.extend_from_slice(&length(&batch.bytes)?);
        bytes.extend_from_slice(&batch.bytes);
    }
    let packed = zstd::encode_all(bytes.as_slice(), 1).map_err(internal)?;
    let sum = digest(&SHA256, &packed);
    let mut object = sum.as_ref().to_vec();
    object.extend_from_slice(&packed);
    Ok((object, super::hash::hash(&packed)))
}

fn length(bytes: &[u8]) -> Result<[u8; 4], SnapshotError> {
    let length = u32::try_from(bytes.len());
    length.map(u32::to_le_bytes).map_err(|_| SnapshotError::Internal("a write has 4 GiB or more".to_owned()))
}

/// Reads a segment, which must be the one of this chain and number.
pub(super) fn decode(object: &str, chain: &str, number: u64, bytes: &[u8]) -> Result<Segment, SnapshotError> {
    let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
    let Some((sum, packed)) = bytes.split_at_checked(HASH_BYTES) else {
        return Err(damaged("it is cut off".to_owned()));
    };
    if digest(&SHA256, packed).as_ref() != sum {
        return Err(damaged("its SHA-256 is another than it says".to_owned()));
    }
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::new(packed).map_err(|error| damaged(error.to_string()))?;
    decoder.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut unpacked).map_err(|error| damaged(error.to_string()))?;
    if unpacked.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(damaged(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes")));
    }
    let (header, batches) = parse(&unpacked).ok_or_else(|| damaged("its writes are cut off".to_owned()))?;
    if header.format > FORMAT {
        return Err(SnapshotError::NewerFormat { object: object.to_owned(), found: header.format });
    }
    if header.chain != chain || header.number != number {
        return Err(damaged(format!("it says that it is segment {} of chain {}", header.number, header.chain)));
    }
    Ok(Segment { header, hash: super::hash::hash(packed), batches })
}

fn parse(bytes: &[u8]) -> Option<(Header, Vec<TailBatch>)> {
    let (json, mut rest) = take_bytes(bytes)?;
    let header = serde_json::from_slice(json).ok()?;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (first, after) = rest.split_first_chunk()?;
        let (count, after) = after.split_first_chunk()?;
        let (bytes, after) = take_bytes(after)?;
        let (first, count) = (u64::from_le_bytes(*first), u32::from_le_bytes(*count));
        batches.push(TailBatch { first, count, bytes: bytes.to_vec() });
        rest = after;
    }
    Some((header, batches))
}

fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_comes_back_and_none_that_was_changed_or_cut() {
        let header = Header {
            format: FORMAT,
            chain: "0000000001-a".to_owned(),
            number: 3,
            previous: "p".to_owned(),
            closed_ms: 7,
        };
        let batches = vec![
            TailBatch { first: 5, count: 2, bytes: vec![1, 2, 3] },
            TailBatch { first: 7, count: 1, bytes: Vec::new() },
        ];
        let (object, hash) = encode(&header, &batches).unwrap();
        let read = decode("s", "0000000001-a", 3, &object).unwrap();
        assert_eq!(read, Segment { header, hash, batches });
        for (chain, number) in [("0000000001-b", 3), ("0000000001-a", 4)] {
            assert_eq!(decode("s", chain, number, &object).unwrap_err().code(), "snapshot_damaged");
        }
        for at in 0..object.len() {
            let mut changed = object.clone();
            changed[at] ^= 1;
            assert!(decode("s", "0000000001-a", 3, &changed).is_err(), "byte {at}");
            assert!(decode("s", "0000000001-a", 3, &object[..at]).is_err(), "cut at {at}");
        }
    }
}
