//! Who is let in: so many reads, so many writes, so many bytes of bodies at once. Who is not is told at once, for a
//! queue would only make everybody late.

use super::app::{App, Limits};
use super::problem::Problem;
use crate::store::Room;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// What may be under way at once. One for the whole process.
#[derive(Debug)]
pub struct Admission {
    reads: Semaphore,
    writes: Semaphore,
    bodies: Arc<Bodies>,
    read_memory: Arc<ReadMemory>,
}

/// The memory for what is read and answered.
#[derive(Debug)]
struct ReadMemory {
    kib: Arc<Semaphore>,
    all_kib: usize,
}

/// The memory for bodies, and those that are still on their way.
#[derive(Debug)]
struct Bodies {
    kib: Arc<Semaphore>,
    /// What there is of it.
    all_kib: usize,
    start: Instant,
    min_rate: u64,
    uploads: Mutex<Vec<Arc<Upload>>>,
}

/// A body of which more is to come.
#[derive(Debug)]
struct Upload {
    /// When its patience ends: ms after the start. What comes puts it off, by as long as it may take to come.
    deadline_ms: AtomicU64,
    given_up: Notify,
}

/// So long a body may send nothing, or less than it must.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where there is no room, it is taken from who has sent too little for so long.
const SLOW: Duration = Duration::from_millis(250);
/// How long to wait for room that was taken from others.
const WAIT_FOR_ROOM: Duration = Duration::from_millis(250);
/// How often, where nobody was slow.
const WAITS_MAX: usize = 4;

impl Bodies {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn uploads(&self) -> MutexGuard<'_, Vec<Arc<Upload>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the slowest of the bodies that come too slowly. Whether there was one.
    fn give_up_slowest(&self) -> bool {
        let slow = self.now_ms() + (PATIENCE - SLOW).as_millis() as u64;
        let mut uploads = self.uploads();
        let deadline = |upload: &Arc<Upload>| upload.deadline_ms.load(Ordering::Relaxed);
        let slowest = (0..uploads.len()).min_by_key(|&at| deadline(&uploads[at]));
        match slowest.filter(|&at| deadline(&uploads[at]) < slow) {
            Some(at) => {
                uploads.swap_remove(at).given_up.notify_one();
                true
            }
            None => false,
        }
    }
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        let most = |permits: usize| permits.clamp(1, Semaphore::MAX_PERMITS);
        let body_kib = usize::try_from(limits.max_bodies >> 10).unwrap_or(usize::MAX).min(u32::MAX as usize);
        let read_kib = most(usize::try_from(limits.max_read_memory >> 10).unwrap_or(usize::MAX).min(u32::MAX as usize));
        let bodies = Bodies {
            kib: Arc::new(Semaphore::new(most(body_kib))),
            all_kib: most(body_kib),
            start: Instant::now(),
            min_rate: limits.min_body_rate.max(1),
            uploads: Mutex::default(),
        };
        Self {
            reads: Semaphore::new(most(limits.max_reads)),
            writes: Semaphore::new(most(limits.max_writes)),
            bodies: Arc::new(bodies),
            read_memory: Arc::new(ReadMemory { kib: Arc::new(Semaphore::new(read_kib)), all_kib: read_kib }),
        }
    }

    /// No room yet; it grows with the body.
    pub(super) fn room(&self) -> BodyRoom {
        BodyRoom { all: self.bodies.clone(), held: None, bytes: 0, upload: None }
    }

    /// No room yet; it grows with what is read.
    pub(super) fn read_room(&self) -> ReadRoom {
        ReadRoom { all: self.read_memory.clone(), held: None, held_bytes: 0, used: 0 }
    }

    /// Bytes of all bodies under way.
    pub(super) fn body_bytes(&self) -> u64 {
        (self.bodies.all_kib.saturating_sub(self.bodies.kib.available_permits()) as u64) << 10
    }

    /// Bytes of all reads under way, beyond what each has without asking.
    pub(super) fn read_bytes(&self) -> u64 {
        (self.read_memory.all_kib.saturating_sub(self.read_memory.kib.available_permits()) as u64) << 10
    }

    /// Lets a read in, as long as the permit is held.
    pub(super) fn read(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.reads.try_acquire().map_err(|_| overloaded("reads"))
    }

    /// Lets a write in, as long as the permit is held.
    pub(super) fn write(&self) -> Option<SemaphorePermit<'_>> {
        self.writes.try_acquire().ok()
    }
}

/// The room that a body has taken up, packed and unpacked together.
pub(super) struct BodyRoom {
    all: Arc<Bodies>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
    upload: Option<Arc<Upload>>,
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.is_whole();
    }
}

impl BodyRoom {
    /// Room is taken in pieces of this many bytes: bodies come in frames of any size, down to one byte.
    const PIECE: usize = 16 << 10;

    /// Takes room for `total` bytes in all, from who sends too slowly if there is no other.
    pub(super) async fn grow(&mut self, total: usize) -> Result<(), Problem> {
        let mut waits = 0;
        while let Err(problem) = self.grow_now(total) {
            // Who is slow shows only after a while.
            waits += usize::from(!self.all.give_up_slowest());
            if waits > WAITS_MAX {
                return Err(problem);
            }
            let kib = self.missing_kib(total);
            let freed = tokio::time::timeout(WAIT_FOR_ROOM, self.all.kib.acquire_many(kib)).await;
            drop(freed);
        }
        Ok(())
    }

    /// Takes room for `total` bytes in all if there is any.
    pub(super) fn grow_now(&mut self, total: usize) -> Result<(), Problem> {
        if total <= self.bytes {
            return Ok(());
        }
        let kib = self.missing_kib(total);
        let permit = self.all.kib.clone().try_acquire_many_owned(kib).map_err(|_| overloaded("bodies"))?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        self.bytes += (kib as usize) << 10;
        Ok(())
    }

    fn missing_kib(&self, total: usize) -> u32 {
        let more = total.saturating_sub(self.bytes).next_multiple_of(Self::PIECE);
        u32::try_from(more >> 10).unwrap_or(u32::MAX)
    }

    /// More than what has come, `bytes`, is on its way.
    pub(super) fn expect_more(&mut self, bytes: usize) {
        let deadline_ms = AtomicU64::new(self.all.now_ms() + PATIENCE.as_millis() as u64);
        let upload = Arc::new(Upload { deadline_ms, given_up: Notify::new() });
        self.all.uploads().push(upload.clone());
        self.upload = Some(upload);
        self.more_came(bytes);
    }

    /// Some more has come.
    pub(super) fn more_came(&self, bytes: usize) {
        let Some(upload) = &self.upload else { return };
        let now = self.all.now_ms();
        let earned = (bytes as u64).saturating_mul(1_000) / self.all.min_rate;
        let before = upload.deadline_ms.load(Ordering::Relaxed).max(now);
        upload.deadline_ms.store((before + earned).min(now + PATIENCE.as_millis() as u64), Ordering::Relaxed);
    }

    /// Nothing more comes.
    pub(super) fn is_whole(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.all.uploads().retain(|other| !Arc::ptr_eq(other, &upload));
        }
    }

    /// How long the next piece may take to come.
    pub(super) fn patience(&self) -> Duration {
        let deadline = self.upload.as_ref().map(|upload| upload.deadline_ms.load(Ordering::Relaxed));
        deadline.map_or(PATIENCE, |deadline| Duration::from_millis(deadline.saturating_sub(self.all.now_ms())))
    }

    /// Waits until the room is wanted by somebody who is not so slow.
    pub(super) async fn given_up(&self) {
        match &self.upload {
            Some(upload) => upload.given_up.notified().await,
            None => std::future::pending().await,
        }
    }
}

/// The room that a read has taken up, for what it reads and for its answer.
pub(super) struct ReadRoom {
    all: Arc<ReadMemory>,
    held: Option<OwnedSemaphorePermit>,
    held_bytes: usize,
    used: usize,
}

impl ReadRoom {
    /// What every read that is let in may have without asking: most need no more.
    const SMALL: usize = 16 << 10;
    /// More is taken in pieces of so many bytes.
    const PIECE: usize = 64 << 10;

    /// Whether it holds nothing that others might want.
    pub(super) fn is_small(&self) -> bool {
        self.held.is_none()
    }

    /// Why there was no room.
    pub(super) fn refusal(&self) -> Problem {
        if self.could_fit() { overloaded("reads") } else { answer_too_large() }
    }
}

/// More memory is wanted than there is for all reads: to ask again would not help.
pub(super) fn answer_too_large() -> Problem {
    let detail = "the answer takes more memory than all reads may have (--read-memory): ask for less at once";
    Problem::unprocessable("answer_too_large", detail)
}

impl Room for ReadRoom {
    #[inline]
    fn take(&mut self, bytes: usize) -> bool {
        self.used = self.used.saturating_add(bytes);
        let Some(more) = self.used.checked_sub(Self::SMALL + self.held_bytes).filter(|more| *more > 0) else {
            return true;
        };
        let more = more.next_multiple_of(Self::PIECE);
        let Ok(kib) = u32::try_from(more >> 10) else { return false };
        let Ok(permit) = self.all.kib.clone().try_acquire_many_owned(kib) else { return false };
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        self.held_bytes += more;
        true
    }

    fn could_fit(&self) -> bool {
        self.used.saturating_sub(Self::SMALL).next_multiple_of(Self::PIECE) >> 10 <= self.all.all_kib
    }
}

fn overloaded(what: &str) -> Problem {
    Problem::unavailable("overloaded", format!("too many {what} are under way; try again shortly"))
}

/// Lets a read in, or answers 503.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.admission.read() {
        Ok(_permit) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
