//! Finds an event's fields among the members of an object.

use super::fast_json;
use super::json::{members, members_by_library};
use super::mapping::{Mapping, Node};
use super::raw::{NotJson, Raw};
use super::standard_fields::{STANDARD, slot};

/// The values found under known names. Null counts as absent.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// By the index in [`STANDARD`].
    pub standard: [Option<Raw<'a>>; STANDARD.len()],
    /// By the index of the target in the mapping.
    pub mapped: Vec<Option<Raw<'a>>>,
}

impl<'a> Found<'a> {
    #[inline]
    pub fn new(mapping: Option<&Mapping>) -> Self {
        let mapped = mapping.map_or_else(Vec::new, |mapping| vec![None; mapping.targets()]);
        Self { standard: [None; STANDARD.len()], mapped }
    }

    fn clear(&mut self) {
        self.standard = [None; STANDARD.len()];
        self.mapped.fill(None);
    }

    /// The value under the first of these standard names that has one.
    pub fn first(&self, names: std::ops::Range<usize>) -> Option<Raw<'a>> {
        self.standard[names].iter().copied().flatten().next()
    }
}

/// Parses an object and stores the values of known names in `found`, which is cleared first. If a name occurs twice,
/// the last value counts.
#[inline]
pub(super) fn find_fields<'a>(json: &'a str, mapping: Option<&Mapping>, found: &mut Found<'a>) -> Result<(), NotJson> {
    found.clear();
    let Some(mapping) = mapping else {
        if fast_json::each(json, slot_of, |slot, value| found.standard[slot] = present(value)).is_some() {
            return Ok(());
        }
        found.clear();
        return members_by_library(json, slot_of, |slot, value| {
            found.standard[slot] = present(value);
            Ok(())
        });
    };
    let look = |name: &str| match (mapping.root.child(name), mapping.slot(name)) {
        (None, None) => None,
        meaning => Some(meaning),
    };
    members(json, look, |(node, slot), value| {
        // `user.id` may be mapped while some events have a plain `user`. If `user` is an object, only the mapped path
        // counts.
        let inside = node.map_or(Ok(false), |node| mapped(node, value, found))?;
        if let Some(slot) = slot {
            found.standard[slot] = present(value).filter(|_| !inside);
        }
        Ok(())
    })
}

fn slot_of(name: &str) -> Option<usize> {
    slot(name.as_bytes())
}

/// Stores the value of a member that a mapped path leads to or through. Returns whether a path leads through it.
fn mapped<'a>(node: &Node, value: Raw<'a>, found: &mut Found<'a>) -> Result<bool, NotJson> {
    // If a member occurs twice, the last value counts, with all that is in it.
    node.each_target(&mut |target| found.mapped[target] = None);
    for &target in &node.targets {
        found.mapped[target] = present(value);
    }
    let inside = value.source().starts_with('{') && !node.children.is_empty();
    if inside {
        members(value.source(), |name| node.child(name), |child, value| mapped(child, value, found).map(drop))?;
    }
    Ok(inside)
}

fn present(value: Raw<'_>) -> Option<Raw<'_>> {
    (!value.is_null()).then_some(value)
}
