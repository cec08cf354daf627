//! The settings as the parts of the service want them.

use super::access::AccessOptions;
use super::serve::ServeOptions;
use crate::config::{Config, ConfigError, Part};
use crate::http::{Limits, ServerOptions};
use crate::shard;
use std::time::Duration;

/// How long requests under way may take to finish after a SIGTERM: with the mirror and the flush after it, within 10 s.
const GRACE: Duration = Duration::from_secs(5);

/// Connections kept free for probes.
const SPARE_CONNECTIONS: usize = 64;

/// What the parser of requests holds beyond `max_header`, so that a request a little too large gets a readable answer.
const HEADER_SLACK: usize = 32 << 10;

impl ServeOptions {
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check_access()?;
        let max_header = config.max_header.as_usize();
        let (max_connections, header_memory) = config.connections();
        Ok(Self {
            listen: config.listen,
            admin_listen: config.admin_listen,
            access: AccessOptions {
                keys_file: config.keys_file.clone(),
                hosts: config.hosts.clone(),
                public_listen: config.public_listen,
            },
            store: config.store_options(),
            memory: config.plan.clone(),
            policy: config.policy()?,
            rules: config.fixed_rules()?,
            shards: shard::Options {
                writers: config.writers.get(),
                mailbox_events: config.mailbox_events.get(),
                mailbox_bytes: config.plan.bytes(Part::Mailboxes).as_usize(),
                min_free_disk: config.min_free_disk.0,
                max_offline: config.max_offline,
                accept_clock: config.accept_clock,
                erase_within: config.erase_within,
            },
            events: config.event_reader(),
            limits: Limits {
                max_body: config.max_body.as_usize(),
                min_body_rate: config.min_body_rate.0,
                max_batch: config.max_batch.get(),
                max_header,
                request_timeout: config.request_timeout,
                max_reads: config.max_reads.get(),
                max_writes: config.max_writes.get(),
                max_bodies: config.plan.bytes(Part::Bodies).0,
                max_read_memory: config.plan.bytes(Part::Reads).0,
            },
            server: ServerOptions {
                max_connections,
                spare_connections: SPARE_CONNECTIONS,
                header_memory,
                header_timeout: config.header_timeout,
                idle_timeout: config.idle_timeout,
                header_buffer: max_header.saturating_add(HEADER_SLACK),
                grace: GRACE,
            },
            mirror: config.mirror_options(),
            kafka: config.kafka_options(),
            output: config.output_options(),
            drain: config.drain,
            exit_when_poisoned: config.exit_when_poisoned,
        })
    }
}
