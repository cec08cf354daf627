//! The settings of the HTTP interface: limits of requests and of connections.

use crate::settings::{Count, Invalid, settings};
use crate::store::ByteSize;
use std::time::Duration;

/// How long requests under way may take to finish after a SIGTERM: with the mirror and the flush after it, within 10 s.
const GRACE: Duration = Duration::from_secs(5);
/// Connections kept free for probes.
const SPARE_CONNECTIONS: usize = 64;
/// What the parser of requests holds beyond `max_header`, so that a request a little too large gets a readable answer.
const HEADER_SLACK: usize = 32 << 10;

settings! {
    /// The settings of the HTTP interface.
    pub struct Settings, SettingFlags {
        "Limits" {
            max_body: ByteSize = "16MiB", "SIZE",
                "Largest body of POST /events, after decompression; larger is 413. All other calls: 1MiB";
            max_batch: Count<1, 100_000_000> = "10000", "N", "Most events in one request; more are 413, nothing counted";
            max_header: ByteSize = "32KiB", "SIZE", "Largest request target and header; larger is 431";
            max_connections: Count<1, 10_000_000> = "4096", "N",
                "Connections open at once, or as many as --connection-memory has room for; for one more, the one that has asked \
                 for nothing for longest is closed";
            max_reads: Count<1, 10_000_000> = "4096", "N", "Reads under way at once; more are answered 503";
            max_writes: Count<1, 10_000_000> = "1024", "N", "Writes under way at once; more are answered 503";
            request_timeout: Duration = "30s", "DURATION", "How long a request's body may take to arrive; longer is 408";
            min_body_rate: ByteSize = "4KiB", "SIZE",
                "What a body must bring each second, on the whole (slower for 5 s: 408), and a large answer be taken at (10 s: closed)";
            header_timeout: Duration = "10s", "DURATION", "How long a request's header may take to arrive; longer is 408";
            idle_timeout: Duration = "75s", "DURATION", "How long a connection may stay open without a request";
        }
    }
}

impl Settings {
    /// Checks that the settings make sense.
    pub fn check(&self) -> Result<(), Invalid> {
        for (name, timeout) in [
            ("request_timeout", self.request_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if timeout.is_zero() {
                return Err(Invalid::new(name, "leaves no time at all"));
            }
        }
        for (name, size) in [("max_header", self.max_header), ("max_body", self.max_body)] {
            let least = ByteSize(1 << 10);
            if size < least {
                return Err(Invalid::new(name, format!("is less than {least}")));
            }
        }
        Ok(())
    }

    /// The limits of requests, of which all bodies share `max_bodies` bytes and all large reads `max_read_memory`.
    pub fn limits(&self, max_bodies: u64, max_read_memory: u64) -> Limits {
        Limits {
            max_body: self.max_body.as_usize(),
            min_body_rate: self.min_body_rate.0,
            max_batch: self.max_batch.get(),
            max_header: self.max_header.as_usize(),
            request_timeout: self.request_timeout,
            max_reads: self.max_reads.get(),
            max_writes: self.max_writes.get(),
            max_bodies,
            max_read_memory,
        }
    }

    /// The limits of connections: how many there may be, and the bytes of headers that are not whole yet.
    pub fn server_options(&self, (max_connections, header_memory): (usize, usize)) -> ServerOptions {
        ServerOptions {
            max_connections,
            spare_connections: SPARE_CONNECTIONS,
            header_memory,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            header_buffer: self.max_header.as_usize().saturating_add(HEADER_SLACK),
            grace: GRACE,
        }
    }
}

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

/// The bounds of connections.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections open at once.
    pub max_connections: usize,
    /// Connections beyond those that may only ask how the service is.
    pub spare_connections: usize,
    /// Memory for headers that are not whole yet.
    pub header_memory: usize,
    /// How long a request's header may take, from its first byte.
    pub header_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// The largest request header that the parser holds; below it `max_header` answers in a readable way.
    pub header_buffer: usize,
    /// How long requests under way may take to finish once the server stops.
    pub grace: Duration,
}
