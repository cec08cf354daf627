//! Opens streams.

use super::cursor::Cursor;
use super::filter::Filter;
use super::follower::{Begin, Follower, Start};
use super::frame::Framing;
use super::hub::Hub;
use super::options::Options;
use super::queue::{StreamBody, queue};
use super::ring::Ring;
use super::shared::{Seat, Shared};
use super::status::Figures;
use super::stores::Stores;
use crate::clock::Clock;
use crate::store::{Bounds, Store, StoreError};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

/// The stream as a consumer of the change log.
const NAME: &str = "streams";
/// Streams that read tables at once: they must not keep others from the disk.
const READERS: usize = 2;

/// Why no stream was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenStreamError {
    /// As many are open as may be.
    #[error("{0} streams are open, and there may be no more; close one, or try again later")]
    TooMany(usize),
    /// The text is not one.
    #[error("Last-Event-ID, or after, is none that a checkpoint has had")]
    Cursor,
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
}

/// Opens streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

/// Makes the stream of the stores of all units, in the order of their numbers. Changes are kept from here on; the hub trims them, so it must not run before every other
/// consumer has subscribed. `background` has threads of lower priority. Blocks on disk.
pub fn open(
    stores: Vec<Arc<Store>>,
    options: &Options,
    clock: Clock,
    background: Handle,
) -> Result<(Streams, Hub), StoreError> {
    let (wake, woken) = crossbeam_channel::bounded(1);
    let mark = {
        let mut hash = Xxh3::new();
        for store in &stores {
            hash.update(store.info().id.as_bytes());
            hash.update(store.meta().incarnation()?.unwrap_or_default().as_bytes());
        }
        hash.digest()
    };
    // How much waits is bounded by the hub, which knows more than how many.
    let bounds = Bounds { total: u64::MAX, of_shard: u64::MAX };
    let cursors: Vec<_> = stores.iter().map(|store| store.changes().subscribe(NAME, bounds)).collect();
    let shared = Arc::new(Shared {
        stores: Stores::new(stores),
        ring: Ring::default(),
        figures: Figures::new(),
        clock,
        mark,
        stop: CancellationToken::new(),
        background,
        disk: Semaphore::new(READERS),
        seats: Arc::new(Semaphore::new(options.streams_max)),
        streams_max: options.streams_max,
        left_at: Mutex::new(Instant::now()),
        wake,
    });
    let hub = Hub::new(shared.clone(), cursors, woken, options);
    Ok((Streams(shared), hub))
}

impl Streams {
    /// Opens a stream. It runs by itself until its body is dropped, its reader lags, or the streams end.
    pub fn follow(&self, filter: Filter, start: &Start, framing: Framing) -> Result<StreamBody, OpenStreamError> {
        let shared = &self.0;
        if shared.stop.is_cancelled() {
            return Err(OpenStreamError::Stopping);
        }
        let begin = match start {
            Start::Snapshot => Begin::Snapshot,
            Start::Now => Begin::Now,
            Start::After(text) => Begin::From(Cursor::parse(text).ok_or(OpenStreamError::Cursor)?),
        };
        let Ok(permit) = shared.seats.clone().try_acquire_owned() else {
            shared.figures.refused.increment(1);
            return Err(OpenStreamError::TooMany(shared.streams_max));
        };
        let (sender, body) = queue();
        let follower = Follower::new(shared.clone(), Seat::new(shared, permit), filter, framing, sender);
        tokio::spawn(follower.run(begin));
        Ok(body)
    }

    /// Ends all streams, each with a last checkpoint. No other is opened.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Streams that are open.
    pub fn open_count(&self) -> usize {
        self.0.ring.followers()
    }
}
