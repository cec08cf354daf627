//! Every setting once: its name, type, default and what it is for. The flags, the variables, the keys of the file and
//! the typed [`Config`] all come from this list.

use super::value::{Count, DuplicateWindow, Writers};
use super::{ConfigError, MemoryPlan, RuleConfig, Sources};
use crate::auth::Hosts;
use crate::input::FieldsConfig;
use crate::kafka::{ClientSettings, OnChange, StartFrom};
use crate::mirror::{Layout, Servers};
use crate::model::{Limit, Nobody, Span, Window};
use crate::store::{ByteSize, Compression, Durability, StorageKind};
use crate::telemetry::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A setting's name, with `_`, and its default as it would be written.
pub(super) struct Setting {
    pub name: &'static str,
    pub default: &'static str,
}

macro_rules! settings {
    ($($heading:literal { $($name:ident: $type:ty = $default:literal, $value:literal, $help:literal;)* })*) => {
        /// The settings in force.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $($(#[doc = $help] pub $name: $type,)*)*
            /// Where in a payload the fields of an event are.
            pub fields: FieldsConfig,
            /// The rules of the file, besides the one that `limit` and `window` make.
            pub rules: Vec<RuleConfig>,
            /// What the settings of memory come to.
            pub plan: MemoryPlan,
        }

        /// The settings as flags, not yet understood: what a flag leaves open, other sources may set.
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct Flags {
            /// Settings file in TOML; keys are the names of the flags, `[redis] prefix` is `redis-prefix`
            #[arg(long, value_name = "FILE", help_heading = "Configuration")]
            pub config: Option<PathBuf>,
            $($(
                #[arg(
                    long,
                    value_name = $value,
                    help_heading = $heading,
                    help = concat!($help, " [default: ", $default, "]"),
                    num_args = if $value == "true|false" { 0..=1 } else { 1..=1 },
                    default_missing_value = "true",
                    require_equals = $value == "true|false",
                    // So that it is we who say what is wrong with `--max-skew -1s`.
                    allow_hyphen_values = $value != "true|false",
                )]
                #[doc = $help]
                pub $name: Option<String>,
            )*)*
        }

        impl Flags {
            pub(super) fn get(&self, name: &str) -> Option<&str> {
                match name {
                    $($(stringify!($name) => self.$name.as_deref(),)*)*
                    _ => None,
                }
            }
        }

        pub(super) const SETTINGS: &[Setting] = &[
            $($(Setting { name: stringify!($name), default: $default },)*)*
        ];

        impl Config {
            pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($($name: sources.value(stringify!($name))?,)*)*
                    fields: sources.fields()?,
                    rules: sources.rules()?,
                    plan: MemoryPlan::default(),
                })
            }
        }
    };
}

settings! {
    "Service" {
        listen: SocketAddr = "127.0.0.1:8080", "ADDR",
            "Address and port to listen on. Not set anywhere, and PORT is in the environment: 0.0.0.0:$PORT";
        admin_listen: Option<SocketAddr> = "none", "ADDR|none",
            "A second address for operators, with a thread of its own, which no load reaches: probes, metrics, rules, users, audit. \
             They are then only there, but for the probes and /users/{user}/caps";
        drain: Duration = "0s", "DURATION",
            "How long requests are still taken after SIGTERM, while /readyz already says 503";
        exit_when_poisoned: bool = "false", "true|false",
            "End with an error once only a restart helps: a write failed, a thread panicked, the disk hangs";
        log: String = "info", "FILTER",
            "What is logged to standard error: error, warn, info, debug, trace, or by module (info,freqcap=debug)";
        log_format: LogFormat = "text", "text|json", "How log lines look";
    }
    "Access" {
        keys_file: Option<PathBuf> = "none", "FILE|none",
            "File with the keys of those who may call (freqcap key new makes one), read again when it changes. Without it \
             everybody may do everything, so only loopback addresses are listened on";
        open: bool = "false", "true|false",
            "Listen on addresses beyond loopback without --keys-file: something in front says who may call";
        hosts: Hosts = "loopback", "NAME,..|*",
            "The names that a request may have as Host where no key is asked for: host names and addresses, loopback for \
             localhost and this machine's loopback addresses, * for any";
        public_listen: Option<SocketAddr> = "none", "ADDR|none",
            "Another address for what the internet may reach, without a key: /healthz alone";
    }
    "Capping" {
        limit: Limit = "5", "N|none",
            "The rule `default`: at most N impressions of an ad per user and window; none makes no such rule";
        window: Window = "5d", "WINDOW",
            "Window of the rule `default`: a duration, lifetime, or day@ZONE, week@ZONE, month@ZONE (day@Asia/Seoul)";
        retention: Span = "7d", "DURATION",
            "How long events are held, and how old one may be to count; a rule's longer window wins";
        lifetime_retention: Span = "400d", "DURATION",
            "How long a log under a lifetime rule is held after its newest event";
        max_skew: Duration = "60s", "DURATION",
            "How far ahead of this clock an event may be; one further ahead is rejected";
        max_offline: Duration = "7d", "DURATION",
            "How long the service may have been off for the clock to be believed at a start; longer, and no cap ends until \
             another clock says the same or `freqcap clock accept` does";
        accept_clock: bool = "false", "true|false", "Believe the clock at this start, whatever is known of the time";
        history_limit: Count<1, 65_535> = "256", "N",
            "Events of each kind held per user and key; no limit over a window can be higher. Over 4096, a log holds fewer \
             than 16 kinds: 65536 events in all";
        duplicate_window: DuplicateWindow = "none", "DURATION|none",
            "How far apart in time two events with one id may lie and still be one: for ids that are not unique. none is \
             as far as the log goes";
        ignore_users: Nobody = "builtin", "PATTERN,..|none",
            "Users that mean nobody, whose events are acknowledged and kept nowhere: patterns (* is any text, upper and \
             lower case are alike) besides the all-zero advertising id, null, undefined, unknown, [*], ${*}, %%*%%, \
             {{*}}; none takes those away";
    }
    "Storage" {
        data_dir: PathBuf = "./data", "DIR", "Where the data is; belongs to one process at a time";
        storage: StorageKind = "rocksdb", "rocksdb|memory", "RocksDB in the data directory, or in memory alone";
        durability: Durability = "fsync", "fsync|wal",
            "What an acknowledged event survives: loss of power (fsync), or the end of the process only (wal)";
        writers: Writers = "cores", "N|half|cores",
            "Writer threads, free to differ from one start to the next; half is half as many as cores";
        mailbox_events: Count<1, 100_000_000> = "65536", "N",
            "Events that may wait for one writer; more are answered 503";
        min_free_disk: ByteSize = "256MiB", "SIZE", "With less free in the data directory, events are answered 503";
        erase_within: Duration = "24h", "DURATION",
            "After how long the bytes of a user who was erased are in no file of the data directory any more; 1s at least";
        bloom_bits: Count<0, 64> = "10", "N", "Bits per row of the filters that spare reads for what is not there";
        compression: Compression = "lz4", "lz4|zstd|snappy|none",
            "How rows are compressed; lz4 uses Zstd at the last level";
        background_jobs: Count<2, 1_024> = "2", "N", "Threads that flush and compact";
    }
    "Memory" {
        memory: Option<ByteSize> = "auto", "SIZE|auto",
            "Memory of the whole process, 128MiB at least; the settings below are shares of it. auto is 1GiB, or half of the \
             container's limit if that is less. (What --storage memory holds comes on top)";
        block_cache: Option<ByteSize> = "auto", "SIZE|auto", "For blocks read from disk: 384MiB of 1GiB";
        overlay_size: Option<ByteSize> = "auto", "SIZE|auto",
            "For logs that changed and are not in a file yet: 128MiB of 1GiB";
        existence_filter: Option<ByteSize> = "auto", "SIZE|auto",
            "For filters of which logs are on disk, 12 bits each: 112MiB of 1GiB";
        write_buffer: Option<ByteSize> = "auto", "SIZE|auto",
            "The journal's write buffer: 32MiB of 1GiB. The buffers of all tables take three times as much";
        max_bodies: Option<ByteSize> = "auto", "SIZE|auto",
            "For all request bodies under way and the batches made of them, more are answered 503: 64MiB of 1GiB";
        read_memory: Option<ByteSize> = "auto", "SIZE|auto",
            "For all reads under way that have much to read, more are answered 503: 40MiB of 1GiB";
        mailbox_memory: Option<ByteSize> = "auto", "SIZE|auto",
            "For events that wait for a writer or are in its turn, more are answered 503: 32MiB of 1GiB";
        connection_memory: Option<ByteSize> = "auto", "SIZE|auto",
            "For connections, and headers that are not whole yet: 88MiB of 1GiB";
    }
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
