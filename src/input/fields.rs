//! The `[fields]` of the configuration: payloads with other names than the standard ones.

use super::field_lookup;
use crate::model::{Level, Zone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where in a payload the fields of an event are: dotted paths into JSON objects, or names of columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldsConfig {
    pub user: Option<String>,
    pub da: Option<String>,
    pub ts: Option<String>,
    pub id: Option<String>,
    pub kind: Option<String>,
    /// By level: the value there makes the key `<level>:<value>`.
    pub keys: BTreeMap<String, String>,
    /// Where a change-data record says that its row was deleted: `d`, `true` or true is there (`payload.op`, `__deleted`).
    pub deleted: Option<String>,
    /// What the values of a topic have before the JSON.
    pub framing: Framing,
    /// Bytes before the JSON of a topic's values that are passed over unseen, instead of a framing.
    pub skip_bytes: u16,
    /// How the time is written where `ts` leads, or, without `ts`, under the standard names.
    pub ts_unit: TsUnit,
}

/// What the values of a topic have before the JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    #[default]
    None,
    /// A zero byte and the four bytes of a schema's id, as serialisers that know a schema registry write them.
    Confluent,
}

/// How a time is written. Numbers may stand in quotes, and RFC 3339 text is understood in every unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum TsUnit {
    /// Integer of milliseconds since 1970.
    #[default]
    Ms,
    /// Integer or decimal of seconds since 1970.
    S,
    /// Integer of microseconds since 1970.
    Us,
    /// Integer of nanoseconds since 1970.
    Ns,
    /// Text of a date and a time of day with its offset; a number is milliseconds.
    Text,
    /// Text without an offset is in this zone (`2024-11-22 10:00:00.123`).
    Civil(Zone),
}

/// Why `[fields]` make no mapping; the text begins with the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error("fields.{field}: {path:?} is no dotted path of at most {PATH_MAX} names (such as payload.user.id)")]
    Path { field: String, path: String },
    #[error("fields.skip_bytes: fields.framing says already what comes before the JSON")]
    TwoFramings,
    #[error("fields.keys.{0}: a level has the form [a-z][a-z0-9_]{{0,31}}, and `da` is the ad itself")]
    Level(String),
}

/// Paths are walked by recursion.
const PATH_MAX: usize = 16;

impl fmt::Display for TsUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TsUnit::Ms => f.write_str("ms"),
            TsUnit::S => f.write_str("s"),
            TsUnit::Us => f.write_str("us"),
            TsUnit::Ns => f.write_str("ns"),
            TsUnit::Text => f.write_str("text"),
            TsUnit::Civil(zone) => write!(f, "text:{}", zone.name()),
        }
    }
}

impl Serialize for TsUnit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TsUnit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.strip_prefix("text:")) {
            ("ms", _) => Ok(Self::Ms),
            ("s", _) => Ok(Self::S),
            ("us", _) => Ok(Self::Us),
            ("ns", _) => Ok(Self::Ns),
            ("text", _) => Ok(Self::Text),
            (_, Some(zone)) => Zone::new(zone).map(Self::Civil).map_err(D::Error::custom),
            _ => Err(D::Error::custom(format!(
                "{text:?} is none of \"ms\", \"s\", \"us\", \"ns\", \"text\" (RFC 3339) and \"text:<IANA time zone>\""
            ))),
        }
    }
}

/// The `[fields]`, checked and laid out for reading.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    /// The paths as a tree of names.
    pub root: Node,
    /// What each target is, by its index.
    targets: Vec<Target>,
    pub user: Option<usize>,
    pub da: Option<usize>,
    pub ts: Option<usize>,
    pub id: Option<usize>,
    pub kind: Option<usize>,
    pub deleted: Option<usize>,
    /// Level and target.
    pub keys: Vec<(Box<str>, usize)>,
    pub ts_unit: TsUnit,
}

#[derive(Debug, Clone)]
struct Target {
    path: Box<str>,
    /// The standard slots that mean the same; a name mapped to one field no longer stands for another.
    slots: std::ops::Range<usize>,
}

/// One name of a path: what it is the end of, and what comes after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub targets: Vec<usize>,
    pub children: Vec<(Box<str>, Node)>,
}

impl Node {
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|(own, _)| **own == *name).map(|(_, child)| child)
    }

    pub fn each_target(&self, target: &mut dyn FnMut(usize)) {
        self.targets.iter().for_each(|&own| target(own));
        self.children.iter().for_each(|(_, child)| child.each_target(target));
    }

    fn reach(&mut self, name: &str) -> &mut Node {
        let at = self.children.iter().position(|(own, _)| **own == *name).unwrap_or_else(|| {
            self.children.push((name.into(), Node::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }
}

impl Mapping {
    /// `None` where the standard names and units are all there is.
    pub fn new(fields: &FieldsConfig) -> Result<Option<Self>, FieldsError> {
        if *fields == FieldsConfig::default() {
            return Ok(None);
        }
        let mut mapping = Self {
            root: Node::default(),
            targets: Vec::new(),
            user: None,
            da: None,
            ts: None,
            id: None,
            kind: None,
            deleted: None,
            keys: Vec::new(),
            ts_unit: fields.ts_unit.clone(),
        };
        mapping.user = mapping.target("user", fields.user.as_deref(), field_lookup::USER)?;
        mapping.da = mapping.target("da", fields.da.as_deref(), field_lookup::DA)?;
        mapping.ts = mapping.target("ts", fields.ts.as_deref(), field_lookup::TS)?;
        mapping.id = mapping.target("id", fields.id.as_deref(), field_lookup::ID)?;
        mapping.kind = mapping.target("kind", fields.kind.as_deref(), field_lookup::KIND..field_lookup::KIND + 1)?;
        mapping.deleted = mapping.target("deleted", fields.deleted.as_deref(), 0..0)?;
        for (level, path) in &fields.keys {
            if level == Level::DA || Level::new(level).is_err() {
                return Err(FieldsError::Level(level.clone()));
            }
            if let Some(target) = mapping.target(&format!("keys.{level}"), Some(path), 0..0)? {
                mapping.keys.push((level.as_str().into(), target));
            }
        }
        Ok(Some(mapping))
    }

    fn target(
        &mut self,
        field: &str,
        path: Option<&str>,
        slots: std::ops::Range<usize>,
    ) -> Result<Option<usize>, FieldsError> {
        let Some(path) = path else { return Ok(None) };
        let names = path.split('.');
        if names.clone().any(str::is_empty) || names.clone().count() > PATH_MAX {
            return Err(FieldsError::Path { field: field.to_owned(), path: path.to_owned() });
        }
        let target = self.targets.len();
        self.targets.push(Target { path: path.into(), slots });
        names.fold(&mut self.root, |node, name| node.reach(name)).targets.push(target);
        Ok(Some(target))
    }

    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// The targets whose whole path is `name`: how the columns of a table are found.
    pub fn targets_at(&self, name: &str) -> impl Iterator<Item = usize> {
        self.targets.iter().enumerate().filter(move |(_, target)| *target.path == *name).map(|(at, _)| at)
    }

    /// The standard slot of a name, unless the mapping gives the name another meaning.
    pub fn slot(&self, name: &str) -> Option<usize> {
        let slot = field_lookup::slot(name.as_bytes())?;
        let claimed = self.targets_at(name).any(|target| !self.targets[target].slots.contains(&slot));
        (!claimed).then_some(slot)
    }
}
