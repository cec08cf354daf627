//! The settings file.

use super::error::ConfigError;
use super::flags::known;
use super::rules::RuleConfig;
use crate::input::{FieldsConfig, json_text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The content of a settings file, by the names of settings.
#[derive(Debug, Default)]
pub(super) struct File {
    pub path: PathBuf,
    pub values: BTreeMap<String, String>,
    pub fields: FieldsConfig,
    pub rules: Vec<RuleConfig>,
}

impl File {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| ConfigError(format!("{}: cannot be read: {why}", path.display())))?;
        Self::of_text(path, &text)
    }

    pub(super) fn of_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let text = json_text(text);
        let table = text.parse().map_err(|why| syntax_error(&why, text));
        let file = table.and_then(|table| Self::of_table(path, table));
        file.map_err(|why| ConfigError(format!("{}: {why}", path.display())))
    }

    fn of_table(path: &Path, table: Table) -> Result<Self, String> {
        let mut file = File { path: path.to_owned(), ..Self::default() };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("fields", value) => {
                    file.fields = read_value("[fields]", "fields", value)?;
                }
                ("rules", Value::Array(rules)) => {
                    for (index, rule) in rules.into_iter().enumerate() {
                        let name = format!("rules[{index}]");
                        file.rules.push(read_value(&name, &name, rule)?);
                    }
                }
                ("rules", _) => return Err("rules: each one is a table of its own, headed [[rules]]".to_owned()),
                // A window in JSON form is a table, but not a group of settings.
                (_, Value::Table(group)) if key != "window" => {
                    for (name, value) in group {
                        let url = key == "redis" && name == "url";
                        let setting = if url { key.clone() } else { format!("{key}_{name}") };
                        file.set(&format!("{key}.{name}"), &setting, &value)?;
                    }
                }
                (_, value) => file.set(&key, &key, &value)?,
            }
        }
        Ok(file)
    }

    /// Stores a setting that is written as `key`.
    fn set(&mut self, key: &str, setting: &str, value: &Value) -> Result<(), String> {
        let setting = setting.replace('-', "_");
        if !known().any(|known| known.name == setting) {
            return Err(unknown(key, &setting));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            Value::Table(window) if setting == "window" => {
                serde_json::to_string(window).map_err(|why| format!("{key}: {why}"))?
            }
            Value::Array(patterns) if setting == "ignore_users" => {
                let texts: Option<Vec<&str>> = patterns.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| format!("{key}: expected patterns, each a text"))?.join(",")
            }
            _ => return Err(format!("{key}: expected a text, a number or true/false, found {}", value.type_str())),
        };
        match self.values.insert(setting, text) {
            Some(_) => Err(format!("{key} is set twice, under two spellings")),
            None => Ok(()),
        }
    }
}

/// Parses a part of the file. Errors name it `whole`, or `part` before the name of an invalid member.
fn read_value<T: serde::de::DeserializeOwned>(whole: &str, part: &str, value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|why| {
        let (member, told) = (why.path().to_string(), one_line(why.inner()));
        // The path of the part itself is a dot. An error about an unknown member names it already.
        if member == "." || told.contains(&format!("`{member}`")) {
            format!("{whole}: {told}")
        } else {
            format!("{part}.{member}: {told}")
        }
    })
}

/// The error without its excerpt of the file.
fn one_line(why: &toml::de::Error) -> String {
    why.message().lines().collect::<Vec<_>>().join(" ")
}

/// The error with its place, but without the line that it quotes, which may hold a password.
fn syntax_error(why: &toml::de::Error, text: &str) -> String {
    let Some(before) = why.span().and_then(|span| text.get(..span.start)) else { return one_line(why) };
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    format!("line {line}, column {column}: {}", one_line(why))
}

fn unknown(key: &str, setting: &str) -> String {
    let names = known().map(|known| known.name).chain(["fields", "rules"]);
    let nearest = names.map(|name| (strsim::levenshtein(name, setting), name)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + setting.len() / 4 => {
            format!("there is no setting {key}; did you mean {name}?")
        }
        _ => format!("there is no setting {key}; `freqcap serve --help` lists them"),
    }
}
