//! The `[fields]` of the configuration as a tree of names, ready for looking fields up.

use super::fields::{FieldsConfig, FieldsError, PATH_MAX, TsUnit};
use super::standard_fields;
use crate::model::Level;

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
        mapping.user = mapping.target("user", fields.user.as_deref(), standard_fields::USER)?;
        mapping.da = mapping.target("da", fields.da.as_deref(), standard_fields::DA)?;
        mapping.ts = mapping.target("ts", fields.ts.as_deref(), standard_fields::TS)?;
        mapping.id = mapping.target("id", fields.id.as_deref(), standard_fields::ID)?;
        mapping.kind =
            mapping.target("kind", fields.kind.as_deref(), standard_fields::KIND..standard_fields::KIND + 1)?;
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
        let slot = standard_fields::slot(name.as_bytes())?;
        let claimed = self.targets_at(name).any(|target| !self.targets[target].slots.contains(&slot));
        (!claimed).then_some(slot)
    }
}
