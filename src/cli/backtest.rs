//! `freqcap backtest`: what a cap would have refused.

use super::files::{EventFile, FileError, Flow};
use crate::config::{Config, ConfigError, Flags, RuleConfig};
use crate::engine::{Ledger, Policy, Question};
use crate::model::{CapKey, Event, Kind, Nobody, Rule, RuleSet, TsMs};
use hashbrown::{HashMap, HashSet};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Runs the capping engine over a file of events, in the order of their times
///
/// An impression that the rules refuse is not counted against later ones; clicks and other kinds are counted but never
/// refused. Of events with one id only the first is looked at. Users that mean nobody are ignored, as the service
/// does. Everything is held in memory, about 300 bytes an event. The exit code is 1 if any row was left out.
#[derive(Debug, clap::Args)]
pub struct BacktestArgs {
    /// NDJSON, or CSV whose header names the fields of events (user, da, ts or ts_ms, kind, ...); gzip too; - is standard
    /// input
    file: PathBuf,
    /// At most N events of an ad per user and window
    #[arg(long, value_name = "N", required_unless_present = "rules", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// A duration (5d), lifetime, or day@ZONE, week@ZONE, month@ZONE (day@Asia/Seoul)
    #[arg(long, value_name = "WINDOW", required_unless_present = "rules")]
    window: Option<String>,
    /// The kind of event that --limit is about
    #[arg(long, value_name = "KIND", default_value = "impression")]
    kind: String,
    /// Rules instead of --limit and --window: a JSON array of rules, or {"rules": [...]}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit", "window", "kind"])]
    rules: Option<PathBuf>,
    /// Columns of a CSV whose values are ids of keys: campaign makes campaign:<value>
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    keys: Vec<String>,
    /// Settings file, for its [fields]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print nothing but {"impressions":n,"refused":n,"users":n,"pairs":n,"histogram":{"1":n,...}}
    #[arg(long)]
    json: bool,
    /// End with exit code 0 though rows were left out
    #[arg(long)]
    allow_rejects: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Rules(String),
}

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
struct Outcome {
    impressions: u64,
    refused: u64,
    users: u64,
    /// (user, ad) pairs with an impression.
    pairs: u64,
    /// By how many impressions: how many pairs the file has with so many.
    histogram: BTreeMap<u64, u64>,
    /// Users shown at least one impression.
    #[serde(skip)]
    reach: u64,
    #[serde(skip)]
    others: u64,
    #[serde(skip)]
    duplicates: u64,
    /// Of users that mean nobody.
    #[serde(skip)]
    ignored: u64,
}

/// Runs; says whether no row was left out.
pub fn run(args: &BacktestArgs) -> Result<bool, BacktestError> {
    let config = Config::load(&Flags::of_file(args.config.clone(), None))?;
    let reader = config.event_reader();
    let rules = rules(args)?;
    let file = EventFile { path: &args.file, reader: &reader, keys: &args.keys };
    let found = events(&file)?;
    let outcome = backtest(rules, &config.capping.ignore_users, &found.events);
    if outcome.ignored > 0 {
        eprintln!("{} events of users that mean nobody (null, macros, ...) were ignored", outcome.ignored);
    }
    if args.json {
        println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
    } else {
        print!("{}", outcome.table());
    }
    match found.failure {
        Some(why) => Err(why.into()),
        None => Ok(found.rejected == 0 || args.allow_rejects),
    }
}

fn rules(args: &BacktestArgs) -> Result<Vec<Rule>, BacktestError> {
    let written = match &args.rules {
        Some(path) => rules_of_file(path).map_err(|why| format!("{}: {why}", path.display())),
        None => rule_of_flags(args).map(|rule| vec![rule]),
    };
    let written = written.map_err(BacktestError::Rules)?;
    // A log is as long as the highest limit here: nothing is served from it.
    let history_limit = written.iter().filter_map(|rule| rule.limit).max().unwrap_or(0).max(256) as usize;
    written.iter().map(|rule| rule.rule(history_limit).map_err(BacktestError::Rules)).collect()
}

fn rules_of_file(path: &Path) -> Result<Vec<RuleConfig>, String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("cannot be read: {why}"))?;
    RuleConfig::list(&text)
}

fn rule_of_flags(args: &BacktestArgs) -> Result<RuleConfig, String> {
    let kind = Kind::new(&args.kind).map_err(|why| format!("--kind: {:?} {why}", args.kind))?;
    let text = args.window.as_deref().unwrap_or_default();
    let window = RuleConfig::read_window(text).map_err(|why| format!("--window: {text:?} {why}"))?;
    Ok(RuleConfig::default_rule(args.limit, window, kind))
}

/// What a file has.
struct Found {
    /// By time; those of one instant in the file's order.
    events: Vec<(TsMs, Event<'static>)>,
    /// Rows left out.
    rejected: u64,
    /// Why the rest of the file was not read.
    failure: Option<FileError>,
}

fn events(file: &EventFile<'_>) -> Result<Found, BacktestError> {
    const TOLD: u64 = 10;
    let (mut events, mut rejected) = (Vec::new(), 0);
    let read = file.each(file.open()?, |place, event| {
        let detail = match event {
            Ok(event) => match event.ts {
                Some(ts) => {
                    events.push((ts, owned(event)));
                    return Flow::Continue(());
                }
                None => "ts is missing".to_owned(),
            },
            Err(reject) => reject.detail,
        };
        rejected += 1;
        if rejected <= TOLD {
            eprintln!("line {}: left out: {detail}", place.line);
        }
        Flow::<()>::Continue(())
    });
    let failure = match read {
        Err(why) if why.is_usage() => return Err(why.into()),
        read => read.err(),
    };
    if rejected > TOLD {
        eprintln!("{rejected} events were left out");
    }
    events.sort_by_key(|(ts, _)| *ts);
    Ok(Found { events, rejected, failure })
}

fn owned(event: Event<'_>) -> Event<'static> {
    Event {
        user: event.user.into_owned(),
        da: event.da.into_owned(),
        ts: event.ts,
        id: event.id.map(|id| id.into_owned()),
        kind: event.kind,
        keys: event.keys.into_iter().map(|key| key.into_owned()).collect(),
    }
}

fn backtest(rules: Vec<Rule>, nobody: &Nobody, events: &[(TsMs, Event<'static>)]) -> Outcome {
    let span = events.last().map_or(0, |last| last.0.0) - events.first().map_or(0, |first| first.0.0);
    let history_limit = rules.iter().filter_map(|rule| rule.limit).max().unwrap_or(0).clamp(256, 65_535) as usize;
    // Longer than the file: nothing is late, and no log void.
    // Nor is any row written.
    let policy = Policy::new(RuleSet::new(rules), history_limit, span + 1, span + 1, 0).with_max_kinds(usize::MAX);

    let mut outcome = Outcome::default();
    let mut ledger = Ledger::default();
    let mut ids = HashSet::new();
    let mut pairs: HashMap<(&str, &str), u64> = HashMap::new();
    let (mut users, mut reached) = (HashSet::new(), HashSet::new());
    for (ts, event) in events {
        if nobody.is_meant_by(event.user.as_str()) {
            outcome.ignored += 1;
            continue;
        }
        users.insert(event.user.as_str());
        if event.id.is_some() && !ids.insert((event.user.as_str(), event.kind, event.hash())) {
            outcome.duplicates += 1;
            continue;
        }
        if event.kind != Kind::IMPRESSION {
            outcome.others += 1;
            ledger.count(&policy, event, *ts, *ts);
            continue;
        }
        outcome.impressions += 1;
        *pairs.entry((event.user.as_str(), event.da.as_str())).or_default() += 1;
        let question = Question { kind: None, at: Some(*ts), explain: false };
        let da = CapKey::of_da(&event.da);
        if ledger.judge(&policy, event.user.as_str(), &da, &event.keys, question, *ts).capped {
            outcome.refused += 1;
        } else {
            ledger.count(&policy, event, *ts, *ts);
            reached.insert(event.user.as_str());
        }
    }
    outcome.users = users.len() as u64;
    outcome.reach = reached.len() as u64;
    outcome.pairs = pairs.len() as u64;
    for seen in pairs.into_values() {
        *outcome.histogram.entry(seen).or_default() += 1;
    }
    outcome
}

impl Outcome {
    fn table(&self) -> String {
        let mut table = Table::default();
        table.row("impressions", self.impressions, String::new());
        table.row("  refused", self.refused, percent(self.refused, self.impressions));
        let shown = self.impressions - self.refused;
        table.row("  shown", shown, percent(shown, self.impressions));
        table.row("other events", self.others, String::new());
        table.row("duplicates left out", self.duplicates, String::new());
        table.row("ignored (no user)", self.ignored, String::new());
        table.row("users", self.users, String::new());
        table.row("  reached", self.reach, percent(self.reach, self.users));
        table.row("pairs (user, da)", self.pairs, String::new());
        for (name, range) in [
            ("1", 1..=1),
            ("2", 2..=2),
            ("3", 3..=3),
            ("4", 4..=4),
            ("5", 5..=5),
            ("6-9", 6..=9),
            ("10+", 10..=u64::MAX),
        ] {
            let pairs = self.histogram.range(range).map(|(_, pairs)| pairs).sum();
            table.row(&format!("  seen {name}"), pairs, percent(pairs, self.pairs));
        }
        table.0
    }
}

/// Rows of name, count and note.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, count: u64, note: String) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<24}{count:>14}{note}");
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("  {:5.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
