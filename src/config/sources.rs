//! Where the settings come from, and which source wins.

use super::error::ConfigError;
use super::file::File;
use super::flags::{Flags, known};
use crate::settings::{self, Invalid, Setting, Value};

/// The sources, in the order in which they are asked.
pub(super) struct Sources<'s> {
    pub flags: &'s Flags,
    pub variable: &'s dyn Fn(&str) -> Option<String>,
    pub file: Option<File>,
}

impl Sources<'_> {
    /// The text of a setting, and where it stands as its source writes it.
    pub fn text(&self, name: &str) -> (String, String) {
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
        let default = known().find(|setting| setting.name == name).map_or("", |setting| setting.default);
        (default.to_owned(), default_of(name))
    }

    /// A variable; an empty one is as good as none (`FREQCAP_REDIS=${REDIS:-}`).
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|text| !text.is_empty())
    }

    /// Where a setting stands as its source writes it, unless it has its default.
    pub fn set_at(&self, name: &str) -> Option<String> {
        let (_, origin) = self.text(name);
        (origin != default_of(name)).then_some(origin)
    }

    /// The error for a setting whose value does not fit the others.
    pub fn invalid(&self, Invalid { name, why }: Invalid) -> ConfigError {
        let (text, origin) = self.text(name);
        ConfigError(format!("{origin}: {text:?} {why}"))
    }
}

impl settings::Sources for Sources<'_> {
    type Error = ConfigError;

    fn value<T: Value>(&self, setting: &Setting) -> Result<T, ConfigError> {
        let (text, origin) = self.text(setting.name);
        T::read(&text).map_err(|why| match origin.as_str() {
            // Never a password on a terminal or in a log.
            _ if T::IS_SECRET => ConfigError(format!("{origin}: the value {why}")),
            "PORT" => ConfigError(format!("PORT: {:?} is no port number", text.trim_start_matches("0.0.0.0:"))),
            _ => ConfigError(format!("{origin}: {text:?} {why}")),
        })
    }
}

fn default_of(name: &str) -> String {
    format!("the default of {name}")
}

fn variable_of(name: &str) -> String {
    format!("FREQCAP_{}", name.to_uppercase())
}
