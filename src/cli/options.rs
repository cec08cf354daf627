//! The options of each part of the service, made from the settings.

use super::serve::ServeOptions;
use super::snapshots;
use crate::config::{Config, ConfigError, Part};
use crate::shard::UnitOptions;

impl ServeOptions {
    /// Makes the options of all parts.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check_access()?;
        let plan = &config.plan;
        Ok(Self {
            listen: config.service.listen,
            admin_listen: config.service.admin_listen,
            access: config.auth.clone(),
            unit: UnitOptions {
                store: config.store_options(),
                policy: config.policy()?,
                rules: config.fixed_rules()?,
                shards: config.shards.options(plan.bytes(Part::Mailboxes).as_usize()),
            },
            units: config.service.units.get(),
            memory: plan.clone(),
            events: config.event_reader(),
            limits: config.http.limits(plan.bytes(Part::Bodies).0, plan.bytes(Part::Reads).0),
            server: config.http.server_options(config.connections()),
            mirror: config.mirror.options(),
            kafka: config.kafka.options(config.shards.mailbox_events.get()),
            output: config.kafka.output_options(),
            snapshots: snapshots::Options::new(&config.snapshots, config.store_options(), plan.bytes(Part::Snapshots)),
            drain: config.service.drain,
            exit_when_poisoned: config.service.exit_when_poisoned,
        })
    }
}
