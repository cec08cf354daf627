//! What the service is told: flags, then `FREQCAP_*` variables, then the settings file, then defaults.

mod cgroup;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod memory;
mod rules;
mod settings;
#[cfg(test)]
mod tests;
mod value;

pub use cgroup::{ContainerLimit, container_limit};
pub use memory::{BudgetSource, MemoryPlan, Part, Share};
pub use rules::RuleConfig;
pub use settings::{Config, Flags};
pub use value::{Count, DuplicateWindow, Writers};

use crate::engine::Policy;
use crate::input::{EventReader, FieldsConfig};
use crate::kafka;
use crate::mirror;
use crate::model::{Kind, Rule, RuleId, RuleSet};
use crate::shard::Source;
use crate::store::{ByteSize, StoreOptions};
use file::File;
use settings::SETTINGS;
use std::path::Path;
use std::time::Duration;
use value::Value;

/// What is wrong with the settings: names the setting as its source has it, and says what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// Who said what, in the order in which they are asked.
struct Sources<'s> {
    flags: &'s Flags,
    variable: &'s dyn Fn(&str) -> Option<String>,
    file: Option<File>,
}

impl Sources<'_> {
    /// The text of a setting, and where it stands as its source writes it.
    fn text(&self, name: &str) -> (String, String) {
        if let Some(text) = self.flags.get(name) {
            return (text.to_owned(), format!("--{}", name.replace('_', "-")));
        }
        let variable = variable_of(name);
        if let Some(text) = self.variable(&variable) {
            return (text, variable);
        }
        if let Some((file, text)) = self.file.as_ref().and_then(|file| Some((file, file.values.get(name)?))) {
            return (text.clone(), format!("{}: {name}", file.path.display()));
        }
        if name == "listen"
            && let Some(port) = self.variable("PORT")
        {
            return (format!("0.0.0.0:{port}"), "PORT".to_owned());
        }
        let default = SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default);
        (default.to_owned(), default_of(name))
    }

    /// A variable; an empty one is as good as none (`FREQCAP_REDIS=${REDIS:-}`).
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|text| !text.is_empty())
    }

    fn value<T: Value>(&self, name: &str) -> Result<T, ConfigError> {
        let (text, origin) = self.text(name);
        T::read(&text).map_err(|why| match (name, origin.as_str()) {
            // Never a password on a terminal or in a log.
            ("redis" | "kafka_set", _) => ConfigError(format!("{origin}: the value {why}")),
            (_, "PORT") => ConfigError(format!("PORT: {:?} is no port number", text.trim_start_matches("0.0.0.0:"))),
            _ => ConfigError(format!("{origin}: {text:?} {why}")),
        })
    }

    /// Where a setting stands as its source writes it, unless it has its default.
    fn set_at(&self, name: &str) -> Option<String> {
        let (_, origin) = self.text(name);
        (origin != default_of(name)).then_some(origin)
    }

    fn fields(&self) -> Result<FieldsConfig, ConfigError> {
        let Some(file) = &self.file else { return Ok(FieldsConfig::default()) };
        EventReader::new(&file.fields).map_err(|why| ConfigError(format!("{}: {why}", file.path.display())))?;
        Ok(file.fields.clone())
    }

    fn rules(&self) -> Result<Vec<RuleConfig>, ConfigError> {
        Ok(self.file.as_ref().map(|file| file.rules.clone()).unwrap_or_default())
    }
}

fn default_of(name: &str) -> String {
    format!("the default of {name}")
}

fn variable_of(name: &str) -> String {
    format!("FREQCAP_{}", name.to_uppercase())
}

impl Config {
    /// Gathers the settings from the flags, the process' environment and the file that either of them names.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let variable = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
        Self::from_sources(flags, &variable, container_limit())
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
        config.read_secrets(&sources)?;
        config.check(&sources)?;
        config.plan = config.plan_memory(&sources, container)?;
        Ok(config)
    }

    /// Puts what the files of secrets hold in its place.
    fn read_secrets(&mut self, sources: &Sources<'_>) -> Result<(), ConfigError> {
        let fail = |name: &str, why: &dyn std::fmt::Display| {
            let (path, origin) = sources.text(name);
            ConfigError(format!("{origin}: {path:?} {why}"))
        };
        let read = |name: &str, path: &Path| {
            std::fs::read_to_string(path).map_err(|why| fail(name, &format_args!("cannot be read: {why}")))
        };
        let password = match &self.redis_password_file {
            Some(path) => {
                let text = read("redis_password_file", path)?;
                let password = text.strip_suffix('\n').unwrap_or(&text);
                let password = password.strip_suffix('\r').unwrap_or(password);
                if password.is_empty() {
                    return Err(fail("redis_password_file", &"is empty"));
                }
                Some(password.to_owned())
            }
            None => None,
        };
        match &mut self.redis {
            Some(servers) => servers.set_credentials(self.redis_username.clone(), password),
            None if self.redis_username.is_some() => {
                return Err(fail("redis_username", &"is of no use without --redis"));
            }
            None if password.is_some() => return Err(fail("redis_password_file", &"is of no use without --redis")),
            None => {}
        }
        if let Some(path) = &self.kafka_set_file {
            let text = read("kafka_set_file", path)?;
            self.kafka_set.add_lines(&text).map_err(|why| fail("kafka_set_file", &why))?;
        }
        Ok(())
    }

    /// Whether the service may listen where it is told to: who asks for no key listens where only this machine reaches it,
    /// unless told otherwise. Only `serve` asks.
    pub fn check_access(&self) -> Result<(), ConfigError> {
        if self.keys_file.is_some() || self.open {
            return Ok(());
        }
        for (name, addr) in [("listen (or PORT)", Some(self.listen)), ("admin-listen", self.admin_listen)] {
            if let Some(addr) = addr
                && !addr.ip().to_canonical().is_loopback()
            {
                return Err(ConfigError(format!(
                    "{name}: {addr} may be reached from other machines, and without keys everybody may do everything: name the \
                     keys with --keys-file (freqcap key new makes one), or say --open if something in front keeps others out"
                )));
            }
        }
        Ok(())
    }

    /// What no setting can tell alone.
    fn check(&self, sources: &Sources<'_>) -> Result<(), ConfigError> {
        let at = |name: &str, why: &str| {
            let (text, origin) = sources.text(name);
            Err(ConfigError(format!("{origin}: {text:?} {why}")))
        };
        for (name, timeout) in [
            ("request_timeout", self.request_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if timeout.is_zero() {
                return at(name, "leaves no time at all");
            }
        }
        for (name, size, least) in [
            ("memory", self.memory, memory::LEAST_BUDGET),
            ("block_cache", self.block_cache, ByteSize(64 << 10)),
            ("write_buffer", self.write_buffer, ByteSize(64 << 10)),
            ("overlay_size", self.overlay_size, ByteSize(64 << 10)),
            ("read_memory", self.read_memory, ByteSize::mib(1)),
            ("mailbox_memory", self.mailbox_memory, ByteSize(64 << 10)),
            ("connection_memory", self.connection_memory, ByteSize::mib(1)),
            ("max_header", Some(self.max_header), ByteSize(1 << 10)),
            ("max_body", Some(self.max_body), ByteSize(1 << 10)),
        ] {
            if size.is_some_and(|size| size < least) {
                return at(name, &format!("is less than {least}"));
            }
        }
        // Rows of the overlay are found by 32 bits.
        if self.overlay_size.is_some_and(|size| size.0 > 4 << 30) {
            return at("overlay_size", "is more than 4GiB");
        }
        if self.max_bodies.is_some_and(|most| most < self.max_body) {
            return at(
                "max_bodies",
                &format!("is less than max-body ({}): no such body would ever be taken", self.max_body),
            );
        }
        if self.kafka_brokers.is_some() && self.kafka_topic.is_none() && self.kafka_output.is_none() {
            return at("kafka_brokers", "is of no use without --kafka-topic or --kafka-output");
        }
        for (name, topic) in [("kafka_topic", &self.kafka_topic), ("kafka_output", &self.kafka_output)] {
            if topic.is_some() && self.kafka_brokers.is_none() {
                return at(name, "is of no use without --kafka-brokers");
            }
        }
        if self.kafka_dlq.is_some() && self.kafka_dlq == self.kafka_output {
            return at("kafka_dlq", "is the topic that changes of caps are told to");
        }
        if self.kafka_output.is_some() && self.kafka_output == self.kafka_topic {
            return at("kafka_output", "is the topic that is read");
        }
        if self.kafka_dlq.is_some() && self.kafka_dlq == self.kafka_topic {
            return at("kafka_dlq", "is the topic that is read");
        }
        if self.erase_within < Duration::from_secs(1) {
            return at("erase_within", "is less than 1s");
        }
        if self.max_skew > Duration::from_secs(86_400) {
            return at("max_skew", "is more than a day");
        }
        if let Some(rule) = self.default_rule()
            && rule.rule(self.history_limit.get()).is_err()
        {
            let most = self.history_limit.get();
            return at("limit", &format!("is more than a log keeps (--history-limit {most})"));
        }
        let file = sources.file.as_ref().map_or(Path::new(""), |file| &file.path).display();
        self.policy().map(drop).map_err(|why| ConfigError(format!("{file}: {}", why.0)))
    }

    /// The rule that `limit` and `window` make.
    fn default_rule(&self) -> Option<RuleConfig> {
        self.limit.map(|limit| RuleConfig::default_rule(Some(limit), self.window.clone(), Kind::IMPRESSION))
    }

    /// The rules of the flags and the file.
    pub fn fixed_rules(&self) -> Result<Vec<(Rule, Source)>, ConfigError> {
        let mut rules: Vec<(Rule, Source)> = Vec::new();
        let default = self.default_rule();
        let flags = default.iter().map(|rule| (rule, Source::Flags));
        for (rule, source) in flags.chain(self.rules.iter().map(|rule| (rule, Source::File))) {
            let rule = rule.rule(self.history_limit.get()).map_err(ConfigError)?;
            if rules.iter().any(|(other, _)| other.id == rule.id) {
                let id = rule.id.as_str();
                let by_flags = id == RuleId::DEFAULT && self.limit.is_some();
                let why = if by_flags {
                    "limit and window make one of that name (--limit none makes none)"
                } else {
                    "there are two"
                };
                return Err(ConfigError(format!("rule {id:?}: {why}")));
            }
            rules.push((rule, source));
        }
        Ok(rules)
    }

    /// The rules of the flags and the file, and the limits of what is held.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        Ok(Policy::new(
            RuleSet::new(self.fixed_rules()?.into_iter().map(|(rule, _)| rule)),
            self.history_limit.get(),
            self.retention.as_millis(),
            self.lifetime_retention.as_millis(),
            u64::try_from(self.max_skew.as_millis()).unwrap_or(u64::MAX),
        )
        .with_duplicate_window_ms(self.duplicate_window.as_millis())
        .with_nobody(self.ignore_users.clone()))
    }

    /// What the store is opened with.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            data_dir: self.data_dir.clone(),
            storage: self.storage,
            durability: self.durability,
            keep_changes: self.redis.is_some() || self.output_options().is_some(),
            block_cache: self.plan.bytes(Part::BlockCache),
            overlay_size: self.plan.bytes(Part::Overlay),
            existence_filter: self.plan.bytes(Part::ExistenceFilter),
            write_buffer: self.plan.write_buffer(),
            bloom_bits: self.bloom_bits.get() as f64,
            compression: self.compression,
            background_jobs: i32::try_from(self.background_jobs.get()).unwrap_or(i32::MAX),
            ..StoreOptions::default()
        }
    }

    /// What the mirror is set up with, where there is one.
    pub fn mirror_options(&self) -> Option<mirror::Options> {
        Some(mirror::Options {
            prefix: self.redis_prefix.clone(),
            layout: self.redis_layout,
            // A sweep compares everything: no more often than it could do any good.
            sweep: self.redis_sweep.as_duration().max(Duration::from_secs(1)),
            takeover: self.redis_takeover,
            ..mirror::Options::new(self.redis.clone()?)
        })
    }

    fn kafka_cluster(&self) -> Option<kafka::Cluster> {
        Some(kafka::Cluster { brokers: self.kafka_brokers.clone()?, settings: self.kafka_set.clone() })
    }

    /// What the output of cap changes is set up with, where there is one.
    pub fn output_options(&self) -> Option<kafka::OutputOptions> {
        Some(kafka::OutputOptions { cluster: self.kafka_cluster()?, topic: self.kafka_output.clone()? })
    }

    /// What the Kafka adapter is set up with, where there is one.
    pub fn kafka_options(&self) -> Option<kafka::Options> {
        Some(kafka::Options {
            cluster: self.kafka_cluster()?,
            topic: self.kafka_topic.clone()?,
            group: self.kafka_group.clone(),
            from: self.kafka_from,
            dead_letters: self.kafka_dlq.clone(),
            consumers: self.kafka_consumers.get(),
            on_change: self.kafka_on_change,
            takeover: self.kafka_takeover,
            // No more than half of what the mailboxes hold: requests want room, too.
            in_flight: (self.mailbox_events.get() / 2).clamp(1, 32_768),
        })
    }

    /// The reader of events in the form that `[fields]` say.
    pub fn event_reader(&self) -> EventReader {
        // Checked when the settings were read.
        EventReader::new(&self.fields).unwrap_or_default()
    }
}
