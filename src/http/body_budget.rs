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
    /// When it is given up: µs after the start. Data puts the deadline off by the time that it may take at the minimum rate.
    deadline_us: AtomicU64,
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

    fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    fn uploads(&self) -> MutexGuard<'_, Vec<Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, upload: &Arc<Upload>) {
        self.uploads().retain(|other| !Arc::ptr_eq(other, upload));
    }

    /// Gives up the slowest upload, if one is slow. True if there was one.
    fn give_up_slowest(&self) -> bool {
        // A deadline before this belongs to an upload that has stalled for SLOW.
        let slow = self.now_us() + micros(STALL_MAX - SLOW);
        let mut uploads = self.uploads();
        let mut slowest = None;
        for (at, upload) in uploads.iter().enumerate() {
            let deadline = upload.deadline_us.load(Ordering::Relaxed);
            if deadline < slow && slowest.is_none_or(|(_, least)| deadline < least) {
                slowest = Some((at, deadline));
            }
        }
        let Some((at, _)) = slowest else { return false };
        uploads.swap_remove(at).given_up.notify_one();
        true
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
        if self.grow_now(total).is_ok() {
            return Ok(());
        }
        // Nothing is received meanwhile: that is no slowness of the sender.
        let start = Instant::now();
        let is_upload = self.upload.as_ref().map(|upload| self.all.remove(upload)).is_some();
        let grown = self.wait_to_grow(total).await;
        if is_upload && let Some(upload) = &self.upload {
            upload.deadline_us.fetch_add(micros(start.elapsed()), Ordering::Relaxed);
            self.all.uploads().push(upload.clone());
        }
        grown
    }

    async fn wait_to_grow(&mut self, total: usize) -> Result<(), Problem> {
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

    /// Takes memory for what is made of a body of `body` bytes, if it is there: `more` bytes so far. What is more than all
    /// bodies may have gets all of it, alone.
    pub(super) fn grow_by(&mut self, body: usize, more: usize) -> bool {
        let all = self.all.total_kib.saturating_mul(1 << 10) / Self::STEP * Self::STEP;
        self.grow_now(body.saturating_add(more).min(all)).is_ok()
    }

    fn missing_kib(&self, total: usize) -> u32 {
        let more = total.saturating_sub(self.bytes).next_multiple_of(Self::STEP);
        u32::try_from(more >> 10).unwrap_or(u32::MAX)
    }

    /// Notes that more than the `bytes` received is on its way.
    pub(super) fn expect_more(&mut self, bytes: usize) {
        let deadline_us = AtomicU64::new(self.all.now_us() + micros(STALL_MAX));
        let upload = Arc::new(Upload { deadline_us, given_up: Notify::new() });
        self.all.uploads().push(upload.clone());
        self.upload = Some(upload);
        self.received(bytes);
    }

    /// Notes that more was received.
    pub(super) fn received(&self, bytes: usize) {
        let Some(upload) = &self.upload else { return };
        let now = self.all.now_us();
        let earned = (bytes as u64).saturating_mul(1_000_000) / self.all.min_rate;
        let before = upload.deadline_us.load(Ordering::Relaxed).max(now);
        upload.deadline_us.store(before.saturating_add(earned).min(now + micros(STALL_MAX)), Ordering::Relaxed);
    }

    /// Notes that the body has arrived whole.
    pub(super) fn complete(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.all.remove(&upload);
        }
    }

    /// How long the next frame may take.
    pub(super) fn time_left(&self) -> Duration {
        let deadline = self.upload.as_ref().map(|upload| upload.deadline_us.load(Ordering::Relaxed));
        deadline.map_or(STALL_MAX, |deadline| Duration::from_micros(deadline.saturating_sub(self.all.now_us())))
    }

    /// Waits until this upload is given up for others that are faster.
    pub(super) async fn given_up(&self) {
        match &self.upload {
            Some(upload) => upload.given_up.notified().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both hold half of the memory. The first sent just now, and waits for more; the second has not sent for long.
    #[tokio::test]
    async fn an_upload_that_waits_for_memory_is_not_the_slow_one() {
        let all = Arc::new(Bodies::new(64 << 10, 1_000_000));
        let (mut fast, mut slow) = (BodyBudget::new(all.clone()), BodyBudget::new(all.clone()));
        for budget in [&mut fast, &mut slow] {
            budget.grow(32 << 10).await.unwrap();
            budget.expect_more(32 << 10);
        }
        let left = fast.time_left();
        let wait = async {
            slow.given_up().await;
            assert!(fast_is_off(&all), "who waits is on no list");
            drop(slow);
        };
        let (grown, ()) = tokio::join!(fast.grow(64 << 10), wait);
        grown.unwrap();
        assert!(fast.time_left() + Duration::from_millis(50) > left, "the wait is not the sender's");
        assert_eq!(all.uploads().len(), 1, "it goes on");
    }

    fn fast_is_off(all: &Bodies) -> bool {
        // The slow one was taken off when it was given up.
        all.uploads().is_empty()
    }

    #[test]
    fn small_frames_earn_what_one_large_one_does() {
        let all = Arc::new(Bodies::new(1 << 20, 100_000));
        let (mut one, mut many) = (BodyBudget::new(all.clone()), BodyBudget::new(all.clone()));
        for budget in [&mut one, &mut many] {
            budget.expect_more(0);
            budget.upload.as_ref().unwrap().deadline_us.store(0, Ordering::Relaxed);
        }
        one.received(99_000);
        // Each less than a millisecond's worth.
        (0..1_000).for_each(|_| many.received(99));
        assert!(many.time_left() + Duration::from_millis(50) > one.time_left(), "{:?}", many.time_left());
    }

    #[test]
    fn what_is_more_than_all_bodies_may_have_gets_all_alone() {
        let all = Arc::new(Bodies::new(64 << 10, 1));
        let (mut first, mut second) = (BodyBudget::new(all.clone()), BodyBudget::new(all.clone()));
        assert!(first.grow_by(10 << 10, 30 << 10) && second.grow_by(10, 10));
        assert!(!first.grow_by(10 << 10, 100 << 10));
        drop(second);
        assert!(first.grow_by(10 << 10, 100 << 10));
        assert_eq!(all.bytes(), 64 << 10);
    }
}
