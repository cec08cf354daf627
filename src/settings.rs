//! How a component declares its settings, and how their values are written.
//!
//! A component lists its settings once, beside its options, with [`settings!`]: name, type, default, form and help. The flag
//! (`--max-batch`), the variable (`FREQCAP_MAX_BATCH`), the key in the settings file (`max_batch`), the reference and the
//! typed field all come from that line. `config` reads them from the sources.

use crate::model::{CalendarUnit, Limit, Nobody, Span, Window, Zone};
use crate::telemetry::LogFormat;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A setting's name, with `_`, and its default as it would be written.
#[derive(Debug)]
pub struct Setting {
    /// The name, with `_`.
    pub name: &'static str,
    /// The default, as a source would write it.
    pub default: &'static str,
}

/// A type of setting. All sources give text: a flag, a variable, and what a file has, printed.
pub trait Value: Sized {
    /// Whether an error must not repeat the text, since it may hold a password.
    const IS_SECRET: bool = false;

    /// Reads the text; the error completes "`text` ...".
    fn read(text: &str) -> Result<Self, String>;
}

/// Where the values of settings come from.
pub trait Sources {
    /// Why a value cannot be read.
    type Error;

    /// The value of a setting.
    fn value<T: Value>(&self, setting: &Setting) -> Result<T, Self::Error>;
}

/// No source at all: every setting has its default.
#[derive(Debug)]
pub struct Defaults;

impl Sources for Defaults {
    type Error = String;

    fn value<T: Value>(&self, setting: &Setting) -> Result<T, String> {
        T::read(setting.default)
    }
}

/// A setting whose value does not fit the others.
#[derive(Debug)]
pub struct Invalid {
    /// The setting's name.
    pub name: &'static str,
    /// Completes "`text` ...".
    pub why: String,
}

impl Invalid {
    /// A setting, and what completes "`text` ...".
    pub fn new(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, why: why.into() }
    }
}

/// Declares the settings of a component, grouped under the headings that `--help` and the reference have.
///
/// A line is `name: Type = "default", "FORM", "help";`. It makes the struct of typed values and that of the flags.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        pub struct $settings:ident, $flags:ident {
            $($heading:literal { $($name:ident: $type:ty = $default:literal, $value:literal, $help:literal;)* })*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $settings {
            $($(#[doc = $help] pub $name: $type,)*)*
        }

        /// The same as flags, not read yet. A flag that is not given leaves its setting to the other sources.
        #[derive(Debug, Clone, Default, clap::Args)]
        #[group(skip)]
        pub struct $flags {
            $($(
                #[arg(
                    long,
                    value_name = $value,
                    help_heading = $heading,
                    help = concat!($help, " [default: ", $default, "]"),
                    num_args = if $value == "true|false" { 0..=1 } else { 1..=1 },
                    default_missing_value = "true",
                    require_equals = $value == "true|false",
                    // Our own error says what is wrong with `--max-skew -1s`, not clap's.
                    allow_hyphen_values = $value != "true|false",
                )]
                #[doc = $help]
                pub $name: Option<String>,
            )*)*
        }

        impl $flags {
            /// The text given for a setting.
            pub fn get(&self, name: &str) -> Option<&str> {
                match name {
                    $($(stringify!($name) => self.$name.as_deref(),)*)*
                    _ => None,
                }
            }
        }

        impl $settings {
            /// All settings of the component.
            pub const ALL: &'static [$crate::settings::Setting] = &[
                $($($crate::settings::Setting { name: stringify!($name), default: $default },)*)*
            ];

            /// Reads each setting from the sources.
            pub fn read<S: $crate::settings::Sources>(sources: &S) -> Result<Self, S::Error> {
                Ok(Self {
                    $($($name: sources.value(&$crate::settings::Setting {
                        name: stringify!($name),
                        default: $default,
                    })?,)*)*
                })
            }
        }
    };
}

pub(crate) use settings;

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

/// Reads settings of these types by their `FromStr`, whose error completes "`text` ...".
macro_rules! by_own_error {
    ($($type:ty),*) => {$(
        impl $crate::settings::Value for $type {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|why: <$type as std::str::FromStr>::Err| why.to_string())
            }
        }
    )*};
}

pub(crate) use by_own_error;

by_own_error!(Nobody, Span);

/// Reads settings of these types by the names of their variants.
macro_rules! by_name {
    ($($type:ty),*) => {$(
        impl $crate::settings::Value for $type {
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

pub(crate) use by_name;

by_name!(LogFormat);
