//! Upkeep beside the relay: changes that Redis has had for some time are acknowledged, so that they may go, and figures are
//! brought up to date.

use super::error::MirrorError;
use super::marker::Seqs;
use super::relay::Relay;
use super::send::blocking;
use crate::model::ShardId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const UPKEEP: Duration = Duration::from_secs(1);
/// Into so many steps is the time that changes are kept cut.
const STEPS: u32 = 30;

/// Remembers how far Redis was told when.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    told: VecDeque<(Instant, Seqs)>,
}

impl Trimmer {
    /// Notes how far Redis is told now; returns how far changes are old enough to go.
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
        // A failover may have taken Redis back behind what it had acknowledged.
        old.map(|old| old.least(told))
    }
}

impl Relay {
    pub async fn upkeep(&mut self) -> Result<(), MirrorError> {
        self.next_upkeep = Instant::now() + UPKEEP.min(self.options.keep_told / 4);
        self.trim().await?;
        if self.waiting() > 0 {
            let (store, told) = (Arc::clone(&self.store), self.told.clone());
            let oldest = blocking(move || {
                let mut oldest = None;
                for shard in ShardId::all().filter(|&shard| store.changes().durable_seq(shard) > told.get(shard)) {
                    let first = store.changes().after(shard, told.get(shard), 1)?;
                    oldest = first.first().map(|change| change.at).into_iter().chain(oldest).min();
                }
                Ok(oldest)
            });
            let oldest = oldest.await?;
            self.report.lag(oldest.map_or(0, |at| (self.now)().0.saturating_sub(at.0)));
        }
        Ok(())
    }

    async fn trim(&mut self) -> Result<(), MirrorError> {
        ShardId::all().for_each(|shard| self.cursor.advance(shard, self.told.get(shard)));
        // Not at once: a failover may take Redis back behind what it acknowledged, and from there it goes on with the
        // changes, rather than with a full pass, as long as they are held.
        if self.is_live()
            && let Some(old) = self.trimmer.note(&self.told, Instant::now(), self.options.keep_told)
        {
            ShardId::all().for_each(|shard| self.cursor.ack(shard, old.get(shard)));
        }
        let changes = Arc::clone(self.cursor.log());
        blocking(move || Ok(changes.trim()?)).await
    }
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
