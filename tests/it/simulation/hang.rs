//! What freqcap talks to takes the connection and then says nothing: events are none the slower for it, and a stop is.

use crate::support::{Server, now_ms, wait_for};
use serde_json::json;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Takes connections and never answers.
struct Silent {
    address: String,
    taken: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let all = taken.clone();
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                all.lock().unwrap().push(stream);
            }
        });
        Self { address, taken }
    }

    fn is_called(&self) -> bool {
        !self.taken.lock().unwrap().is_empty()
    }
}

fn serves_beside(silent: &Silent, flags: &[&str]) {
    let (_site, server) = Server::with(flags);
    wait_for("a connection to who never answers", || silent.is_called().then_some(()));
    for number in 0..100 {
        let sent = Instant::now();
        server.count(&json!({"user": "u", "da": number.to_string(), "ts": now_ms(), "id": number.to_string()}));
        let verdict = server.ok(&format!("/cap/u/{number}"));
        assert_eq!(verdict["count"], 1, "{verdict}");
        // Far less than any time after which somebody would give up waiting.
        assert!(sent.elapsed() < Duration::from_secs(1), "event {number} took {:?}", sent.elapsed());
    }
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.get("/readyz").0, 200);
    let stopping = Instant::now();
    let status = server.terminate();
    assert!(status.success(), "{status}");
    assert!(stopping.elapsed() < Duration::from_secs(10), "it took {:?} to stop", stopping.elapsed());
}

#[test]
#[cfg(feature = "kafka")]
fn events_go_on_and_a_stop_is_quick_beside_a_kafka_that_never_answers() {
    let silent = Silent::start();
    serves_beside(&silent, &["--kafka-brokers", &silent.address, "--kafka-topic", "events"]);
}

#[test]
fn events_go_on_and_a_stop_is_quick_beside_a_redis_that_never_answers() {
    let silent = Silent::start();
    serves_beside(&silent, &["--limit", "1", "--redis", &format!("redis://{}", silent.address)]);
}
