//! Who owns a partition, as its owner tells the others: the metadata of the offset that it commits.

use super::epoch::{Epoch, RunId};
use serde::{Deserialize, Serialize};

/// The longest metadata that brokers take by default, in bytes.
pub const OWNER_MAX: usize = 4_096;
/// The longest url and name of a node, in bytes.
pub const NODE_TEXT_MAX: usize = 1_024;
/// The version that is written.
const VERSION: u32 = 1;

/// How far an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerState {
    /// It restores the partition, or waits for the owner before.
    Starting,
    /// It answers.
    Serving,
    /// It hands the partition over.
    Leaving,
}

/// What an owner tells of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The version of these members.
    pub v: u32,
    /// The node's name.
    pub node: String,
    /// Where calls are forwarded to.
    pub url: String,
    /// The run of the node's process.
    #[serde(with = "run_text")]
    pub run: RunId,
    /// The epoch under which it serves.
    #[serde(with = "epoch_number", skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<Epoch>,
    /// The revision of the policy that it applies.
    pub policy: u64,
    /// How far it is.
    pub state: OwnerState,
    /// Rises with every commit: who is gone commits no more.
    pub beat: u64,
}

impl Owner {
    /// An owner that is starting.
    pub fn starting(node: &str, url: &str, run: RunId) -> Self {
        let (node, url) = (node.to_owned(), url.to_owned());
        Self { v: VERSION, node, url, run, epoch: None, policy: 0, state: OwnerState::Starting, beat: 0 }
    }

    /// The metadata: JSON of at most [`OWNER_MAX`] bytes, since name and url have at most [`NODE_TEXT_MAX`].
    pub fn to_metadata(&self) -> String {
        // Serializing a plain struct to memory cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads metadata. `None` where it is none of ours, or of a version whose members mean something else: such an owner is
    /// one that nobody can be forwarded to. Members of later versions are passed over.
    pub fn from_metadata(text: &str) -> Option<Self> {
        let owner: Self = (text.len() <= OWNER_MAX).then(|| serde_json::from_str(text).ok())??;
        (owner.v == VERSION && owner.node.len() <= NODE_TEXT_MAX && owner.url.len() <= NODE_TEXT_MAX).then_some(owner)
    }
}

/// What a fuzzer asserts of any metadata: what is read is written so that it is read again.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(owner) = str::from_utf8(bytes).ok().and_then(Owner::from_metadata) else { return };
    let written = owner.to_metadata();
    assert!(written.len() > OWNER_MAX || Owner::from_metadata(&written) == Some(owner));
}

mod run_text {
    use super::super::epoch::RunId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(run: &RunId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(run)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RunId, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map(RunId).map_err(de::Error::custom)
    }
}

mod epoch_number {
    use super::super::epoch::Epoch;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(epoch: &Option<Epoch>, to: S) -> Result<S::Ok, S::Error> {
        epoch.map(|epoch| epoch.0).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Epoch>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_is_pinned_and_read_back() {
        let starting = Owner::starting("a", "http://a:8080", RunId(255));
        let text = r#"{"v":1,"node":"a","url":"http://a:8080","run":"00000000000000ff","policy":0,"state":"starting","beat":0}"#;
        assert_eq!(starting.to_metadata(), text);
        let serving =
            Owner { epoch: Some(Epoch(7)), policy: 3, state: OwnerState::Serving, beat: 9, ..starting.clone() };
        for owner in [starting, serving] {
            assert_eq!(Owner::from_metadata(&owner.to_metadata()), Some(owner));
        }
    }

    #[test]
    fn the_longest_name_and_url_fit() {
        let long = "\u{1}".repeat(NODE_TEXT_MAX / 4);
        let owner = Owner::starting(&long, &"u".repeat(NODE_TEXT_MAX), RunId(u64::MAX));
        let owner = Owner { epoch: Some(Epoch(u64::MAX)), policy: u64::MAX, beat: u64::MAX, ..owner };
        assert!(owner.to_metadata().len() <= OWNER_MAX, "{}", owner.to_metadata().len());
    }

    #[test]
    fn what_another_wrote_is_no_owner() {
        for text in [
            "",
            "lag-tool",
            r#"{"v":2,"node":"a","url":"u","run":"0","policy":0,"state":"serving","beat":0}"#,
            r#"{"v":1,"node":"a","url":"u","run":"x","policy":0,"state":"serving","beat":0}"#,
            r#"{"v":1,"node":"a","url":"u","run":"0","policy":0,"state":"asleep","beat":0}"#,
        ] {
            assert_eq!(Owner::from_metadata(text), None, "{text}");
        }
        let more = r#"{"v":1,"node":"a","url":"u","run":"0","policy":0,"state":"serving","beat":0,"zone":"b"}"#;
        assert!(Owner::from_metadata(more).is_some());
        let long = format!("{}{}", more, " ".repeat(OWNER_MAX));
        assert_eq!(Owner::from_metadata(&long), None);
    }
}
