//! The settings and options of the mirror.

use super::names::Layout;
use crate::model::Span;
use crate::settings::{Invalid, Value, by_name, settings};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

settings! {
    /// The settings of the mirror.
    pub struct Settings, SettingFlags {
        "Redis mirror" {
            redis: Option<Servers> = "none", "URL|none",
                "Redis to mirror capped pairs to: redis://[user:password@]host[:port][/db], rediss:// for TLS; any node of \
                 a Cluster will do, several servers to try are separated by commas";
            redis_username: Option<String> = "none", "TEXT|none", "Who to sign in to Redis as, in place of who the URL says";
            redis_password_file: Option<PathBuf> = "none", "FILE|none",
                "File with the password for Redis, in place of one in the URL, which every process on the machine can read; \
                 read at start, a line break at its end is dropped";
            redis_prefix: String = "cap:", "TEXT", "What the names of the mirror's keys begin with";
            redis_layout: Layout = "zset", "zset|string",
                "A sorted set per user (member = key, score = capped until), or a string per user and key";
            redis_sweep: Span = "1h", "DURATION", "How often everything is compared with what Redis holds";
            redis_takeover: bool = "false", "true|false", "Mirror even if another data directory owns the prefix there";
        }
    }
}

/// Where Redis is; `none` is no mirror.
impl Value for Option<Servers> {
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => text.parse().map(Some).map_err(|why: ServersError| format!("{why}, nor `none`")),
        }
    }
}

by_name!(Layout);

impl Settings {
    /// Reads the password from its file.
    pub fn read_secrets(&mut self) -> Result<(), Invalid> {
        const FILE: &str = "redis_password_file";
        let mut password = None;
        if let Some(path) = &self.redis_password_file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|why| Invalid::new(FILE, format!("cannot be read: {why}")))?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                return Err(Invalid::new(FILE, "is empty"));
            }
            password = Some(line.to_owned());
        }
        match &mut self.redis {
            Some(servers) => servers.set_credentials(self.redis_username.clone(), password),
            None if self.redis_username.is_some() => {
                return Err(Invalid::new("redis_username", "is of no use without --redis"));
            }
            None if password.is_some() => return Err(Invalid::new(FILE, "is of no use without --redis")),
            None => {}
        }
        Ok(())
    }

    /// The options of the mirror; `None` without `--redis`.
    pub fn options(&self) -> Option<Options> {
        Some(Options {
            prefix: self.redis_prefix.clone(),
            layout: self.redis_layout,
            // A sweep compares everything: more often than once a second is of no use.
            sweep: self.redis_sweep.as_duration().max(Duration::from_secs(1)),
            takeover: self.redis_takeover,
            ..Options::new(self.redis.clone()?)
        })
    }
}

/// The options of the mirror.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Redis is.
    pub servers: Servers,
    /// Prefix of every name of the mirror, used as it is.
    pub prefix: String,
    /// How caps are stored there.
    pub layout: Layout,
    /// Interval of full syncs that nothing else asks for. They repair evictions and changes made by hand.
    pub sweep: Duration,
    /// Takes the prefix from another store, once.
    pub takeover: bool,
    /// Timeout for connecting.
    pub connect_timeout: Duration,
    /// Timeout of one pipeline.
    pub response_timeout: Duration,
    /// Maximum changes in one pipeline.
    pub batch: usize,
    /// How long changes are kept after Redis acknowledged them: a failover may lose acknowledged writes.
    pub keep_told: Duration,
    /// With more changes waiting, they are dropped and a full sync runs, which is cheaper then.
    pub max_waiting: u64,
    /// The same, for one shard.
    pub max_waiting_of_shard: u64,
    /// How often the marker is checked while nothing is sent.
    pub probe: Duration,
    /// How often the owner is checked while another store has the prefix.
    pub recheck_owner: Duration,
}

impl Options {
    /// The default options for these servers.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            prefix: "cap:".to_owned(),
            layout: Layout::default(),
            sweep: Duration::from_secs(3_600),
            takeover: false,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            batch: 2_000,
            keep_told: Duration::from_secs(300),
            max_waiting: 1_000_000,
            max_waiting_of_shard: 100_000,
            probe: Duration::from_millis(700),
            recheck_owner: Duration::from_secs(2),
        }
    }
}

/// Why a text does not name servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum ServersError {
    #[error("names no server")]
    Empty,
    #[error(
        "is not of the form redis://[[user]:password@]host[:port][/db]; rediss:// is TLS, redis-cluster:// and \
         rediss-cluster:// are one node of a cluster, unix:///path is a socket ({0})"
    )]
    Url(String),
    #[error("asks for database {0}, but a cluster has only database 0")]
    Database(i64),
}

/// Where Redis is: one URL, or several that are tried in turn, separated by commas. Any node of a cluster will do. The
/// server says whether it is a cluster, unless the scheme does.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    pub(super) seeds: Vec<String>,
    /// The scheme says that it is a cluster.
    pub(super) is_cluster: bool,
    /// Overrides the user of the URLs.
    username: Option<String>,
    password: Option<String>,
}

impl Servers {
    pub(super) fn connection(&self, seed: usize) -> Result<ConnectionInfo, redis::RedisError> {
        let info = self.seeds[seed % self.seeds.len()].as_str().into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        // Spares the Redis user one permission.
        let mut settings = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Ok(info.set_tcp_settings(tcp).set_redis_settings(settings))
    }

    /// Overrides user and password of the URLs.
    pub fn set_credentials(&mut self, username: Option<String>, password: Option<String>) {
        self.username = username.or(self.username.take());
        self.password = password.or(self.password.take());
    }

    /// An error's text without passwords: a server that does not know AUTH repeats its arguments.
    pub(super) fn redact(&self, error: &redis::RedisError) -> String {
        let mut text = error.to_string();
        for seed in 0..self.seeds.len() {
            let Ok(info) = self.connection(seed) else { continue };
            if let Some(password) = info.redis_settings().password().filter(|password| !password.is_empty()) {
                text = text.replace(password, "***");
            }
        }
        text
    }
}

impl FromStr for Servers {
    type Err = ServersError;

    fn from_str(text: &str) -> Result<Self, ServersError> {
        let mut seeds = Vec::new();
        let mut is_cluster = false;
        for url in text.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let plain = ["redis", "rediss"].into_iter().find_map(|scheme| {
                Some(format!("{scheme}://{}", url.strip_prefix(scheme)?.strip_prefix("-cluster://")?))
            });
            is_cluster |= plain.is_some();
            let seed = plain.unwrap_or_else(|| url.to_owned());
            let parsed = seed.as_str().into_connection_info();
            let info = parsed.map_err(|error| ServersError::Url(error.category().to_owned()))?;
            if is_cluster && info.redis_settings().db() != 0 {
                return Err(ServersError::Database(info.redis_settings().db()));
            }
            seeds.push(seed);
        }
        if seeds.is_empty() {
            Err(ServersError::Empty)
        } else {
            Ok(Self { seeds, is_cluster, username: None, password: None })
        }
    }
}

impl fmt::Display for Servers {
    /// Hosts and ports, without users and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for i in 0..self.seeds.len() {
            let comma = if i == 0 { "" } else { "," };
            match self.connection(i) {
                Ok(info) => write!(f, "{comma}{}", address(info.addr()))?,
                Err(_) => write!(f, "{comma}?")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) fn address(addr: &ConnectionAddr) -> String {
    addr.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_and_printed_without_their_passwords() {
        for (url, printed, is_cluster) in [
            ("redis://localhost", "localhost:6379", false),
            ("rediss://user:secret@redis.example:6380/3", "redis.example:6380", false),
            ("redis-cluster://:secret@a:7000", "a:7000", true),
            ("redis://a:1, redis://b:2", "a:1,b:2", false),
        ] {
            let servers: Servers = url.parse().unwrap();
            assert_eq!((servers.to_string().as_str(), servers.is_cluster), (printed, is_cluster));
        }
        let mut servers: Servers = "redis://me:in-the-url@a:1".parse().unwrap();
        servers.set_credentials(None, Some("of-the-file".to_owned()));
        let info = servers.connection(0).unwrap();
        assert_eq!(info.redis_settings().username(), Some("me"));
        assert_eq!(info.redis_settings().password(), Some("of-the-file"));
        assert_eq!(format!("{servers} {servers:?}"), "a:1 a:1");
        // A server that does not know AUTH repeats its arguments.
        let repeated = std::io::Error::other("unknown command 'AUTH', with args: 'me' 'of-the-file'").into();
        let told = servers.redact(&repeated);
        assert!(told.contains("unknown command") && told.contains("***") && !told.contains("of-the-file"), "{told}");
        for bad in ["", "localhost:6379", "http://localhost", "redis-cluster://a/3"] {
            assert!(bad.parse::<Servers>().is_err(), "{bad:?}");
        }
    }
}
