//! All settings: flags, then `FREQCAP_*` variables, then the settings file, then defaults.
//!
//! Each component declares its settings beside its options, by [`crate::settings`]; here they are read, checked and put together.

mod capping;
mod cgroup;
mod error;
mod file;
mod flags;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod memory;
mod memory_settings;
mod planner;
mod rules;
mod service;
mod sources;
#[cfg(test)]
mod tests;

pub use capping::{CappingFlags, CappingSettings, DuplicateWindow};
pub use cgroup::{ContainerLimit, container_limit};
pub use error::ConfigError;
pub use flags::Flags;
pub use memory::{BudgetSource, MemoryPlan, Part, Share};
pub use memory_settings::{MemoryFlags, MemorySettings};
pub use rules::RuleConfig;
pub use service::{ServiceFlags, ServiceSettings, UnitCount};

use crate::engine::Policy;
use crate::input::{EventReader, FieldsConfig};
use crate::model::Rule;
use crate::settings::Invalid;
use crate::shard::Source;
use crate::store::{StorageKind, StoreOptions};
use crate::{auth, http, kafka, mirror, shard, snapshot, store};
use file::File;
use planner::Planner;
use sources::Sources;
use std::path::Path;

/// The settings in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Of the process.
    pub service: ServiceSettings,
    /// Of who may call.
    pub auth: auth::Settings,
    /// Of caps.
    pub capping: CappingSettings,
    /// Of the store.
    pub store: store::Settings,
    /// Of the shards.
    pub shards: shard::Settings,
    /// Of memory.
    pub memory: MemorySettings,
    /// Of the HTTP interface.
    pub http: http::Settings,
    /// Of the mirror.
    pub mirror: mirror::Settings,
    /// Of Kafka.
    pub kafka: kafka::Settings,
    /// Of snapshots.
    pub snapshots: snapshot::Settings,
    /// Where in a payload the fields of an event are.
    pub fields: FieldsConfig,
    /// The rules of the file, besides the one that `limit` and `window` make.
    pub rules: Vec<RuleConfig>,
    /// How the memory budget is shared.
    pub plan: MemoryPlan,
}

impl Config {
    /// Gathers the settings from the flags, the process' environment and the file that either of them names.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        Self::from_sources(flags, &environment_variable, container_limit())
    }

    /// As [`Config::load`], with the environment and the limit of the container's memory given.
    pub fn from_sources(
        flags: &Flags,
        variable: &dyn Fn(&str) -> Option<String>,
        container: Option<ContainerLimit>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Sources { flags, variable, file: None };
        let named = sources.variable("FREQCAP_CONFIG").map(Into::into);
        if let Some(path) = flags.config.clone().or(named) {
            sources.file = Some(File::read(&path)?);
        }
        let mut config = Self::read(&sources)?;
        config.mirror.read_secrets().map_err(|why| sources.invalid(why))?;
        config.kafka.read_secrets().map_err(|why| sources.invalid(why))?;
        config.check(&sources)?;
        config.plan = {
            let Self { memory, http, snapshots, .. } = &config;
            let units = config.service.units.get();
            Planner { memory, http, snapshots, units, sources: &sources }.plan(container)?
        };
        Ok(config)
    }

    fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut config = Self {
            service: ServiceSettings::read(sources)?,
            auth: auth::Settings::read(sources)?,
            capping: CappingSettings::read(sources)?,
            store: store::Settings::read(sources)?,
            shards: shard::Settings::read(sources)?,
            memory: MemorySettings::read(sources)?,
            http: http::Settings::read(sources)?,
            mirror: mirror::Settings::read(sources)?,
            kafka: kafka::Settings::read(sources)?,
            snapshots: snapshot::Settings::read(sources)?,
            fields: FieldsConfig::default(),
            rules: Vec::new(),
            plan: MemoryPlan::default(),
        };
        if let Some(file) = &sources.file {
            EventReader::new(&file.fields).map_err(|why| ConfigError(format!("{}: {why}", file.path.display())))?;
            config.fields = file.fields.clone();
            config.rules.clone_from(&file.rules);
        }
        Ok(config)
    }

    /// Checks that the service may listen where it is told to. Only `serve` asks: other commands do not listen.
    pub fn check_access(&self) -> Result<(), ConfigError> {
        let listeners = [("listen (or PORT)", Some(self.service.listen)), ("admin-listen", self.service.admin_listen)];
        for (name, addr) in listeners {
            if let Some(addr) = addr {
                let refused = |Invalid { why, .. }| ConfigError(format!("{name}: {addr} {why}"));
                self.auth.check_listener(name, addr).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Checks what one setting alone cannot tell.
    fn check(&self, sources: &Sources<'_>) -> Result<(), ConfigError> {
        self.check_components().map_err(|why| sources.invalid(why))?;
        let file = sources.file.as_ref().map_or(Path::new(""), |file| &file.path).display();
        self.policy().map(drop).map_err(|why| ConfigError(format!("{file}: {}", why.0)))
    }

    fn check_components(&self) -> Result<(), Invalid> {
        self.http.check()?;
        self.auth.check()?;
        self.memory.check(self.http.max_body)?;
        self.kafka.check()?;
        self.shards.check()?;
        self.snapshots.check()?;
        if self.snapshots.snapshots.is_some() && self.service.units.get() > 1 {
            return Err(Invalid::new("snapshots", "cannot be taken of several units yet: start with --units 1"));
        }
        if self.snapshots.snapshots.is_some() && self.store.storage == StorageKind::Memory {
            return Err(Invalid::new("snapshots", "has nothing to take of --storage memory"));
        }
        self.capping.check()
    }

    /// The rules of the flags and the file.
    pub fn fixed_rules(&self) -> Result<Vec<(Rule, Source)>, ConfigError> {
        self.capping.fixed_rules(&self.rules)
    }

    /// The rules of the flags and the file, and the limits of a log.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        self.capping.policy(&self.rules)
    }

    /// The options of the store.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            keep_changes: self.mirror.redis.is_some() || self.kafka.output_options().is_some(),
            block_cache: self.plan.bytes(Part::BlockCache),
            overlay_size: self.plan.bytes(Part::Overlay),
            existence_filter: self.plan.bytes(Part::ExistenceFilter),
            write_buffer: self.plan.write_buffer(),
            ..self.store.options()
        }
    }

    /// How many connections there may be, and the bytes for headers that are not whole yet.
    pub fn connections(&self) -> (usize, usize) {
        self.plan.connections(self.http.max_connections.get(), self.auth.tls_cert.is_some())
    }

    /// The reader of events in the form that `[fields]` say.
    pub fn event_reader(&self) -> EventReader {
        // Checked when the settings were read.
        EventReader::new(&self.fields).unwrap_or_default()
    }
}

fn environment_variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}
