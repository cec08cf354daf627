//! kill -9: a change and its line of the audit are there both, or neither.

use crate::support::{Server, Site};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const ROUNDS: usize = 12;
const RULES: usize = 3;
/// More than are erased in a round.
const USERS: usize = 2_000;

/// Every line of the audit, the newest first.
fn lines(server: &Server) -> Vec<Value> {
    let (mut lines, mut query) = (Vec::new(), "?limit=1000".to_owned());
    loop {
        let page = server.ok(&format!("/audit{query}"));
        lines.extend(page["entries"].as_array().unwrap().iter().cloned());
        let Some(cursor) = page["cursor"].as_str() else { return lines };
        query = format!("?limit=1000&cursor={cursor}");
    }
}

/// Changes a rule again and again: makes it, changes it, removes it.
fn change(base: &str, rule: usize, done: &AtomicUsize, stop: &AtomicBool) {
    let http = crate::support::client();
    let url = format!("{base}/rules/r{rule}");
    for n in 0_u64.. {
        let sent = match n % 3 {
            2 => http.delete(&url).send(),
            _ => http.put(&url).json(&json!({"key": "campaign:1", "limit": n + 1, "window": "1d"})).send(),
        };
        if sent.is_err() || stop.load(Ordering::Relaxed) {
            return;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Erases one user after another.
fn erase(base: &str, round: usize, done: &AtomicUsize, stop: &AtomicBool) {
    let http = crate::support::client();
    for n in 0..USERS {
        let sent = http.delete(format!("{base}/users/u{round}-{n}")).send();
        if sent.is_err() || stop.load(Ordering::Relaxed) {
            return;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many users of a round are gone. They are erased in their order.
fn erased(server: &Server, round: usize) -> usize {
    let is_gone = |n: usize| server.ok(&format!("/cap/u{round}-{n}/a"))["count"] == 0;
    (0..USERS).find(|n| !is_gone(*n)).unwrap_or(USERS)
}

#[test]
fn a_change_and_its_line_are_there_both_or_neither() {
    let site = Site::new(&[]);
    let mut all_erased = 0;
    for round in 0..ROUNDS {
        let server = site.start();
        let events: String =
            (0..USERS).map(|n| format!("{}\n", json!({"user": format!("u{round}-{n}"), "da": "a"}))).collect();
        assert_eq!(server.post_lines(&events).1["counted"], json!(USERS));
        let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for rule in 0..RULES {
                let (base, done, stop) = (&server.url, &done, &stop);
                scope.spawn(move || change(base, rule, done, stop));
            }
            let (base, done, stop) = (&server.url, &done, &stop);
            scope.spawn(move || erase(base, round, done, stop));
            crate::support::wait_for("some changes", || (done.load(Ordering::Relaxed) > 30 + 7 * round).then_some(()));
            // Anywhere in the middle of one.
            std::thread::park_timeout(Duration::from_micros(700 * round as u64));
            server.signal(9);
            stop.store(true, Ordering::Relaxed);
        });
        drop(server);
        let server = site.start();
        let lines = lines(&server);
        for rule in 0..RULES {
            let newest = lines.iter().find(|line| line["call"].as_str().unwrap().ends_with(&format!("/rules/r{rule}")));
            let told = newest.map(|line| line["after"]["limit"].clone()).unwrap_or_default();
            let (status, is) = server.get(&format!("/rules/r{rule}"));
            assert!(status == 200 || status == 404, "{is}");
            assert_eq!(is["limit"], told, "round {round}, rule {rule}: {newest:?}");
        }
        all_erased += erased(&server, round);
        let told = lines.iter().filter(|line| line["call"] == "DELETE /users/{user}").count();
        assert_eq!(told, all_erased, "round {round}");
        server.kill();
    }
}
