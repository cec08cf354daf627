//! The bounds of a request.

use std::time::Duration;

/// The bounds of a request, and of all requests together.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body of events, as sent and as unpacked.
    pub max_body: usize,
    /// Bytes per second at which a body must come, on the whole.
    pub min_body_rate: u64,
    /// Events of a batch.
    pub max_batch: usize,
    /// Bytes of a request's target and header.
    pub max_header: usize,
    /// How long a body may take to arrive.
    pub request_timeout: Duration,
    /// Reads under way at once.
    pub max_reads: usize,
    /// Writes under way at once.
    pub max_writes: usize,
    /// Bytes of all bodies in memory at once.
    pub max_bodies: u64,
    /// Bytes of all that is read and answered in memory at once, beyond a little that each read may have.
    pub max_read_memory: u64,
}
