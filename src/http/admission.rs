//! Who is let in: so many reads, so many writes, so many bytes of bodies at once. Who is not is told at once, for a
//! queue would only make everybody late.

use super::app::App;
use super::problem::Problem;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

    /// Room for so many bytes of a body, or none.
    pub(super) fn body_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        self.body_kib.clone().try_acquire_many_owned(kib).map_err(|_| overloaded("bodies"))
    }
}

fn overloaded(what: &str) -> Problem {
    Problem::unavailable("overloaded", format!("too many {what} are under way; try again shortly"))
}

/// Lets a read in, or answers 503.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.admission.reads.try_acquire() else {
        return overloaded("reads").into_response();
    };
    next.run(request).await
}

/// Lets a write in, or answers 503.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.admission.writes.try_acquire() else {
        return overloaded("writes").into_response();
    };
    next.run(request).await
}
