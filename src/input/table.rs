//! Events from the rows of a table whose header names the fields.

use super::body::EventReader;
use super::field_lookup::Found;
use super::parse_event::{Reject, add_key, key_of_level, parse_event};
use super::raw::Raw;
use super::standard_fields::slot;
use crate::model::{Event, Level};

/// The meaning of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Standard(usize),
    Mapped(usize),
    /// Its values are ids of keys of this level.
    Key(Box<str>),
}

/// Why a header does not make a table of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TableError {
    #[error("no column is named {0:?}; there are {1}")]
    NoColumn(String, String),
    #[error("{0:?} cannot be the level of a key: that has the form [a-z][a-z0-9_]{{0,31}} and is not `da`")]
    Level(String),
}

/// Parses rows. Columns have the names of the fields of JSON events, or `ts_ms`. An empty cell counts as absent.
#[derive(Debug)]
pub struct TableReader<'r> {
    reader: &'r EventReader,
    /// The meanings of each column; most have one or none.
    columns: Vec<Vec<Column>>,
}

impl<'r> TableReader<'r> {
    /// `keys` names columns whose values are ids of keys: `campaign` makes `campaign:<value>`.
    pub fn new<'h>(
        reader: &'r EventReader,
        header: impl IntoIterator<Item = &'h str>,
        keys: &[String],
    ) -> Result<Self, TableError> {
        let names: Vec<&str> = header.into_iter().map(|name| name.trim_start_matches('\u{feff}').trim()).collect();
        for key in keys {
            if key == Level::DA || Level::new(key).is_err() {
                return Err(TableError::Level(key.clone()));
            }
            if !names.contains(&key.as_str()) {
                return Err(TableError::NoColumn(key.clone(), names.join(", ")));
            }
        }
        let columns = names.iter().map(|name| purposes(reader, name, keys)).collect();
        Ok(Self { reader, columns })
    }

    /// Whether a column has a meaning.
    pub fn uses(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(|purposes| !purposes.is_empty())
    }

    /// Parses one row.
    pub fn row<'a>(&self, cells: impl IntoIterator<Item = &'a str>) -> Result<Event<'a>, Reject> {
        let mapping = self.reader.mapping.as_deref();
        let mut found = Found::new(mapping);
        let mut keys = Vec::new();
        for (cell, columns) in cells.into_iter().zip(&self.columns) {
            let raw = Some(cell.trim()).filter(|cell| !cell.is_empty()).map(Raw::Cell);
            for column in columns {
                match column {
                    Column::Standard(slot) => found.standard[*slot] = raw,
                    Column::Mapped(target) => found.mapped[*target] = raw,
                    Column::Key(level) => keys.extend(raw.map(|raw| (level, raw))),
                }
            }
        }
        let mut event = parse_event(&found, mapping)?;
        for (level, raw) in keys {
            add_key(&mut event.keys, key_of_level(level, raw)?)?;
        }
        Ok(event)
    }
}

fn purposes(reader: &EventReader, name: &str, keys: &[String]) -> Vec<Column> {
    let mapping = reader.mapping.as_deref();
    let mapped = mapping.into_iter().flat_map(|mapping| mapping.targets_at(name)).map(Column::Mapped);
    let standard = match (name, mapping) {
        // A cell cannot hold a list.
        ("keys", _) => None,
        ("ts_ms", _) => slot(b"ts"),
        (_, Some(mapping)) => mapping.slot(name),
        (_, None) => slot(name.as_bytes()),
    };
    let key = keys.iter().find(|key| *key == name).map(|key| Column::Key(key.as_str().into()));
    mapped.chain(standard.map(Column::Standard)).chain(key).collect()
}
