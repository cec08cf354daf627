//! What was measured, by name.

use serde_json::Value;
use std::collections::BTreeMap;

/// One figure of one run.
#[derive(Clone, Debug)]
pub struct Figure {
    pub value: f64,
    /// Peak of the measured process, in bytes.
    pub memory: Option<u64>,
    /// Everything else that is known of the run.
    pub details: Value,
}

/// Figures by name, each as often as it was measured.
#[derive(Default)]
pub struct Figures(BTreeMap<&'static str, Vec<Figure>>);

impl Figures {
    pub fn add(&mut self, name: &'static str, figure: Figure) {
        self.0.entry(name).or_default().push(figure);
    }

    /// The median of its runs.
    pub fn get(&self, name: &str) -> Option<f64> {
        median(self.0.get(name)?.iter().map(|figure| figure.value))
    }

    /// CPU time of the measured process for each event, verdict or request, in µs: the median. Who else has the cores
    /// hardly changes it.
    pub fn cpu_us(&self, name: &str) -> Option<f64> {
        let each = |figure: &Figure| {
            let Value::Object(details) = &figure.details else { return None };
            let used = details.get("cpu")?["service"].as_f64()?;
            Some(used * 1e6 / details.get("done")?.as_f64()?)
        };
        median(self.0.get(name)?.iter().filter_map(each))
    }

    /// The highest peak of its runs.
    pub fn memory(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.iter().filter_map(|figure| figure.memory).max()
    }

    /// The share of the machine that neither the generator nor what was measured had, at the most; steal included.
    pub fn others(&self, name: &str) -> Option<f64> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let share = |figure: &Figure| {
            let cpu = &figure.details["cpu"];
            let used = cpu["others"].as_f64()? + cpu["steal"].as_f64()?;
            Some(used / cpu["seconds"].as_f64()? / cores)
        };
        self.0.get(name)?.iter().filter_map(share).max_by(f64::total_cmp)
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub fn to_json(&self) -> Value {
        let runs = |figures: &Vec<Figure>| {
            let run = |figure: &Figure| serde_json::json!({"value": figure.value, "memory": figure.memory, "details": figure.details});
            figures.iter().map(run).collect::<Vec<_>>()
        };
        self.0.iter().map(|(name, figures)| ((*name).to_owned(), Value::from(runs(figures)))).collect()
    }
}

/// Of an even number, the lower one in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
