//! `freqcap reference`: every setting, metric and error code as Markdown, made from the code. `docs/reference` holds what it
//! prints; a test compares the two.

use crate::{auth, http, kafka, mirror, service, shard, snapshot, stream};
use clap::{Arg, Command};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// What to print a reference of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Reference {
    Settings,
    Metrics,
    Errors,
}

impl Reference {
    /// The page. `serve` is the command whose flags are the settings.
    pub(super) fn page(self, serve: &Command) -> String {
        match self {
            Self::Settings => settings(serve),
            Self::Metrics => metrics_page(),
            Self::Errors => errors(),
        }
    }
}

fn settings(serve: &Command) -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Made from the code by `freqcap reference settings`.\n\n\
         A setting comes from its flag, else from its variable, else from the settings file, else it has its default. The \
         variable of `--data-dir` is `FREQCAP_DATA_DIR`, its line in the file is `data_dir = \"..\"`. A group in the file is \
         a prefix: `[redis]` with `layout = \"string\"` is `--redis-layout string`, and `url` under `[redis]` is `--redis`. Only \
         the file has `[fields]` ([kafka.md](../kafka.md)) and `[[rules]]` ([rules-and-windows.md](../rules-and-windows.md)).\n\n\
         A `DURATION` is a positive integer and `ms`, `s`, `m`, `h` or `d`; a `SIZE` an integer and `KiB`, `MiB` or `GiB`.\n",
    );
    let mut tables: Vec<(&str, String)> = Vec::new();
    for arg in serve.get_arguments() {
        let (Some(flag), Some(heading)) = (arg.get_long(), arg.get_help_heading()) else { continue };
        let (help, default) = help_and_default(arg);
        let value = arg.get_value_names().unwrap_or_default().join(" ");
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let row = format!("| `--{flag}` | `{}` | {default} | {} |\n", value.replace('|', "\\|"), cell(&help));
        // Two components may have settings under one heading.
        match tables.iter_mut().find(|(other, _)| *other == heading) {
            Some((_, rows)) => rows.push_str(&row),
            None => tables.push((heading, row)),
        }
    }
    for (heading, rows) in tables {
        let _ =
            write!(page, "\n## {heading}\n\n| flag | value | default | meaning |\n| --- | --- | --- | --- |\n{rows}");
    }
    page
}

/// A setting's help ends with its default, in brackets.
fn help_and_default(arg: &Arg) -> (String, String) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: ")) {
        Some((help, default)) => (help.to_owned(), default.to_owned()),
        None => (help, String::new()),
    }
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    let mut is_quoted = false;
    for letter in text.chars() {
        is_quoted ^= letter == '`';
        if letter == '|' || !is_quoted && matches!(letter, '*' | '<' | '[' | '_') {
            cell.push('\\');
        }
        cell.push(letter);
    }
    cell
}

/// What the parts of the service say about their metrics, by name.
fn metrics_by_name() -> BTreeMap<String, (&'static str, String)> {
    let said = Descriptions::default();
    metrics::with_local_recorder(&said, || {
        super::memory::describe_metrics();
        auth::describe_metrics();
        http::describe_tls_metrics();
        service::describe_metrics();
        shard::describe_metrics();
        mirror::describe_metrics();
        kafka::describe_metrics();
        snapshot::describe_metrics();
        stream::describe_metrics();
    });
    let mut said = said.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (name, kind, help) in service::process_metrics() {
        said.insert(name.to_owned(), (kind, help.to_owned()));
    }
    said
}

fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from the code by `freqcap reference metrics`. `GET /metrics` has them in Prometheus' text form, each with its \
         help. A metric appears once there is something to tell: those of the mirror with `--redis`, those of Kafka with \
         `--kafka-brokers`, those of snapshots with `--snapshots`. Times are in seconds.\n\n\
         | metric | type | meaning |\n| --- | --- | --- |\n",
    );
    for (name, (kind, help)) in metrics_by_name() {
        let _ = writeln!(page, "| `{name}` | {kind} | {} |", cell(&help));
    }
    page
}

fn errors() -> String {
    let mut page = String::from(
        "# Error codes\n\n\
         Made from the code by `freqcap reference errors`. The `code` of a problem (RFC 9457) never changes; its `detail` is for \
         people and may. In a batch, codes of events stand in `errors`, and the answer is a 200. From Kafka they are the reason \
         of a dead letter, from a file the reason of a line.\n",
    );
    for (subject, codes) in http::ERROR_CODES {
        let _ = write!(page, "\n## {subject}\n\n| code | status | meaning |\n| --- | --- | --- |\n");
        for code in *codes {
            let status = code.status.map(|status| status.to_string()).unwrap_or_default();
            let _ = writeln!(page, "| `{}` | {status} | {} |", code.code, cell(code.meaning));
        }
    }
    page
}

/// A recorder that only remembers what metrics are said to be.
#[derive(Debug, Default)]
struct Descriptions(Mutex<BTreeMap<String, (&'static str, String)>>);

impl Descriptions {
    fn note(&self, name: &KeyName, kind: &'static str, help: &SharedString) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(name.as_str().to_owned(), (kind, help.to_string()));
    }
}

impl Recorder for Descriptions {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.note(&name, "counter", &help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.note(&name, "gauge", &help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.note(&name, "histogram", &help);
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::{Reference, cell, metrics_by_name};
    use crate::cli::Cli;
    use clap::{CommandFactory, ValueEnum};
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    #[cfg(feature = "kafka")]
    #[test]
    fn the_reference_in_docs_is_what_the_code_says() {
        let mut stale = Vec::new();
        for reference in Reference::value_variants() {
            let name = reference.to_possible_value().unwrap().get_name().to_owned();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/reference/{name}.md"));
            let command = Cli::command();
            let page = reference.page(command.find_subcommand("serve").unwrap());
            if std::fs::read_to_string(path).unwrap_or_default() != page {
                stale.push(format!("\n  freqcap reference {name} > docs/reference/{name}.md"));
            }
        }
        assert!(stale.is_empty(), "not what the code says any more; write it again with:{}\n", stale.concat());
    }

    #[test]
    fn every_metric_of_the_source_is_described() {
        fn add(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { add(&path, found) } else { found.push(path) }
            }
        }
        let (mut files, mut named) = (Vec::new(), BTreeSet::new());
        add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        for file in files.iter().filter(|file| !file.ends_with("reference.rs")) {
            let text = std::fs::read_to_string(file).unwrap();
            for (at, _) in text.match_indices("\"freqcap_") {
                named.extend(text[at + 1..].split_once('"').map(|(name, _)| name.to_owned()));
            }
        }
        // A prefix, in a test of the list of error codes.
        named.remove("freqcap_");
        let described = metrics_by_name();
        let silent: Vec<_> = named.iter().filter(|name| !described.contains_key(*name)).collect();
        assert!(named.len() > 50 && silent.is_empty(), "describe them (describe_metrics of their module): {silent:?}");
    }

    #[test]
    fn what_markdown_would_take_for_its_own_is_escaped() {
        assert_eq!(cell("`a|b` [*], a_b"), "`a\\|b` \\[\\*], a\\_b");
    }
}
