//! The commands of the log, and their values in JSON.
//!
//! A member that is not known makes a command malformed: whoever adds one writes a newer version.

use super::record_error::RecordError;
use crate::input::FieldsConfig;
use crate::model::{Candidate, CapKey, DaId, EventId, Kind, UserId};
use crate::shard::Reserve;
use crate::store::ChangedBy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is to be done in a partition, once it is applied.
#[derive(Debug, Clone)]
pub enum Command {
    /// The sender takes the partition over.
    Claim(Claim),
    /// The sender gives it up: it answers nothing more, and what it owned before had been released or had waited.
    Release,
    /// A call of `/reserve`.
    Reserve(Reserve<'static>),
    /// A call of `/release`.
    ReleaseReservation(ReleaseReservation),
    /// Erases a user.
    Erase(EraseUser),
    /// Brings rules and settings into force.
    Policy(Policy),
}

/// Who takes a partition over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The node's name.
    pub node: String,
    /// Where others forward calls to.
    pub url: String,
}

/// Gives back what is reserved under an id.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseReservation {
    /// The user.
    pub user: UserId<'static>,
    /// The id of the call of `/reserve`.
    pub id: EventId<'static>,
    /// Only of this ad.
    pub da: Option<DaId<'static>>,
}

/// Erases a user.
#[derive(Debug, Clone, PartialEq)]
pub struct EraseUser {
    /// The user.
    pub user: UserId<'static>,
    /// For the audit.
    pub by: ChangedBy,
}

/// All that decides what a record does besides the state: whoever replays the log decides alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Higher than every revision before.
    pub revision: u64,
    /// The version of the engine's decisions.
    pub engine: u32,
    /// The settings that shape state.
    pub settings: PolicySettings,
    /// All rules in force, as the API writes them.
    pub rules: Vec<Value>,
}

/// The settings that shape state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySettings {
    /// Events of one kind that a log keeps.
    pub history_limit: usize,
    /// How long a log is kept after its newest event, in ms.
    pub retention_ms: u64,
    /// The same where a lifetime rule applies, in ms.
    pub lifetime_retention_ms: u64,
    /// How far ahead of the record's time an event may be, in ms.
    pub max_skew_ms: u64,
    /// Kinds that a log holds at most.
    pub max_kinds: usize,
    /// How far apart two events with one id may lie and still be one, in ms.
    pub duplicate_window_ms: u64,
    /// Users that mean nobody, as the setting is written.
    pub nobody: String,
    /// Where the fields of events are.
    #[serde(default, skip_serializing_if = "is_standard")]
    pub fields: FieldsConfig,
}

fn is_standard(fields: &FieldsConfig) -> bool {
    *fields == FieldsConfig::default()
}

impl PartialEq for Command {
    /// Two commands are the same if they are written the same.
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_json() == other.to_json()
    }
}

impl Command {
    /// Its name in the header.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Release => "release",
            Self::Reserve(_) => "reserve",
            Self::ReleaseReservation(_) => "release-call",
            Self::Erase(_) => "erase",
            Self::Policy(_) => "policy",
        }
    }

    /// The user that it is of.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Reserve(call) => Some(call.user.as_str()),
            Self::ReleaseReservation(call) => Some(call.user.as_str()),
            Self::Erase(call) => Some(call.user.as_str()),
            Self::Claim(_) | Self::Release | Self::Policy(_) => None,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Self::Claim(claim) => serde_json::to_vec(claim),
            Self::Release => serde_json::to_vec(&Nothing {}),
            Self::Reserve(call) => serde_json::to_vec(&ReserveBody::of(call)),
            Self::ReleaseReservation(call) => serde_json::to_vec(&ReleaseBody::of(call)),
            Self::Erase(call) => serde_json::to_vec(&EraseBody::of(call)),
            Self::Policy(policy) => serde_json::to_vec(policy),
        };
        // Serializing plain structs to memory cannot fail.
        json.unwrap_or_default()
    }

    pub(super) fn from_json(kind: &str, json: &[u8]) -> Result<Self, RecordError> {
        Ok(match kind {
            "claim" => Self::Claim(parse(json)?),
            "release" => {
                let Nothing {} = parse(json)?;
                Self::Release
            }
            "reserve" => Self::Reserve(parse::<ReserveBody>(json)?.into_call()?),
            "release-call" => Self::ReleaseReservation(parse::<ReleaseBody>(json)?.into_call()?),
            "erase" => Self::Erase(parse::<EraseBody>(json)?.into_call()?),
            "policy" => Self::Policy(parse(json)?),
            _ => return Err(RecordError::malformed("its kind is not known")),
        })
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, RecordError> {
    // An array would be taken for an object's members in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(RecordError::malformed("its value is not an object"));
    }
    serde_json::from_slice(json).map_err(RecordError::malformed)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReserveBody {
    user: String,
    candidates: Vec<CandidateBody>,
    want: usize,
    ttl_ms: Option<u64>,
    id: String,
    /// 32 hex digits.
    body_hash: Option<String>,
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateBody {
    da: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

impl ReserveBody {
    fn of(call: &Reserve<'_>) -> Self {
        let candidate = |candidate: &Candidate<'_>| CandidateBody {
            da: candidate.da.as_str().to_owned(),
            keys: candidate.keys.iter().map(|key| key.as_str().to_owned()).collect(),
        };
        Self {
            user: call.user.as_str().to_owned(),
            candidates: call.candidates.iter().map(candidate).collect(),
            want: call.want,
            ttl_ms: call.ttl_ms,
            id: call.id.as_str().to_owned(),
            body_hash: call.body_hash.map(|hash| format!("{hash:032x}")),
            kind: call.kind.as_str().to_owned(),
        }
    }

    fn into_call(self) -> Result<Reserve<'static>, RecordError> {
        let body_hash = match self.body_hash {
            None => None,
            Some(text) => {
                let hash = u128::from_str_radix(&text, 16).map_err(RecordError::malformed)?;
                if format!("{hash:032x}") != text {
                    return Err(RecordError::malformed("a hash is 32 hex digits"));
                }
                Some(hash)
            }
        };
        Ok(Reserve {
            user: UserId::new(self.user).map_err(RecordError::malformed)?,
            candidates: self.candidates.into_iter().map(CandidateBody::into_candidate).collect::<Result<_, _>>()?,
            want: self.want,
            ttl_ms: self.ttl_ms,
            id: EventId::new(self.id).map_err(RecordError::malformed)?,
            body_hash,
            kind: Kind::new(&self.kind).map_err(RecordError::malformed)?,
        })
    }
}

impl CandidateBody {
    fn into_candidate(self) -> Result<Candidate<'static>, RecordError> {
        let keys = self.keys.into_iter().map(|key| CapKey::extra(key).map_err(RecordError::malformed));
        Ok(Candidate { da: DaId::new(self.da).map_err(RecordError::malformed)?, keys: keys.collect::<Result<_, _>>()? })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    user: String,
    id: String,
    da: Option<String>,
}

impl ReleaseBody {
    fn of(call: &ReleaseReservation) -> Self {
        Self {
            user: call.user.as_str().to_owned(),
            id: call.id.as_str().to_owned(),
            da: call.da.as_ref().map(|da| da.as_str().to_owned()),
        }
    }

    fn into_call(self) -> Result<ReleaseReservation, RecordError> {
        Ok(ReleaseReservation {
            user: UserId::new(self.user).map_err(RecordError::malformed)?,
            id: EventId::new(self.id).map_err(RecordError::malformed)?,
            da: self.da.map(DaId::new).transpose().map_err(RecordError::malformed)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EraseBody {
    user: String,
    key: Option<String>,
    call: String,
}

impl EraseBody {
    fn of(call: &EraseUser) -> Self {
        let ChangedBy { key, call: by } = call.by.clone();
        Self { user: call.user.as_str().to_owned(), key, call: by }
    }

    fn into_call(self) -> Result<EraseUser, RecordError> {
        let by = ChangedBy { key: self.key, call: self.call };
        Ok(EraseUser { user: UserId::new(self.user).map_err(RecordError::malformed)?, by })
    }
}
