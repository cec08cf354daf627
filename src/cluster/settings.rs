//! The settings of the cluster.

use super::node_url::{NodeUrl, are_loopback};
use crate::settings::{Count, Invalid, Value, by_name, by_own_error, settings};
use std::path::PathBuf;
use std::time::Duration;

/// The shortest session that brokers take by default, and the longest.
const SESSION: std::ops::RangeInclusive<Duration> = Duration::from_secs(6)..=Duration::from_secs(300);
/// The longest that a call may wait for its partition to move.
const FORWARD_WAIT_MAX: Duration = Duration::from_secs(30);

settings! {
    /// The settings of the cluster.
    pub struct Settings, SettingFlags {
        "Cluster" {
            cluster: bool = "false", "true|false",
                "Be one of several nodes that share the users: Kafka's log is the truth, its consumer group the membership";
            cluster_topic: String = "freqcap-log", "TOPIC",
                "The topic that is the cluster's log; made where it is missing. Its name is that of the consumer group, too";
            cluster_partitions: Count<1, 256> = "32", "N",
                "Partitions that the log is made with, a power of two: for ever, and the most nodes that can share the work";
            cluster_replication: Count<1, 16> = "3", "N", "Replicas that the log is made with; fewer where there are fewer brokers";
            cluster_session: Duration = "6s", "DURATION",
                "How long a node may be silent before its users go to others: 6s to 5m, as the brokers allow";
            cluster_key_file: Option<PathBuf> = "none", "FILE|none",
                "File with the secret, at least 32 letters, by which nodes know each other; needed beyond loopback unless they use \
                 client certificates";
            node_url: Option<NodeUrl> = "none", "URL",
                "Where other nodes reach this one: http://HOST:PORT or https://HOST:PORT. Every node has its own";
            forward_wait: Duration = "2s", "DURATION",
                "How long a call waits while its user moves to another node, before it gets 503 partition_moving: up to 30s";
            reads: Reads = "owner", "owner|available",
                "What is answered to reads while the owner cannot be sure to be it: 503, or what this node has, with its age";
        }
    }
}

/// What is answered to reads while a lease cannot be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Reads {
    /// Only what is exact.
    #[default]
    Owner,
    /// What there is.
    Available,
}

by_name!(Reads);
by_own_error!(NodeUrl);

/// A url that may be left out: `none`.
impl Value for Option<NodeUrl> {
    fn read(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(None) } else { NodeUrl::read(text).map(Some) }
    }
}

/// What the settings of other components say, for the cluster to fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// `--kafka-brokers`.
    pub brokers: Option<&'a str>,
    /// Whether there are `--snapshots`.
    pub has_snapshots: bool,
    /// Whether clients must show a certificate.
    pub has_client_certificates: bool,
}

impl Settings {
    /// Checks that the settings fit each other and those of other components. Without `--cluster` all fit.
    pub fn check(&self, around: Surroundings<'_>) -> Result<(), Invalid> {
        if !self.cluster {
            return Ok(());
        }
        let Some(brokers) = around.brokers else {
            return Err(Invalid::new("cluster", "needs --kafka-brokers: the log is a topic of theirs"));
        };
        if !around.has_snapshots {
            return Err(Invalid::new("cluster", "needs --snapshots: who takes users over restores them from there"));
        }
        if !self.cluster_partitions.get().is_power_of_two() {
            return Err(Invalid::new("cluster_partitions", "is not a power of two"));
        }
        if !SESSION.contains(&self.cluster_session) {
            return Err(Invalid::new("cluster_session", "is not from 6s to 5m"));
        }
        if self.forward_wait > FORWARD_WAIT_MAX {
            return Err(Invalid::new("forward_wait", "is longer than 30s"));
        }
        let Some(url) = &self.node_url else {
            return Err(Invalid::new("cluster", "needs --node-url: where other nodes reach this one"));
        };
        if url.is_loopback() && !are_loopback(brokers) {
            let why = "is of this machine alone, while the brokers are elsewhere: other nodes could not reach it";
            return Err(Invalid::new("node_url", why));
        }
        let knows_nodes = self.cluster_key_file.is_some() || around.has_client_certificates;
        if !url.is_loopback() && !knows_nodes {
            let why = "is reached from other machines, so nodes must know each other: set --cluster-key-file, the same for all";
            return Err(Invalid::new("node_url", why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Defaults;

    fn settings() -> Settings {
        let defaults = Settings::read(&Defaults).unwrap();
        Settings { cluster: true, node_url: Some("http://a:8080".parse().unwrap()), ..defaults }
    }

    fn around() -> Surroundings<'static> {
        Surroundings { brokers: Some("kafka:9092"), has_snapshots: true, has_client_certificates: false }
    }

    #[test]
    fn without_a_cluster_nothing_is_asked_for() {
        assert!(Settings::read(&Defaults).unwrap().check(Surroundings::default()).is_ok());
    }

    #[test]
    fn nodes_beyond_loopback_must_know_each_other() {
        let key = Settings { cluster_key_file: Some("key".into()), ..settings() };
        assert!(key.check(around()).is_ok());
        assert!(settings().check(Surroundings { has_client_certificates: true, ..around() }).is_ok());
        assert_eq!(settings().check(around()).unwrap_err().name, "node_url");
        let local = Settings { node_url: Some("http://localhost:8080".parse().unwrap()), ..settings() };
        assert!(local.check(Surroundings { brokers: Some("127.0.0.1:9092"), ..around() }).is_ok());
    }

    #[test]
    fn each_thing_that_does_not_fit_names_its_setting() {
        let key = Settings { cluster_key_file: Some("key".into()), ..settings() };
        let read = |partitions| Count::<1, 256>::read(partitions).unwrap();
        for (settings, around, name) in [
            (key.clone(), Surroundings { brokers: None, ..around() }, "cluster"),
            (key.clone(), Surroundings { has_snapshots: false, ..around() }, "cluster"),
            (Settings { node_url: None, ..key.clone() }, around(), "cluster"),
            (Settings { cluster_partitions: read("12"), ..key.clone() }, around(), "cluster_partitions"),
            (Settings { cluster_session: Duration::from_secs(5), ..key.clone() }, around(), "cluster_session"),
            (Settings { forward_wait: Duration::from_secs(31), ..key.clone() }, around(), "forward_wait"),
            (Settings { node_url: Some("http://127.0.0.1:1".parse().unwrap()), ..key.clone() }, around(), "node_url"),
        ] {
            assert_eq!(settings.check(around).unwrap_err().name, name);
        }
        assert!(Count::<1, 256>::read("512").is_err());
    }
}
