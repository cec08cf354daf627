//! Group commit: one fsync makes every turn durable that was written before it began, while the writers prepare the
//! next. Then the turns are answered.

use super::metrics::ShardMetrics;
use super::refusal::Refusal;
use super::sync_watch::SyncWatch;
use super::task::Task;
use crate::model::ShardId;
use crate::store::{Durability, Store};
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::time::Instant;

/// A turn that is written and whose answers wait for the fsync.
pub(super) struct Written {
    pub tasks: Vec<Task>,
    pub changes: Vec<(ShardId, u64)>,
}

impl Written {
    fn acknowledge(self, store: &Store) {
        store.changes().publish(self.changes);
        self.tasks.into_iter().for_each(Task::acknowledge);
    }

    fn refuse(self) {
        self.tasks.into_iter().for_each(|task| task.refuse(Refusal::Poisoned));
    }
}

/// Where a writer hands over written turns.
#[derive(Clone)]
pub(super) enum Acknowledger {
    /// Acknowledges at once: survives the end of the process only.
    Direct(Arc<Store>),
    /// Hands over to the thread that syncs.
    Synced(Sender<Written>),
}

impl Acknowledger {
    /// By the store's durability. The receiver, if there is one, is for [`run`].
    pub(super) fn new(store: &Arc<Store>, turns: usize) -> (Self, Option<Receiver<Written>>) {
        if store.durability() == Durability::Wal {
            return (Self::Direct(store.clone()), None);
        }
        let (sender, receiver) = crossbeam_channel::bounded(turns);
        (Self::Synced(sender), Some(receiver))
    }

    pub(super) fn acknowledge(&self, written: Written) {
        match self {
            Self::Direct(store) => written.acknowledge(store),
            Self::Synced(sender) => {
                if let Err(gone) = sender.send(written) {
                    gone.0.refuse();
                }
            }
        }
    }
}

/// Syncs and answers until all writers are gone.
pub(super) fn run(store: &Store, written: &Receiver<Written>, metrics: &ShardMetrics, watch: &SyncWatch) {
    while let Ok(first) = written.recv() {
        let turns: Vec<_> = std::iter::once(first).chain(written.try_iter()).collect();
        let start = Instant::now();
        watch.begin();
        let synced = store.sync();
        watch.end();
        match synced {
            Ok(()) => {
                metrics.fsync_seconds.record(start.elapsed().as_secs_f64());
                turns.into_iter().for_each(|turn| turn.acknowledge(store));
            }
            Err(error) => {
                tracing::error!(%error, "what was written may not survive a power cut: events are refused from now on");
                turns.into_iter().for_each(Written::refuse);
            }
        }
    }
}
