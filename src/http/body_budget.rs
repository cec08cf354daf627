//! The memory for bodies: bounded for all together, and taken from uploads that are too slow.

use super::problem::Problem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The memory for all bodies, and the uploads under way.
#[derive(Debug)]
pub(super) struct Bodies {
    /// A permit a KiB.
    kib: Arc<Semaphore>,
    total_kib: usize,
    start: Instant,
    min_rate: u64,
    uploads: Mutex<Vec<Arc<Upload>>>,
}

/// A body that has not arrived whole.
#[derive(Debug)]
struct Upload {
    /// When it is given up: ms after the start. Data puts the deadline off by the time that it may take at the minimum rate.
    deadline_ms: AtomicU64,
    given_up: Notify,
}

/// Maximum time that an upload may stall or stay below the minimum rate.
const STALL_MAX: Duration = Duration::from_secs(5);
/// When memory is short, an upload may be given up once it has stalled for this long.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait for memory that was taken from other uploads.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(250);
/// Maximum waits in which no upload was slow.
const WAITS_MAX: usize = 4;

impl Bodies {
    pub(super) fn new(bytes: u64, min_rate: u64) -> Self {
        let total_kib = semaphore_kib(bytes);
        Self {
            kib: Arc::new(Semaphore::new(total_kib)),
            total_kib,
            start: Instant::now(),
            min_rate: min_rate.max(1),
            uploads: Mutex::default(),
        }
    }

    /// Bytes that are taken.
    pub(super) fn bytes(&self) -> u64 {
        (self.total_kib.saturating_sub(self.kib.available_permits()) as u64) << 10
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn uploads(&self) -> MutexGuard<'_, Vec<Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the slowest upload, if one is slow. True if there was one.
    fn give_up_slowest(&self) -> bool {
        // A deadline before this belongs to an upload that has stalled for SLOW.
        let slow = self.now_ms() + (STALL_MAX - SLOW).as_millis() as u64;
        let mut uploads = self.uploads();
        let mut slowest = None;
        for (at, upload) in uploads.iter().enumerate() {
            let deadline = upload.deadline_ms.load(Ordering::Relaxed);
            if deadline < slow && slowest.is_none_or(|(_, least)| deadline < least) {
                slowest = Some((at, deadline));
            }
        }
        let Some((at, _)) = slowest else { return false };
        uploads.swap_remove(at).given_up.notify_one();
        true
    }
}

/// Permits for so many bytes, one a KiB, as many as can be asked for at once.
pub(super) fn semaphore_kib(bytes: u64) -> usize {
    let kib = usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
    kib.min(u32::MAX as usize).clamp(1, Semaphore::MAX_PERMITS)
}

/// The memory that one body has taken, packed and unpacked together.
pub(super) struct BodyBudget {
    all: Arc<Bodies>,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
    /// While more is on its way.
    upload: Option<Arc<Upload>>,
}

impl Drop for BodyBudget {
    fn drop(&mut self) {
        self.complete();
    }
}

impl BodyBudget {
    /// Memory is taken in steps of this many bytes: frames may have any size, down to one byte.
    const STEP: usize = 16 << 10;

    pub(super) fn new(all: Arc<Bodies>) -> Self {
        Self { all, permit: None, bytes: 0, upload: None }
    }

    /// Takes memory for `total` bytes in all. If none is left, it is taken from uploads that are too slow.
    pub(super) async fn grow(&mut self, total: usize) -> Result<(), Problem> {
        let mut waits = 0;
        while let Err(problem) = self.grow_now(total) {
            // It takes a while to see which uploads are slow.
            waits += usize::from(!self.all.give_up_slowest());
            if waits > WAITS_MAX {
                return Err(problem);
            }
            let kib = self.missing_kib(total);
            let freed = tokio::time::timeout(WAIT_FOR_MEMORY, self.all.kib.acquire_many(kib)).await;
            drop(freed);
        }
        Ok(())
    }

    /// Takes memory for `total` bytes in all, if it is there.
    pub(super) fn grow_now(&mut self, total: usize) -> Result<(), Problem> {
        if total <= self.bytes {
            return Ok(());
        }
        let kib = self.missing_kib(total);
        let permit = self.all.kib.clone().try_acquire_many_owned(kib).map_err(|_| Problem::overloaded("bodies"))?;
        match &mut self.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        self.bytes += (kib as usize) << 10;
        Ok(())
    }

    fn missing_kib(&self, total: usize) -> u32 {
        let more = total.saturating_sub(self.bytes).next_multiple_of(Self::STEP);
        u32::try_from(more >> 10).unwrap_or(u32::MAX)
    }

    /// Notes that more than the `bytes` received is on its way.
    pub(super) fn expect_more(&mut self, bytes: usize) {
        let deadline_ms = AtomicU64::new(self.all.now_ms() + STALL_MAX.as_millis() as u64);
        let upload = Arc::new(Upload { deadline_ms, given_up: Notify::new() });
        self.all.uploads().push(upload.clone());
        self.upload = Some(upload);
        self.received(bytes);
    }

    /// Notes that more was received.
    pub(super) fn received(&self, bytes: usize) {
        let Some(upload) = &self.upload else { return };
        let now = self.all.now_ms();
        let earned = (bytes as u64).saturating_mul(1_000) / self.all.min_rate;
        let before = upload.deadline_ms.load(Ordering::Relaxed).max(now);
        upload.deadline_ms.store((before + earned).min(now + STALL_MAX.as_millis() as u64), Ordering::Relaxed);
    }

    /// Notes that the body has arrived whole.
    pub(super) fn complete(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.all.uploads().retain(|other| !Arc::ptr_eq(other, &upload));
        }
    }

    /// How long the next frame may take.
    pub(super) fn time_left(&self) -> Duration {
        let deadline = self.upload.as_ref().map(|upload| upload.deadline_ms.load(Ordering::Relaxed));
        deadline.map_or(STALL_MAX, |deadline| Duration::from_millis(deadline.saturating_sub(self.all.now_ms())))
    }

    /// Waits until this upload is given up for others that are faster.
    pub(super) async fn given_up(&self) {
        match &self.upload {
            Some(upload) => upload.given_up.notified().await,
            None => std::future::pending().await,
        }
    }
}
