//! The mirror: Redis holds exactly the keys that are capped, for ad servers that read Redis and nothing else.
//!
//! ```text
//! caps     what is capped now                     changes   which caps changed, in order, by shard
//!    \                                                /
//!     `-- relay: reads what changed from `changes`, what it is now from `caps`, sends that --> Redis
//!                                                                                               |
//!     names    <prefix>{<user>} or <prefix>{<user>}:<key>            marker: how far it was told, and whether it
//!     owner    freqcap:<prefix>:owner = the store and its run                still knows (see `marker`)
//! ```
//!
//! A record in Redis is always a state, never a step, so sending it twice or late is never wrong. If Redis loses data
//! (FLUSHALL, a restart, an older dump, a failover), its marker shows that, since it is part of the same data. Then the
//! relay resumes from the marker, or runs a full sync (see `full_sync`).
//!
//! Of several units each has a relay with connections, a marker and an owner of its own; a pass over the names is made for all
//! together (see `shared_scan`).

mod batch;
mod batch_size;
mod error;
mod error_log;
mod eviction;
mod found;
mod full_sync;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod layout;
mod link;
mod marker;
mod names;
mod options;
mod owner;
mod relay;
mod send;
mod server;
mod shared_scan;
mod status;
mod topology;
mod trim;
mod unit;

pub use error::MirrorError;
pub use marker::Reason;
pub use names::Layout;
pub use options::{Options, Servers, ServersError, SettingFlags, Settings};
pub use relay::Now;
pub use status::{Handle, Snapshot, State, describe as describe_metrics};

use crate::store::Store;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps one Redis, or one Redis Cluster, in step with a store.
pub struct Mirror {
    relay: relay::Relay,
}

impl Mirror {
    /// A mirror that is idle until [`Mirror::run`]. The store must keep changes.
    pub fn new(store: Arc<Store>, options: Options, now: Now) -> Self {
        // rustls needs one provider per process. If one is installed already, it will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let report = status::Report::new(store.unit());
        Self { relay: relay::Relay::new(store, options, now, report, None) }
    }

    /// A mirror for each of these units, the stores of a process in the order of their numbers. Where there are several each has
    /// a marker and an owner of its own.
    pub fn of_units(stores: &[Arc<Store>], options: &Options, now: &Now) -> Vec<Self> {
        if let [store] = stores {
            return vec![Self::new(store.clone(), options.clone(), now.clone())];
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scan = shared_scan::SharedScan::new(stores.len());
        let options = Options { max_waiting: options.max_waiting / stores.len().max(1) as u64, ..options.clone() };
        let mut mirrors = Vec::with_capacity(stores.len());
        for (number, store) in stores.iter().enumerate() {
            let unit = unit::MirrorUnit { number, family: stores[0].info().id.clone(), scan: scan.clone() };
            let report = status::Report::new(store.unit());
            let relay = relay::Relay::new(store.clone(), options.clone(), now.clone(), report, Some(unit));
            mirrors.push(Self { relay });
        }
        mirrors
    }

    /// Handle to its figures.
    pub fn handle(&self) -> Handle {
        self.relay.report.handle.clone()
    }

    /// Runs until `stop`, then until Redis has the changes that wait, for two seconds at most. Waits for a Redis that
    /// is away.
    pub async fn run(self, stop: CancellationToken) {
        // A panic is noticed at once, not only when the task is joined.
        let _watched = self.relay.store.alarm().watch("mirror");
        self.relay.run(stop).await;
    }
}
