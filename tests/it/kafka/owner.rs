//! One process holds the counts of a topic.

use crate::kafka::world::{TOPIC, caught_up, config, logged, make_topic, produce, record, site};
use crate::support::kafka_broker::Broker;
use crate::support::{Server, Site, now_ms, wait_for};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_second_process_is_refused_until_told_to_take_over() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    let event = |n: u64| record(n.to_string(), json!({"user": "u", "da": "1", "ts": now_ms() - n}).to_string());
    produce(&broker, TOPIC, (0..10).map(event));
    let one = site(&broker, &[]);
    let mut first = one.start();
    caught_up(&first);
    let mut two = site(&broker, &[]);
    let mut second = two.start();
    assert_eq!(second.wait().code(), Some(1));
    let said = logged(&second, "kafka_group_in_use");
    assert!(said.contains("--kafka-takeover") || said.contains("freqcap"), "{said}");
    // Under another group it may.
    two.flags.extend(["--kafka-group".to_owned(), "another".to_owned()]);
    let server = two.start();
    caught_up(&server);
    assert_eq!(server.ok("/cap/u/1")["count"], 10);
    drop(server);
    // Taken over, the first one ends by itself.
    two.flags.truncate(two.flags.len() - 2);
    two.flags.push("--kafka-takeover".to_owned());
    let second = two.start();
    caught_up(&second);
    assert_eq!(first.wait().code(), Some(1));
    assert_eq!(second.ok("/cap/u/1")["count"], 10);
    assert!(second.terminate().success());
    // And is refused in turn. The flag may stay with the second.
    let mut first = one.start();
    assert_eq!(first.wait().code(), Some(1));
    let second = two.start();
    caught_up(&second);
}

#[test]
fn whoever_took_the_group_does_not_take_it_back() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    let event = |n: u64| record(n.to_string(), json!({"user": "u", "da": "1", "ts": now_ms() - n}).to_string());
    produce(&broker, TOPIC, (0..10).map(event));
    let sites = [site(&broker, &["--kafka-takeover"]), site(&broker, &["--kafka-takeover"])];
    let mut servers = sites.each_ref().map(Site::start);
    // Each may take the group once, so one of the two gives up, whichever was first.
    let lost = wait_for("one of the two to give up", || servers.iter_mut().position(|server| server.has_ended()));
    assert_eq!(servers[lost].wait().code(), Some(1));
    logged(&servers[lost], "kafka_group_in_use");
    caught_up(&servers[1 - lost]);
    // Started again it takes the group in its turn, and the other gives up.
    servers[lost] = sites[lost].start();
    assert_eq!(servers[1 - lost].wait().code(), Some(1));
    caught_up(&servers[lost]);
    assert_eq!(servers[lost].ok("/cap/u/1")["count"], 10);
}

#[test]
fn a_group_that_others_consume_with_is_told() {
    let broker = Broker::start();
    make_topic(&broker, TOPIC, 2);
    make_topic(&broker, "others", 1);
    // A member that is alive makes the group one that only its members may commit in.
    let member: BaseConsumer = config(&broker).set("group.id", "shared").create().unwrap();
    member.subscribe(&["others"]).unwrap();
    wait_for("the member to be assigned", || {
        let _ = member.poll(Duration::from_millis(50));
        (member.assignment().unwrap().count() == 1).then_some(())
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let polling = std::thread::spawn({
        let is_over = is_over.clone();
        move || {
            while !is_over.load(Ordering::Relaxed) {
                let _ = member.poll(Duration::from_millis(100));
            }
        }
    });
    let site = site(&broker, &["--kafka-group", "shared"]);
    let server = site.start();
    caught_up(&server);
    logged(&server, "offsets are not committed");
    is_over.store(true, Ordering::Relaxed);
    polling.join().unwrap();
}

#[test]
fn settings_that_cannot_work_are_refused_at_once_and_secrets_are_not_printed() {
    let broker = Broker::start();
    for set in ["no.such.setting=hunter2", "security.protocol=hunter2"] {
        let site = site(&broker, &["--kafka-set", set]);
        let output = site.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(set.split('=').next().unwrap()) && !said.contains("hunter2"), "{said}");
    }
    let site = site(&broker, &["--kafka-set", "group.id=x"]);
    assert_eq!(site.command().output().unwrap().status.code(), Some(2));
    let server = Server::with(&["--kafka-brokers", "127.0.0.1:1", "--kafka-topic", "t"]);
    wait_for("the broker to be missed", || (server.1.metric("freqcap_kafka_connected") == 0.0).then_some(()));
}
