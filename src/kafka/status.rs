//! What is known from outside of how the adapter is.

use crate::store::Frontier;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// It is being found out where to begin.
    #[default]
    Starting,
    Reading,
    /// Its topic is another one than before: it is left alone.
    Stopped,
}

/// What is known of a partition.
#[derive(Debug, Clone, Default)]
struct Figures {
    state: State,
    frontier: Frontier,
    /// The offset that the next record will get.
    end: u64,
    /// Where it ended when it was first looked at; once it was read to there it has caught up.
    goal: Option<u64>,
    caught_up: bool,
}

impl Figures {
    fn lag(&self) -> u64 {
        self.end.saturating_sub(self.frontier.next)
    }
}

/// How far the back-fill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether every partition was read to where it ended at the start.
    pub caught_up: bool,
    /// Records that are not yet counted.
    pub lag: u64,
    /// Partitions that were stopped.
    pub stopped: usize,
}

/// Tells how the adapter is; cheap to clone.
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

/// Handles made once.
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

    /// How far the back-fill is.
    pub fn progress(&self) -> Progress {
        let partitions = locked(&self.0.partitions);
        let all = || partitions.values().map(|(figures, _)| figures);
        Progress {
            caught_up: !partitions.is_empty() && all().all(|figures| figures.caught_up),
            lag: all().map(Figures::lag).sum(),
            stopped: all().filter(|figures| figures.state == State::Stopped).count(),
        }
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

    /// Nothing is known of the partition any more: it is another topic's.
    pub(super) fn reset(&self, partition: u32) {
        self.change(partition, |figures| *figures = Figures::default());
    }

    /// The partition's end, as the broker tells it. One that is less than before is no end of the same topic.
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

    /// The topic may have been made anew: every partition is to be looked at again.
    pub(super) fn revalidate(&self) {
        self.0.revalidations.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was.
    pub(super) fn revalidations(&self) -> u64 {
        self.0.revalidations.load(Ordering::Relaxed)
    }

    /// Everything that there was is read and durable.
    pub(super) fn at_end(&self, partition: u32) {
        self.change(partition, |figures| figures.caught_up = true);
    }

    /// Where a partition ended when it was last asked for.
    pub(super) fn end_of(&self, partition: u32) -> u64 {
        locked(&self.0.partitions).get(&partition).map_or(0, |(figures, _)| figures.end)
    }

    /// The partitions known, with their frontiers; without those that were stopped.
    pub(super) fn frontiers(&self) -> Vec<(u32, Frontier)> {
        let partitions = locked(&self.0.partitions);
        let going = partitions.iter().filter(|(_, (figures, _))| figures.state == State::Reading);
        going.map(|(partition, (figures, _))| (*partition, figures.frontier)).collect()
    }

    /// The brokers answer, or do not: said once.
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

/// Says what the metrics of the adapter and of the output are.
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
