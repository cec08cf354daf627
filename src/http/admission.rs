//! Who is let in: so many reads, so many writes, so many bytes of bodies at once. Who is not is told at once, for a
//! queue would only make everybody late.

use super::app::App;
use super::problem::Problem;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// What may be under way at once. One for the whole process.
#[derive(Debug)]
pub struct Admission {
    reads: Semaphore,
    writes: Semaphore,
    body_kib: Arc<Semaphore>,
}

impl Admission {
    pub fn new(reads: usize, writes: usize, body_bytes: u64) -> Self {
        let most = |permits: usize| permits.clamp(1, Semaphore::MAX_PERMITS);
        let body_kib = usize::try_from(body_bytes >> 10).unwrap_or(usize::MAX).min(u32::MAX as usize);
        Self {
            reads: Semaphore::new(most(reads)),
            writes: Semaphore::new(most(writes)),
            body_kib: Arc::new(Semaphore::new(most(body_kib))),
        }
    }

    /// No room yet; it grows with the body.
    pub(super) fn room(&self) -> Room {
        Room { all: self.body_kib.clone(), held: None, bytes: 0 }
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
pub(super) struct Room {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Room {
    /// Room is taken in pieces of this many bytes: bodies come in frames of any size, down to one byte.
    const PIECE: usize = 16 << 10;

    /// Takes room for `total` bytes in all.
    pub(super) fn grow(&mut self, total: usize) -> Result<(), Problem> {
        if total <= self.bytes {
            return Ok(());
        }
        let more = (total - self.bytes).next_multiple_of(Self::PIECE);
        let kib = u32::try_from(more >> 10).unwrap_or(u32::MAX);
        let permit = self.all.clone().try_acquire_many_owned(kib).map_err(|_| overloaded("bodies"))?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        self.bytes += more;
        Ok(())
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
