//! The settings of the process itself.

use crate::settings::{Value, settings};
use crate::store::is_count;
use crate::telemetry::LogFormat;
use std::net::SocketAddr;
use std::time::Duration;

settings! {
    /// The settings of the process itself.
    pub struct ServiceSettings, ServiceFlags {
        "Service" {
            listen: SocketAddr = "127.0.0.1:8080", "ADDR",
                "Address and port to listen on. Not set anywhere, and PORT is in the environment: 0.0.0.0:$PORT";
            admin_listen: Option<SocketAddr> = "none", "ADDR|none",
                "A second address for operators, with a thread of its own, which no load reaches: probes, metrics, status, rules, \
                 users, snapshots, the audit, /docs. They are then only there; the other has events and decisions";
            drain: Duration = "0s", "DURATION",
                "How long requests are still taken after SIGTERM, while /readyz already says 503";
            exit_when_poisoned: bool = "false", "true|false",
                "End with an error once only a restart helps: a write failed, a thread panicked, the disk hangs";
            units: UnitCount = "1", "N",
                "Stores that share the users between them, each with writers of its own: a power of two, 256 at most. It never \
                 changes for a data directory";
            log: String = "info", "FILTER",
                "What is logged to standard error: error, warn, info, debug, trace, or by module (info,freqcap=debug)";
            log_format: LogFormat = "text", "text|json", "How log lines look";
        }
    }
}

/// How many units a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitCount(usize);

impl UnitCount {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Value for UnitCount {
    fn read(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|&units| is_count(units));
        count.map(Self).ok_or_else(|| "is not a power of two from 1 to 256".to_owned())
    }
}
