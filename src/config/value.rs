//! How the values of settings are written, in whichever source.

use crate::auth::Hosts;
use crate::kafka::{ClientSettings, OnChange, StartFrom};
use crate::mirror::{Layout, Servers, ServersError};
use crate::model::{CalendarUnit, Limit, Nobody, Span, Window, Zone};
use crate::store::{ByteSize, Compression, Durability, StorageKind};
use crate::telemetry::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type of setting. All sources speak text: a flag, a variable, and what a file says, printed.
pub(super) trait Value: Sized {
    /// Reads the text; the error completes "`text` ...".
    fn read(text: &str) -> Result<Self, String>;
}

/// An integer from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> Count<MIN, MAX> {
    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Value for Count<MIN, MAX> {
    fn read(text: &str) -> Result<Self, String> {
        let count = text.parse().ok().filter(|count| (MIN..=MAX).contains(count));
        count.map(Self).ok_or_else(|| format!("is not an integer from {MIN} to {MAX}"))
    }
}

/// A number of threads; `cores` is as many as the machine has for us, `half` half as many, at least one.
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
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(256);
        match text {
            "cores" => Ok(Self(cores())),
            "half" => Ok(Self(cores().div_ceil(2))),
            _ => match Count::<1, 256>::read(text) {
                Ok(count) => Ok(Self(count.get())),
                Err(_) => Err("is neither an integer from 1 to 256 nor `cores` or `half`".to_owned()),
            },
        }
    }
}

/// How far apart two events with one id may lie and still be one: as far as the log goes where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuplicateWindow(Option<Span>);

impl DuplicateWindow {
    /// In milliseconds; `u64::MAX` where it is unlimited.
    pub fn as_millis(self) -> u64 {
        self.0.map_or(u64::MAX, |span| span.as_millis())
    }
}

impl Value for DuplicateWindow {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => Span::read(text).map(|span| Self(Some(span))).map_err(|why| format!("{why}, nor `none`")),
        }
    }
}

/// Where Redis is; `none` is no mirror.
impl Value for Option<Servers> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => text.parse().map(Some).map_err(|why: ServersError| format!("{why}, nor `none`")),
        }
    }
}

/// An address that may be left out: `none`.
impl Value for Option<SocketAddr> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => SocketAddr::read(text).map(Some).map_err(|why| format!("{why}, nor `none`")),
        }
    }
}

/// A text that may be left out: `none`.
impl Value for Option<String> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty; `none` is none".to_owned()),
            _ => Ok((text != "none").then(|| text.to_owned())),
        }
    }
}

/// A file that may be left out: `none`.
impl Value for Option<PathBuf> {
    fn read(text: &str) -> Result<Self, String> {
        Option::<String>::read(text).map(|path| path.map(PathBuf::from))
    }
}

/// A size that follows from others where it is left out: `auto`.
impl Value for Option<ByteSize> {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(None),
            _ => ByteSize::read(text).map(Some).map_err(|why| format!("{why}, nor `auto`")),
        }
    }
}

impl Value for Limit {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(None),
            _ => match text.parse() {
                Ok(limit) if limit > 0 => Ok(Some(limit)),
                _ => Err("is neither a positive integer nor `none`".to_owned()),
            },
        }
    }
}

impl Value for Window {
    /// What rules have, and `day@Asia/Seoul` for those who write no JSON.
    fn read(text: &str) -> Result<Self, String> {
        let calendar =
            |unit, zone| Ok(Window::calendar(unit, Zone::new(zone).map_err(|why| format!("will not do: {why}"))?));
        match text.split_once('@') {
            _ if text == "lifetime" => Ok(Window::Lifetime),
            _ if text.starts_with('{') => serde_json::from_str(text).map_err(|why| format!("will not do: {why}")),
            Some(("day", zone)) => calendar(CalendarUnit::Day, zone),
            Some(("week", zone)) => calendar(CalendarUnit::Week, zone),
            Some(("month", zone)) => calendar(CalendarUnit::Month, zone),
            _ => text.parse().map(Window::Rolling).map_err(|why| {
                format!("{why}, nor `lifetime`, nor day@ZONE, week@ZONE or month@ZONE with the name of a time zone")
            }),
        }
    }
}

impl Value for Duration {
    /// As a span, and zero.
    fn read(text: &str) -> Result<Self, String> {
        let zero = text.strip_prefix('0').is_some_and(|unit| matches!(unit, "ms" | "s" | "m" | "h" | "d"));
        if zero { Ok(Duration::ZERO) } else { Span::read(text).map(|span| span.as_duration()) }
    }
}

macro_rules! by_from_str {
    ($($type:ty: $expected:literal),* $(,)?) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| $expected.to_owned())
            }
        }
    )*};
}

by_from_str! {
    SocketAddr: "is not an address and port, such as 127.0.0.1:8080 or [::]:8080",
    PathBuf: "is no path",
    String: "is no text",
    bool: "is neither true nor false",
}

macro_rules! by_own_error {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|why: <$type as std::str::FromStr>::Err| why.to_string())
            }
        }
    )*};
}

by_own_error!(Hosts, Nobody, Span, ByteSize, StartFrom, ClientSettings);

macro_rules! by_name {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                <$type as clap::ValueEnum>::from_str(text, false).map_err(|_| {
                    let all = <$type as clap::ValueEnum>::value_variants().iter();
                    let names: Vec<_> =
                        all.filter_map(clap::ValueEnum::to_possible_value).map(|name| name.get_name().to_owned()).collect();
                    format!("is none of {}", names.join(", "))
                })
            }
        }
    )*};
}

by_name!(StorageKind, Durability, Compression, LogFormat, Layout, OnChange);
