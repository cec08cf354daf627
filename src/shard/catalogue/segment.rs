//! A part of the catalogue: most ads, and beside them what changed lately, so that a change copies little.

use super::packed::{Found, Keys, Packed};
use std::sync::Arc;

/// So many changed ads are always kept beside the others.
const RECENT_MIN: usize = 16;

/// A part of the catalogue. A change makes another one of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    base: Arc<Packed>,
    /// What changed since `base` was packed.
    recent: Packed,
    ads: usize,
}

/// The ad, its hash, and its keys from now on; `None`: it is removed.
pub(super) type Change<'c> = (&'c str, u64, Option<&'c [String]>);

impl Segment {
    /// How many ads it has.
    pub(super) fn len(&self) -> usize {
        self.ads
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        self.base.memory() + self.recent.memory()
    }

    pub(super) fn get(&self, hash: u64, da: &str) -> Option<Keys<'_>> {
        let recent = if self.recent.len() == 0 { None } else { self.recent.get(hash, da) };
        match recent.or_else(|| self.base.get(hash, da))? {
            Found::Here(keys) => Some(keys),
            Found::Removed => None,
        }
    }

    /// Adds an ad that it has not, while it is made of what is stored.
    pub(super) fn load(&mut self, hash: u64, da: &str, keys: &[&str]) -> Option<()> {
        self.ads += 1;
        Arc::make_mut(&mut self.base).set(hash, da, Some(keys.iter().copied()))
    }

    /// Gives back what was taken while it was loaded.
    pub(super) fn shrink(&mut self) {
        Arc::make_mut(&mut self.base).shrink();
    }

    /// The same with some ads changed. `None` where there is no place for them.
    pub(super) fn with<'c>(&self, changes: impl Iterator<Item = Change<'c>>) -> Option<Self> {
        let Self { base, mut recent, mut ads } = self.clone();
        for (da, hash, keys) in changes {
            let was_here = self.get(hash, da).is_some();
            ads = ads - usize::from(was_here) + usize::from(keys.is_some());
            recent.set(hash, da, keys.map(|keys| keys.iter().map(String::as_str)))?;
        }
        // A quarter at most waits: so an ad is copied a few times on the whole, however many changes there are.
        let is_much =
            recent.len() > RECENT_MIN + base.len() / 4 || recent.entry_bytes() > (64 << 10) + base.entry_bytes();
        if is_much {
            return Some(Self { base: Arc::new(base.merged(&recent)?), recent: Packed::default(), ads });
        }
        Some(Self { base, recent, ads })
    }
}
