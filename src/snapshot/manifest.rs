//! A manifest: what a snapshot is made of. It makes the snapshot exist.

use super::chain::ChainAt;
use super::error::SnapshotError;
use super::layout::FORMAT;
use crate::store::{FileKind, FrontierAt};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// A manifest of more is not one of ours.
const JSON_BYTES_MAX: u64 = 256 << 20;

/// The compressed size that is still read.
pub(super) const OBJECT_BYTES_MAX: usize = 64 << 20;

/// A file of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name in the data directory.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size: that of its parts together.
    pub bytes: u64,
    /// The objects that it is made of, one after another.
    pub parts: Vec<Part>,
    /// The hash of its last bytes, which in a table hold RocksDB's unique id: whether a local file of this name is this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
}

/// A whole object, as part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name under the bucket's root.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
}

/// A snapshot: the files of a data directory at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the manifest.
    pub format: u32,
    /// The store that it is of.
    pub store_id: String,
    /// The unit of the store, such as `p-000`.
    pub unit: String,
    /// The number of the snapshot; the highest is the newest.
    pub sequence: u64,
    /// Which writer took it.
    pub epoch: u64,
    /// What no other manifest has.
    pub nonce: String,
    /// When it was begun, in ms since 1970 by the service's clock: it holds all that was acknowledged before.
    pub taken_ms: u64,
    /// RocksDB's sequence.
    pub store_sequence: u64,
    /// The revision of the rules.
    pub rules_revision: u64,
    /// The last believed time of the store, in ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ms: Option<u64>,
    /// Where the writes after it are, if they are shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainAt>,
    /// How far each Kafka partition is.
    #[serde(default)]
    pub kafka: Vec<FrontierAt>,
    /// The files of the data directory.
    pub files: Vec<File>,
    /// By which freqcap.
    pub version: String,
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Manifest {
    /// The size of the data directory.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Every object that it names.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|file| file.parts.iter().map(|part| part.object.as_str()))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, SnapshotError> {
        let json = serde_json::to_vec(self).map_err(|error| SnapshotError::Internal(error.to_string()))?;
        zstd::encode_all(json.as_slice(), 3).map_err(|error| SnapshotError::Internal(error.to_string()))
    }

    /// Reads a manifest, which says itself that it is the one of this name.
    pub(super) fn decode(object: &str, sequence: u64, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
        let mut json = Vec::new();
        let decoder = zstd::Decoder::new(bytes).map_err(|error| damaged(error.to_string()))?;
        decoder.take(JSON_BYTES_MAX + 1).read_to_end(&mut json).map_err(|error| damaged(error.to_string()))?;
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(damaged(format!("it unpacks to more than {JSON_BYTES_MAX} bytes")));
        }
        Self::parse(object, sequence, &json)
    }

    /// Reads a manifest that is unpacked.
    pub(super) fn parse(object: &str, sequence: u64, json: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: String| SnapshotError::Damaged { object: object.to_owned(), what };
        let version: Versioned = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        if version.format > FORMAT {
            return Err(SnapshotError::NewerFormat { object: object.to_owned(), found: version.format });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        manifest.check(sequence).map_err(damaged)?;
        Ok(manifest)
    }

    /// What must hold of every manifest. A name with a path in it could write outside the data directory.
    fn check(&self, sequence: u64) -> Result<(), String> {
        if self.sequence != sequence {
            return Err(format!("it says that it is snapshot {}", self.sequence));
        }
        if let Some(ChainAt { name, from }) = &self.chain
            && (name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || *from == 0)
        {
            return Err(format!("it names a chain {name:?} from segment {from}"));
        }
        for file in &self.files {
            let File { name, bytes, parts, .. } = file;
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if !is_plain || name.is_empty() || name.starts_with('.') {
                return Err(format!("it names a file {name:?}"));
            }
            if parts.iter().map(|part| u128::from(part.bytes)).sum::<u128>() != u128::from(*bytes) {
                return Err(format!("the parts of {name} are not {bytes} bytes"));
            }
            let folder = format!("{}/", self.unit);
            for part in parts {
                if !part.object.starts_with(&folder) || part.object.contains("..") || part.sha256.len() != 64 {
                    return Err(format!("{name} has a part {:?}", part.object));
                }
            }
        }
        if self.files.iter().map(|file| u128::from(file.bytes)).sum::<u128>() > u128::from(u64::MAX >> 1) {
            return Err("its files are larger than any disk".to_owned());
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("it names {} twice", pair[0])),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::snapshot::hash::hash;

    pub fn manifest() -> Manifest {
        let part = Part { object: "p-000/f/0000000001-000009.sst".to_owned(), bytes: 3, sha256: hash(b"abc") };
        let file = File {
            name: "000009.sst".to_owned(),
            kind: FileKind::Table,
            bytes: 3,
            parts: vec![part],
            tail: hash(b"abc"),
        };
        Manifest {
            format: FORMAT,
            store_id: "store".to_owned(),
            unit: "p-000".to_owned(),
            sequence: 7,
            epoch: 1,
            nonce: "nonce".to_owned(),
            taken_ms: 1_700_000_000_000,
            store_sequence: 42,
            rules_revision: 3,
            clock_ms: Some(1_700_000_000_000),
            chain: None,
            kafka: vec![FrontierAt { topic: "events".to_owned(), partition: 0, next: 12 }],
            files: vec![file],
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let manifest = manifest();
        let bytes = manifest.encode().unwrap();
        assert_eq!(Manifest::decode("m", 7, &bytes).unwrap(), manifest);
    }

    /// The form of version 1. Once written it must be read for ever.
    #[test]
    fn the_form_of_version_1_stays() {
        let json = r#"{"format":1,"store_id":"store","unit":"p-000","sequence":7,"epoch":1,"nonce":"nonce","taken_ms":1700000000000,"store_sequence":42,"rules_revision":3,"clock_ms":1700000000000,"kafka":[{"topic":"events","partition":0,"offset":12}],"files":[{"name":"000009.sst","kind":"table","bytes":3,"parts":[{"object":"p-000/f/0000000001-000009.sst","bytes":3,"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}],"tail":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}],"version":"0.1.0"}"#;
        assert_eq!(serde_json::to_string(&manifest()).unwrap(), json);
        assert_eq!(serde_json::from_str::<Manifest>(json).unwrap(), manifest());
    }

    #[test]
    fn what_is_no_manifest_of_ours_is_refused() {
        let bad = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            Manifest::decode("m", 7, &manifest.encode().unwrap()).unwrap_err()
        };
        let newer = bad(&|manifest| manifest.format = 2);
        assert!(matches!(newer, SnapshotError::NewerFormat { found: 2, .. }), "{newer}");
        for error in [
            bad(&|manifest| manifest.sequence = 8),
            bad(&|manifest| manifest.files[0].name = "../passwd".to_owned()),
            bad(&|manifest| manifest.files[0].name = String::new()),
            bad(&|manifest| manifest.files[0].bytes = 4),
            bad(&|manifest| manifest.files[0].parts[0].object = "other/f/1".to_owned()),
            bad(&|manifest| manifest.files.push(manifest.files[0].clone())),
            Manifest::decode("m", 7, b"no zstd").unwrap_err(),
            Manifest::decode("m", 7, &zstd::encode_all(&b"{}"[..], 3).unwrap()).unwrap_err(),
        ] {
            assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
        }
    }
}
