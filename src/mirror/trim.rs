//! Which changes Redis has had for long enough: those are acknowledged and may be removed from the change log.

use super::error::MirrorError;
use super::marker::Seqs;
use super::send::blocking;
use crate::model::TsMs;
use crate::store::{ChangeCursor, Store};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The retention of changes is divided into this many steps; one position is remembered per step.
const STEPS: u32 = 30;

/// Remembers how far Redis had been told at recent times.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    told: VecDeque<(Instant, Seqs)>,
}

impl Trimmer {
    /// Records how far Redis is told at `now`. Returns up to where changes are older than `keep` and may be removed.
    fn note(&mut self, told: &Seqs, now: Instant, keep: Duration) -> Option<Seqs> {
        if self.told.back().is_none_or(|(at, last)| now - *at >= keep / STEPS && last != told) {
            self.told.push_back((now, told.clone()));
        }
        let mut old = None;
        while let Some((at, _)) = self.told.front()
            && now - *at >= keep
        {
            old = self.told.pop_front().map(|(_, told)| told);
        }
        // A failover may have taken Redis back to before what it had acknowledged.
        old.map(|old| old.least(told))
    }

    /// Acknowledges changes that Redis has had for `keep`. Not at once: a failover may take Redis back to before what it
    /// acknowledged. While the changes are kept, the mirror then resumes from them and needs no full sync.
    pub fn acknowledge(&mut self, cursor: &ChangeCursor, told: &Seqs, keep: Duration) {
        if let Some(old) = self.note(told, Instant::now(), keep) {
            cursor.log().shards().iter().for_each(|shard| cursor.ack(shard, old.get(shard)));
        }
    }
}

/// Removes the changes that every consumer has acknowledged.
pub(super) async fn trim(cursor: &ChangeCursor) -> Result<(), MirrorError> {
    let changes = Arc::clone(cursor.log());
    blocking(move || Ok(changes.trim()?)).await
}

/// When the oldest change was made that Redis was not told; `None` if it was told all.
pub(super) async fn oldest_untold(store: &Arc<Store>, told: &Seqs) -> Result<Option<TsMs>, MirrorError> {
    let (store, told) = (Arc::clone(store), told.clone());
    blocking(move || {
        let mut oldest = None;
        for shard in store.shards().iter().filter(|&shard| store.changes().durable_seq(shard) > told.get(shard)) {
            let first = store.changes().after(shard, told.get(shard), 1)?;
            oldest = first.first().map(|change| change.at).into_iter().chain(oldest).min();
        }
        Ok(oldest)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_go_only_some_time_after_they_were_told() {
        let mut trimmer = Trimmer::default();
        let (start, keep) = (Instant::now(), Duration::from_secs(300));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(trimmer.note(&Seqs::of(|_| 5), at(0), keep), None);
        assert_eq!(trimmer.note(&Seqs::of(|_| 9), at(200), keep), None);
        assert_eq!(trimmer.note(&Seqs::of(|_| 12), at(301), keep), Some(Seqs::of(|_| 5)));
        assert_eq!(trimmer.note(&Seqs::of(|_| 7), at(520), keep), Some(Seqs::of(|_| 7)));
        assert_eq!(trimmer.note(&Seqs::of(|_| 7), at(521), keep), None);
    }
}
