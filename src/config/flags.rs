//! All flags of `freqcap serve`: those of every component, and the settings file.

use super::capping::{CappingFlags, CappingSettings};
use super::memory_settings::{MemoryFlags, MemorySettings};
use super::service::{ServiceFlags, ServiceSettings};
use crate::settings::Setting;
use crate::{auth, http, kafka, mirror, shard, snapshot, store, stream};
use std::path::PathBuf;

/// The settings as flags, not read yet. A flag that is not given leaves its setting to the other sources.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Settings file in TOML; keys are the names of the flags, `[redis] prefix` is `redis-prefix`
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Of the process.
    #[command(flatten)]
    pub service: ServiceFlags,
    /// Of who may call.
    #[command(flatten)]
    pub auth: auth::SettingFlags,
    /// Of caps.
    #[command(flatten)]
    pub capping: CappingFlags,
    /// Of the store.
    #[command(flatten)]
    pub store: store::SettingFlags,
    /// Of the shards.
    #[command(flatten)]
    pub shards: shard::SettingFlags,
    /// Of memory.
    #[command(flatten)]
    pub memory: MemoryFlags,
    /// Of the HTTP interface.
    #[command(flatten)]
    pub http: http::SettingFlags,
    /// Of the mirror.
    #[command(flatten)]
    pub mirror: mirror::SettingFlags,
    /// Of Kafka.
    #[command(flatten)]
    pub kafka: kafka::SettingFlags,
    /// Of snapshots.
    #[command(flatten)]
    pub snapshots: snapshot::SettingFlags,
    /// Of the stream of cap changes.
    #[command(flatten)]
    pub stream: stream::SettingFlags,
}

impl Flags {
    /// The flags of a command that has but these two.
    pub fn of_file(config: Option<PathBuf>, data_dir: Option<String>) -> Self {
        Self { config, store: store::SettingFlags { data_dir, ..Default::default() }, ..Self::default() }
    }

    /// The text given for a setting.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let of_process = self.service.get(name).or_else(|| self.capping.get(name)).or_else(|| self.memory.get(name));
        of_process
            .or_else(|| self.auth.get(name))
            .or_else(|| self.store.get(name))
            .or_else(|| self.shards.get(name))
            .or_else(|| self.http.get(name))
            .or_else(|| self.mirror.get(name))
            .or_else(|| self.kafka.get(name))
            .or_else(|| self.snapshots.get(name))
            .or_else(|| self.stream.get(name))
    }
}

/// Every setting that there is.
pub(super) fn known() -> impl Iterator<Item = &'static Setting> {
    let components = [
        ServiceSettings::ALL,
        auth::Settings::ALL,
        CappingSettings::ALL,
        store::Settings::ALL,
        shard::Settings::ALL,
        MemorySettings::ALL,
        http::Settings::ALL,
        mirror::Settings::ALL,
        kafka::Settings::ALL,
        snapshot::Settings::ALL,
        stream::Settings::ALL,
    ];
    components.into_iter().flatten()
}
