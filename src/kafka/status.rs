//! The adapter's progress, as others see it.

use crate::store::Frontier;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Where to begin is not known yet.
    #[default]
    Starting,
    Reading,
    /// Its topic was made anew: reading has stopped.
    Stopped,
}

/// The figures of a partition.
#[derive(Debug, Clone, Default)]
struct Figures {
    state: State,
    frontier: Frontier,
    /// The offset that the next record will get.
    end: u64,
    /// Its end when it was first asked for. Once read to there, it has caught up.
    goal: Option<u64>,
    caught_up: bool,
}

impl Figures {
    fn lag(&self) -> u64 {
        self.end.saturating_sub(self.frontier.next)
    }
}

/// The progress of the back-fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether every partition was read to where it ended at the start.
    pub caught_up: bool,
    /// Records that are not yet counted.
    pub lag: u64,
    /// Partitions that were stopped.
    pub stopped: usize,
}

/// Handle to the adapter's progress; cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Status>);

struct Status {
    partitions: Mutex<BTreeMap<u32, (Figures, Gauges)>>,
    connection: Mutex<Option<bool>>,
    revalidations: AtomicU64,
    counters: Counters,
}

struct Gauges {
    lag: Gauge,
    state: Gauge,
}

/// Counters that are registered once.
#[derive(Clone)]
#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
pub(super) struct Counters {
    pub records: Counter,
    pub events: Counter,
    pub skipped: Counter,
    pub lost: Counter,
    pub tombstones: Counter,
    connected: Gauge,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
impl Handle {
    pub(super) fn new() -> Self {
        describe();
        Self(Arc::new(Status {
            partitions: Mutex::default(),
            connection: Mutex::default(),
            revalidations: AtomicU64::new(0),
            counters: Counters {
                records: counter!("freqcap_kafka_records_total"),
                events: counter!("freqcap_kafka_events_total"),
                skipped: counter!("freqcap_kafka_skipped_total"),
                lost: counter!("freqcap_kafka_lost_records_total"),
                tombstones: counter!("freqcap_kafka_tombstones_total"),
                connected: gauge!("freqcap_kafka_connected"),
            },
        }))
    }

    /// The progress of the back-fill.
    pub fn progress(&self) -> Progress {
        let partitions = locked(&self.0.partitions);
        let mut progress = Progress { caught_up: !partitions.is_empty(), lag: 0, stopped: 0 };
        for (figures, _) in partitions.values() {
            progress.caught_up &= figures.caught_up;
            progress.lag += figures.lag();
            progress.stopped += usize::from(figures.state == State::Stopped);
        }
        progress
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    fn change(&self, partition: u32, change: impl FnOnce(&mut Figures)) {
        let mut partitions = locked(&self.0.partitions);
        let (figures, gauges) = partitions.entry(partition).or_insert_with(|| {
            let name = partition.to_string();
            let lag = gauge!("freqcap_kafka_lag", "partition" => name.clone());
            (Figures::default(), Gauges { lag, state: gauge!("freqcap_kafka_partition_state", "partition" => name) })
        });
        change(figures);
        if figures.state == State::Reading && figures.goal.is_some_and(|goal| goal <= figures.frontier.next) {
            figures.caught_up = true;
        }
        gauges.lag.set(figures.lag() as f64);
        gauges.state.set(f64::from(figures.state as u8));
    }

    pub(super) fn state(&self, partition: u32, state: State) {
        self.change(partition, |figures| figures.state = state);
    }

    pub(super) fn frontier(&self, partition: u32, frontier: Frontier) {
        self.change(partition, |figures| figures.frontier = frontier);
    }

    /// Forgets the partition's figures: the topic was made anew.
    pub(super) fn reset(&self, partition: u32) {
        self.change(partition, |figures| *figures = Figures::default());
    }

    /// Sets the partition's end. An end that is lower than before means that the topic was made anew.
    pub(super) fn end(&self, partition: u32, end: u64) {
        let mut before = 0;
        self.change(partition, |figures| {
            before = std::mem::replace(&mut figures.end, end);
            figures.goal.get_or_insert(end);
        });
        if end < before {
            self.revalidate();
        }
    }

    /// Asks for a revalidation: the topic may have been made anew.
    pub(super) fn revalidate(&self) {
        self.0.revalidations.fetch_add(1, Ordering::Relaxed);
    }

    /// How many revalidations were asked for.
    pub(super) fn revalidations(&self) -> u64 {
        self.0.revalidations.load(Ordering::Relaxed)
    }

    /// Every record up to the end is read and durable.
    pub(super) fn at_end(&self, partition: u32) {
        self.change(partition, |figures| figures.caught_up = true);
    }

    /// The partition's end when it was last asked for.
    pub(super) fn end_of(&self, partition: u32) -> u64 {
        locked(&self.0.partitions).get(&partition).map_or(0, |(figures, _)| figures.end)
    }

    /// The frontiers of all partitions that were not stopped.
    pub(super) fn frontiers(&self) -> Vec<(u32, Frontier)> {
        let partitions = locked(&self.0.partitions);
        let going = partitions.iter().filter(|(_, (figures, _))| figures.state == State::Reading);
        going.map(|(partition, (figures, _))| (*partition, figures.frontier)).collect()
    }

    /// Whether the brokers answer; a change is logged once.
    pub(super) fn connected(&self, trouble: Option<&str>) {
        let mut connection = locked(&self.0.connection);
        let up = trouble.is_none();
        if *connection != Some(up) {
            match trouble {
                None => tracing::info!("Kafka answers"),
                Some(why) => tracing::warn!(why, "Kafka cannot be asked; it is tried again until it can"),
            }
            self.0.counters.connected.set(f64::from(u8::from(up)));
            *connection = Some(up);
        }
    }
}

/// Describes the metrics of the adapter and of the output.
pub fn describe() {
    describe_gauge!("freqcap_kafka_lag", "Records of a partition that are not yet counted");
    describe_gauge!(
        "freqcap_kafka_partition_state",
        "What is done with a partition: 0 finding out where to begin, 1 reading, 2 stopped (kafka_topic_changed)"
    );
    describe_gauge!("freqcap_kafka_connected", "Whether the brokers answer");
    describe_counter!("freqcap_kafka_records_total", "Records read");
    describe_counter!("freqcap_kafka_events_total", "Events handed to the writers");
    describe_counter!("freqcap_kafka_skipped_total", "Events read again after a start that were counted before it");
    describe_counter!("freqcap_kafka_lost_records_total", "Records that Kafka no longer had when they were to be read");
    describe_counter!("freqcap_kafka_tombstones_total", "Records without a value: read, and nothing to be counted");
    describe_counter!("freqcap_kafka_dead_letters_total", "Records that could not be used, by reason");
    describe_counter!("freqcap_kafka_output_total", "Changes of caps that the output topic has taken");
    describe_gauge!("freqcap_kafka_output_waiting", "Changes of caps that the output topic was not told yet");
}
