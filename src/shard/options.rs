//! The settings and options of the shards.

use super::opt_outs::OptedOutVerdict;
use crate::settings::{Count, Invalid, Value, settings};
use crate::store::ByteSize;
use std::time::Duration;

settings! {
    /// The settings of the shards.
    pub struct Settings, SettingFlags {
        "Capping" {
            max_offline: Duration = "7d", "DURATION",
                "How long the service may have been off for the clock to be believed at a start; longer, and no cap ends until \
                 another clock says the same or `freqcap clock accept` does";
            opted_out: OptedOutVerdict = "allow", "allow|deny",
                "The verdict on users who opted out, of whom nothing is counted: every ad may be shown, or none";
            accept_clock: bool = "false", "true|false", "Believe the clock at this start, whatever is known of the time";
        }
        "Storage" {
            writers: Writers = "cores", "N|half|cores",
                "Writer threads, free to differ from one start to the next; half is half as many as cores";
            mailbox_events: Count<1, 100_000_000> = "65536", "N",
                "Events that may wait for one writer; more are answered 503";
            min_free_disk: ByteSize = "256MiB", "SIZE", "With less free in the data directory, events are answered 503";
            erase_within: Duration = "24h", "DURATION",
                "After how long the bytes of a user who was erased are in no file of the data directory any more; 1s at least";
        }
    }
}

/// A number of threads; `cores` is one per core that the process may use, `half` half as many, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writers(usize);

impl Writers {
    /// How many threads.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Value for Writers {
    fn read(text: &str) -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(256);
        match text {
            "cores" => Ok(Self(cores)),
            "half" => Ok(Self(cores.div_ceil(2))),
            _ => match Count::<1, 256>::read(text) {
                Ok(count) => Ok(Self(count.get())),
                Err(_) => Err("is neither an integer from 1 to 256 nor `cores` or `half`".to_owned()),
            },
        }
    }
}

impl Settings {
    /// Checks that the settings make sense.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.erase_within < Duration::from_secs(1) {
            return Err(Invalid::new("erase_within", "is less than 1s"));
        }
        Ok(())
    }

    /// The options of the shards, whose mailboxes share `mailbox_bytes`.
    pub fn options(&self, mailbox_bytes: usize) -> Options {
        Options {
            writers: self.writers.get(),
            mailbox_events: self.mailbox_events.get(),
            mailbox_bytes,
            min_free_disk: self.min_free_disk.0,
            max_offline: self.max_offline,
            accept_clock: self.accept_clock,
            erase_within: self.erase_within,
            opted_out: self.opted_out,
        }
    }
}

/// How the shards are served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Writer threads; free to differ from one start to the next.
    pub writers: usize,
    /// Events that may wait for one writer before more are refused.
    pub mailbox_events: usize,
    /// Bytes that those may have which wait for all writers together, or are in a turn of one.
    pub mailbox_bytes: usize,
    /// Below so many free bytes in the data directory events are refused, before a write can fail.
    pub min_free_disk: u64,
    /// How long no process may have run for the time of day at a start to be believed.
    pub max_offline: Duration,
    /// Believe the time of day at this start whatever is known.
    pub accept_clock: bool,
    /// After how long the bytes of a user who was erased are in no file any more.
    pub erase_within: Duration,
    /// The verdict on users who opted out.
    pub opted_out: OptedOutVerdict,
}
