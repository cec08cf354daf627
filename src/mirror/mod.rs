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
//! What is sent is always a state, never a step, so that telling a thing twice, or late, is never wrong. What makes
//! Redis forget (FLUSHALL, a restart, an older dump, a failover) shows in its marker, which lives and dies with the
//! data: then the relay goes on from where the marker stands, or sends everything and removes the rest (see `pass`).

mod batch;
mod batch_size;
mod error;
mod error_log;
mod eviction;
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
mod status;
mod topology;
mod trim;

pub use error::MirrorError;
pub use marker::Reason;
pub use names::Layout;
pub use options::{Options, Servers, ServersError, SettingFlags, Settings};
pub use relay::Now;
pub use status::{Handle, Snapshot, State, describe as describe_metrics};

use crate::store::Store;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps one Redis, or one Redis Cluster, in line with a store.
pub struct Mirror {
    relay: relay::Relay,
}

impl Mirror {
    /// A mirror that does nothing before [`Mirror::run`]. The store must keep changes.
    pub fn new(store: Arc<Store>, options: Options, now: Now) -> Self {
        // rustls asks for one provider for the whole process; somebody may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let report = status::Report::new(store.unit());
        Self { relay: relay::Relay::new(store, options, now, report) }
    }

    pub fn handle(&self) -> Handle {
        self.relay.report.handle.clone()
    }

    /// Runs until `stop`, then until Redis has what waits, at most two seconds. Redis being away is no error: it is
    /// waited for.
    pub async fn run(self, stop: CancellationToken) {
        // A panic is seen at once, not only where somebody waits for the end.
        let _watched = self.relay.store.alarm().watch("mirror");
        self.relay.run(stop).await;
    }
}
