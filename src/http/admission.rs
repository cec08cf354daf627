//! Admission: bounds the reads, the writes and the bytes of bodies and answers that are under way. What exceeds a bound is
//! refused at once; a queue would only make every call late.

use super::body_budget::{Bodies, BodyBudget};
use super::limits::Limits;
use super::problem::Problem;
use super::read_budget::{ReadBudget, ReadMemory};
use crate::shard::Refusal;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The permit of a call that was admitted. The call counts as under way until it is dropped.
pub(super) type Permit<'a> = SemaphorePermit<'a>;

/// The bounds of what is under way. There is one for the whole process.
#[derive(Debug)]
pub struct Admission {
    reads: Semaphore,
    writes: Semaphore,
    bodies: Arc<Bodies>,
    read_memory: Arc<ReadMemory>,
}

impl Admission {
    pub fn new(limits: &Limits) -> Self {
        Self {
            reads: permits(limits.max_reads),
            writes: permits(limits.max_writes),
            bodies: Arc::new(Bodies::new(limits.max_bodies, limits.min_body_rate)),
            read_memory: Arc::new(ReadMemory::new(limits.max_read_memory)),
        }
    }

    /// An empty budget, which grows with the body.
    pub(super) fn body_budget(&self) -> BodyBudget {
        BodyBudget::new(self.bodies.clone())
    }

    /// An empty budget, which grows with what is read and answered.
    pub(super) fn read_budget(&self) -> ReadBudget {
        ReadBudget::new(self.read_memory.clone())
    }

    /// Bytes of all bodies under way.
    pub(super) fn body_bytes(&self) -> u64 {
        self.bodies.bytes()
    }

    /// Bytes of all reads under way, beyond what each has without asking.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read_memory.bytes()
    }

    /// Admits a read.
    pub(super) fn read(&self) -> Result<Permit<'_>, Problem> {
        self.reads.try_acquire().map_err(|_| Problem::overloaded("reads"))
    }

    /// Admits a write.
    pub(super) fn write(&self) -> Result<Permit<'_>, Problem> {
        self.writes.try_acquire().map_err(|_| Refusal::Busy.into())
    }
}

fn permits(count: usize) -> Semaphore {
    Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS))
}
