//! Which segments of a chain there are, and how far they reach beyond each snapshot.

use super::catalog::{Catalog, Reach, State, Summary};
use super::chain::ChainAt;
use super::claim::Begin;
use super::error::SnapshotError;
use crate::bucket::Object;
use std::collections::HashMap;

/// The segments of a chain that a snapshot may need.
#[derive(Debug)]
pub(super) struct Segments {
    /// The last that counts; one less than the first that is named where there is none.
    pub last: u64,
    /// Up to which one none is missing.
    pub whole: u64,
    /// Those that are there and count, by number.
    pub listed: Vec<(u64, Object)>,
}

impl Segments {
    /// Looks for those of the chain of a snapshot of `epoch`.
    pub(super) async fn find(catalog: &Catalog, epoch: u64, chain: &ChainAt) -> Result<Self, SnapshotError> {
        // First: what is shipped behind the beginning of an epoch is void, however late it is seen.
        let begins = catalog.begins().await?;
        Self::within(catalog, &begins, epoch, chain).await
    }

    async fn within(catalog: &Catalog, begins: &[Begin], epoch: u64, chain: &ChainAt) -> Result<Self, SnapshotError> {
        let ends = begins.iter().filter(|begin| begin.epoch > epoch && begin.chain.as_ref() == Some(&chain.name));
        let bound = ends.map(|begin| begin.last).min();
        let before = chain.from.saturating_sub(1);
        // Only what is behind: a chain may have very many.
        let after = catalog.layout.segment(&chain.name, before);
        let mut listed = catalog.numbered_after(&catalog.layout.chain(&chain.name), &after).await?;
        let newest = listed.last().map_or(before, |(number, _)| *number);
        let last = bound.unwrap_or(newest).max(before);
        listed.retain(|(number, _)| (chain.from..=last).contains(number));
        let mut whole = before;
        for (number, _) in &listed {
            whole += u64::from(*number == whole + 1);
        }
        Ok(Self { last, whole, listed })
    }
}

/// All snapshots, the oldest first, with how far the writes after each are in the bucket.
pub async fn list(catalog: &Catalog) -> Result<Vec<Summary>, SnapshotError> {
    let mut summaries = catalog.list().await?;
    let begins = catalog.begins().await?;
    // The newest of a chain comes first, so that little of it is listed.
    let mut ends: HashMap<String, (u64, Option<u64>)> = HashMap::new();
    for summary in summaries.iter_mut().rev() {
        let State::Listed(details) = &summary.state else { continue };
        let Some(chain) = &details.chain else { continue };
        if !ends.contains_key(&chain.name) {
            let Segments { last, listed, .. } = Segments::within(catalog, &begins, details.epoch, chain).await?;
            let written_ms = listed.last().map(|(_, object)| object.modified_ms);
            ends.insert(chain.name.clone(), (last, written_ms));
        }
        let (last, to_ms) = ends[&chain.name];
        let segments = (last + 1).saturating_sub(chain.from);
        summary.reach = Some(Reach { segments, to_ms: to_ms.filter(|_| segments > 0) });
    }
    Ok(summaries)
}
