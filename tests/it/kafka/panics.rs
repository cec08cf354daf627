//! A thread of the adapter that panics is seen at once. What makes it panic here is its own log, read by the test.

use crate::kafka::world::{TOPIC, make_topic, produce, record};
use crate::support::kafka_broker::Broker;
use crate::support::{now_ms, wait_for};
use freqcap::clock::Clock;
use freqcap::engine::{Policy, plan_cap};
use freqcap::input::EventReader;
use freqcap::kafka::{self, ClientSettings, Cluster, OutputOptions, Parts, StartFrom};
use freqcap::model::{CapKey, RuleSet, TsMs, UserId};
use freqcap::settings::Defaults;
use freqcap::shard::{self, Shards};
use freqcap::store::{RowKey, StorageKind, Store, StoreOptions};
use std::sync::{Arc, Mutex};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const DAY: u64 = 86_400_000;

/// The thread whose next line makes it panic.
static VICTIM: Mutex<Option<&str>> = Mutex::new(None);

/// Panics in place of writing a line. (Of the adapter alone: what librdkafka logs is logged from within C.)
struct Trap;

impl<S: Subscriber> Layer<S> for Trap {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let victim = *VICTIM.lock().unwrap();
        let ours = event.metadata().target().starts_with("freqcap::kafka");
        let told = ours && *event.metadata().level() <= tracing::Level::WARN;
        if told && victim.is_some() && std::thread::current().name() == victim {
            panic!("as the test wants it");
        }
    }
}

/// Waits until the thread has panicked, and that is known.
fn dies(store: &Store, thread: &'static str) {
    *VICTIM.lock().unwrap() = Some(thread);
    let raised = wait_for(thread, || store.alarm().raised().map(str::to_owned));
    assert_eq!(raised, thread);
    *VICTIM.lock().unwrap() = None;
}

fn store() -> (Arc<Store>, Shards) {
    let options = StoreOptions { storage: StorageKind::Memory, keep_changes: true, ..StoreOptions::default() };
    let store = Arc::new(Store::open(&options).unwrap());
    let policy = Policy::new(RuleSet::new([]), 256, 7 * DAY, 400 * DAY, 60_000);
    let defaults = shard::Settings::read(&Defaults).unwrap().options(64 << 20);
    let shards = shard::Options { writers: 1, min_free_disk: 0, ..defaults };
    let shards = Shards::start(store.clone(), &policy, Vec::new(), Clock::system(), &shards).unwrap();
    (store, shards)
}

fn cluster(brokers: &str) -> Cluster {
    Cluster { brokers: brokers.to_owned(), settings: ClientSettings::default() }
}

fn pull(store: &Arc<Store>, shards: &Shards, brokers: &str) -> kafka::Running {
    let mut settings = kafka::Settings::read(&Defaults).unwrap();
    settings.kafka_brokers = Some(brokers.to_owned());
    settings.kafka_topic = Some(TOPIC.to_owned());
    settings.kafka_from = StartFrom::Earliest;
    let options = settings.options(2_000).unwrap();
    let parts = Parts {
        router: shards.router().clone(),
        offsets: kafka::Offsets::new([store.clone()].into()),
        events: EventReader::default(),
        clock: Clock::system(),
        retention_ms: 7 * DAY,
    };
    kafka::start(options, parts).unwrap()
}

#[test]
fn a_thread_that_panics_raises_the_alarm() {
    tracing_subscriber::registry().with(Trap).init();

    let (of_service, shards) = store();
    let running = pull(&of_service, &shards, "127.0.0.1:1");
    dies(&of_service, "kafka");
    assert!(shards.router().health().needs_restart().unwrap().contains("kafka"));
    // That is for whoever asks about the health of the process to say: it does not end by itself.
    assert!(!running.failed_token().is_cancelled());
    assert!(running.stop().is_err());
    drop(shards);

    let broker = Broker::start();
    make_topic(&broker, TOPIC, 1);
    let (of_puller, shards) = store();
    let running = pull(&of_puller, &shards, &broker.bootstrap());
    produce(&broker, TOPIC, [record("k", "{")]);
    dies(&of_puller, "kafka-0");
    assert!(!running.failed_token().is_cancelled());
    assert!(running.stop().is_err());
    drop(shards);

    let (of_output, shards) = store();
    let row = RowKey::new(&UserId::new("u").unwrap(), &CapKey::new("da:1").unwrap());
    let mut commit = of_output.begin_commit();
    let until = TsMs(now_ms() + DAY);
    commit.put_cap(row.as_bytes(), &plan_cap(None, Some(until), false), TsMs(now_ms()));
    of_output.changes().publish(commit.write().unwrap());
    let options = OutputOptions { cluster: cluster("127.0.0.1:1"), topic: "out".to_owned() };
    let running = kafka::start_output(options, vec![of_output.clone()]).unwrap();
    dies(&of_output, "kafka-output");
    running.stop();
    drop(shards);
}
