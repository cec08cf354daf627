//! The settings and options of the adapter and of the output.

use crate::model::{Span, TsMs};
use crate::settings::{Count, Invalid, Value, by_name, by_own_error, settings};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

settings! {
    /// The settings of the adapter and of the output.
    pub struct Settings, SettingFlags {
        "Kafka" {
            kafka_brokers: Option<String> = "none", "HOST:PORT|none",
                "Kafka to pull events from, or to tell changes of caps: one or more brokers, separated by commas";
            kafka_topic: Option<String> = "none", "TOPIC", "The topic that is pulled, all of its partitions";
            kafka_group: String = "freqcap", "GROUP",
                "The consumer group under which it is told how far the topic was read, and by whom";
            kafka_from: StartFrom = "retention", "WHEN",
                "Where a topic is begun that was never read: earliest, a duration ago (2d), a time (ms or RFC 3339), or as \
                 far back as events count (retention)";
            kafka_dlq: Option<String> = "none", "TOPIC|none",
                "The topic for records that cannot be used; without one they are counted and logged";
            kafka_output: Option<String> = "none", "TOPIC|none",
                "A topic that is told every change of a cap (capped, extended, shortened, ended), keyed by user";
            kafka_consumers: Count<1, 64> = "1", "N", "Threads that read the topic, its partitions split among them";
            kafka_on_change: OnChange = "stop", "stop|earliest",
                "What becomes of a partition whose topic was made anew: it is left alone, or read from its beginning";
            kafka_takeover: bool = "false", "true|false", "Read the topic even if another data directory does so";
            kafka_set: ClientSettings = "none", "KEY=VALUE,..|none",
                "Settings of librdkafka, for TLS and SASL among others (security.protocol=SASL_SSL,sasl.username=me)";
            kafka_set_file: Option<PathBuf> = "none", "FILE|none",
                "File with more settings of librdkafka, key=value a line, for those that are secret (sasl.password); read at \
                 start, and stronger than --kafka-set";
        }
    }
}

by_own_error!(StartFrom);
by_name!(OnChange);

impl Value for ClientSettings {
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|why: ClientSettingsError| why.to_string())
    }
}

impl Settings {
    /// Reads the file of secret settings.
    pub fn read_secrets(&mut self) -> Result<(), Invalid> {
        const FILE: &str = "kafka_set_file";
        if let Some(path) = &self.kafka_set_file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|why| Invalid::new(FILE, format!("cannot be read: {why}")))?;
            self.kafka_set.add_lines(&text).map_err(|why| Invalid::new(FILE, why.to_string()))?;
        }
        Ok(())
    }

    /// Checks that the settings fit each other.
    pub fn check(&self) -> Result<(), Invalid> {
        let (topic, output, dead_letters) = (&self.kafka_topic, &self.kafka_output, &self.kafka_dlq);
        if self.kafka_brokers.is_some() && topic.is_none() && output.is_none() {
            return Err(Invalid::new("kafka_brokers", "is of no use without --kafka-topic or --kafka-output"));
        }
        for (name, topic) in [("kafka_topic", topic), ("kafka_output", output)] {
            if topic.is_some() && self.kafka_brokers.is_none() {
                return Err(Invalid::new(name, "is of no use without --kafka-brokers"));
            }
        }
        if dead_letters.is_some() && dead_letters == output {
            return Err(Invalid::new("kafka_dlq", "is the topic that changes of caps are told to"));
        }
        if output.is_some() && output == topic {
            return Err(Invalid::new("kafka_output", "is the topic that is read"));
        }
        if dead_letters.is_some() && dead_letters == topic {
            return Err(Invalid::new("kafka_dlq", "is the topic that is read"));
        }
        Ok(())
    }

    fn cluster(&self) -> Option<Cluster> {
        Some(Cluster { brokers: self.kafka_brokers.clone()?, settings: self.kafka_set.clone() })
    }

    /// The options of the output of cap changes; `None` without `--kafka-output`.
    pub fn output_options(&self) -> Option<OutputOptions> {
        Some(OutputOptions { cluster: self.cluster()?, topic: self.kafka_output.clone()? })
    }

    /// The options of the adapter; `None` without `--kafka-topic`. A writer's mailbox holds `mailbox_events`.
    pub fn options(&self, mailbox_events: usize) -> Option<Options> {
        Some(Options {
            cluster: self.cluster()?,
            topic: self.kafka_topic.clone()?,
            group: self.kafka_group.clone(),
            from: self.kafka_from,
            dead_letters: self.kafka_dlq.clone(),
            consumers: self.kafka_consumers.get(),
            on_change: self.kafka_on_change,
            takeover: self.kafka_takeover,
            // Half of a mailbox at most: requests need the rest.
            in_flight: (mailbox_events / 2).clamp(1, 32_768),
        })
    }
}

/// A Kafka cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Where to find it: `host:port`, several separated by commas.
    pub brokers: String,
    /// Settings of librdkafka for every client.
    pub settings: ClientSettings,
}

/// The options of the output of cap changes.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputOptions {
    /// The cluster.
    pub cluster: Cluster,
    /// The topic that changes are written to.
    pub topic: String,
}

/// The options of the adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The cluster.
    pub cluster: Cluster,
    /// The topic that is read.
    pub topic: String,
    /// The consumer group that offsets are committed under.
    pub group: String,
    /// Where to begin a topic that was never read.
    pub from: StartFrom,
    /// The topic for dead letters.
    pub dead_letters: Option<String>,
    /// Threads that read and parse.
    pub consumers: usize,
    /// What happens to a partition whose topic was made anew.
    pub on_change: OnChange,
    /// Takes the group from another store, once.
    pub takeover: bool,
    /// Events that were read and are not durable yet, over all partitions.
    pub in_flight: usize,
}

/// Where to begin a topic that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// As far back as events can count: the retention.
    Retention,
    /// From the first record that Kafka has.
    Earliest,
    /// From the first record that Kafka has of this time or later.
    At(TsMs),
    /// This far back, in ms.
    Ago(u64),
}

/// The text is not one of the forms of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is none of `retention`, `earliest`, a duration (7d), a time in ms since 1970 or in RFC 3339")]
pub struct StartFromError;

impl FromStr for StartFrom {
    type Err = StartFromError;

    fn from_str(text: &str) -> Result<Self, StartFromError> {
        match text {
            "retention" => return Ok(Self::Retention),
            "earliest" => return Ok(Self::Earliest),
            _ => {}
        }
        let ago = text.parse::<Span>().map(|span| Self::Ago(span.as_millis()));
        ago.or_else(|_| TsMs::from_text(text).map(Self::At)).map_err(|_| StartFromError)
    }
}

/// What happens to a partition whose topic was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnChange {
    /// Reading stops.
    #[default]
    Stop,
    /// It is read from its beginning, and everything in it is new.
    Earliest,
}

/// Settings that are passed to librdkafka. They may hold passwords, so values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings(Vec<(String, String)>);

/// Why a text is not a list of librdkafka settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ClientSettingsError {
    #[error("is not of the form key=value,key=value with the names of librdkafka's settings")]
    Form,
    #[error("has a line that is not of the form key=value with the name of a setting of librdkafka")]
    Line,
    #[error("sets {0}, which freqcap sets itself")]
    Ours(String),
}

impl ClientSettings {
    /// Settings that exactly-once counting depends on.
    const OURS: [&str; 9] = [
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "metadata.broker.list",
    ];

    /// Adds the settings of a file: one `key=value` per line; empty lines and comments (`#`) are skipped. Later
    /// settings win.
    pub fn add_lines(&mut self, text: &str) -> Result<(), ClientSettingsError> {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').ok_or(ClientSettingsError::Line)?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "" => return Err(ClientSettingsError::Line),
                ours if Self::OURS.contains(&ours) => return Err(ClientSettingsError::Ours(ours.to_owned())),
                _ => self.0.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(())
    }

    /// Names and values, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl FromStr for ClientSettings {
    type Err = ClientSettingsError;

    /// A part without `=` belongs to the value before it: lists have commas, too.
    fn from_str(text: &str) -> Result<Self, ClientSettingsError> {
        let mut settings: Vec<(String, String)> = Vec::new();
        for part in text.split(',').filter(|_| text != "none") {
            match (part.split_once('='), settings.last_mut()) {
                (Some((key, _)), _) if Self::OURS.contains(&key.trim()) => {
                    return Err(ClientSettingsError::Ours(key.trim().to_owned()));
                }
                (Some((key, value)), _) if !key.trim().is_empty() => {
                    settings.push((key.trim().to_owned(), value.to_owned()));
                }
                (None, Some((_, value))) => {
                    value.push(',');
                    value.push_str(part);
                }
                _ => return Err(ClientSettingsError::Form),
            }
        }
        Ok(Self(settings))
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_a_span_or_a_time() {
        let day = 86_400_000;
        for (text, start) in [
            ("retention", StartFrom::Retention),
            ("earliest", StartFrom::Earliest),
            ("2d", StartFrom::Ago(2 * day)),
            ("1732233600000", StartFrom::At(TsMs(1_732_233_600_000))),
            ("2024-11-22T00:00:00Z", StartFrom::At(TsMs(1_732_233_600_000))),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for bad in ["", "latest", "1732233600", "-2d"] {
            assert_eq!(bad.parse::<StartFrom>(), Err(StartFromError), "{bad}");
        }
    }

    #[test]
    fn client_settings_are_taken_and_their_values_not_printed() {
        let settings: ClientSettings = "sasl.mechanisms=PLAIN,sasl.password=a=b,c".parse().unwrap();
        assert_eq!(settings.iter().collect::<Vec<_>>(), [("sasl.mechanisms", "PLAIN"), ("sasl.password", "a=b,c")]);
        assert_eq!(format!("{settings:?}"), r#"["sasl.mechanisms", "sasl.password"]"#);
        assert_eq!("none".parse(), Ok(ClientSettings::default()));
        let mut settings: ClientSettings = "sasl.username=me".parse().unwrap();
        settings.add_lines("# who we are\n\n sasl.password = a=b,c \r\nsasl.username=you\n").unwrap();
        let all = [("sasl.username", "me"), ("sasl.password", "a=b,c"), ("sasl.username", "you")];
        assert_eq!(settings.iter().collect::<Vec<_>>(), all);
        assert_eq!(settings.add_lines("hunter2"), Err(ClientSettingsError::Line));
        assert_eq!(settings.add_lines("group.id=x"), Err(ClientSettingsError::Ours("group.id".to_owned())));
        assert_eq!("x".parse::<ClientSettings>(), Err(ClientSettingsError::Form));
        assert_eq!("group.id=x".parse::<ClientSettings>(), Err(ClientSettingsError::Ours("group.id".to_owned())));
    }
}
