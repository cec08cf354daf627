//! kill -9 under load: what was acknowledged is counted once, whatever is sent again.

use crate::support::{Server, Site, now_ms};
use reqwest::blocking::Client;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CLIENTS: usize = 8;
const USERS: usize = 600;
const ADS: usize = 20;

/// An event of the load: everything of it follows from its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Sent {
    client: usize,
    number: usize,
}

impl Sent {
    fn pair(self) -> (usize, usize) {
        // Spread over users and ads by an odd multiplier.
        let spread = (self.client * 1_000_003 + self.number).wrapping_mul(0x9E37_79B9) >> 7;
        (spread % USERS, spread / USERS % ADS)
    }

    fn line(self, ts: u64) -> String {
        let (user, ad) = self.pair();
        let Sent { client, number } = self;
        format!(
            r#"{{"user":"user-{user}","da":"{ad}","ts":{ts},"id":"{client}-{number}","keys":["campaign:{}"]}}{}"#,
            ad % 3,
            '\n'
        )
    }
}

/// A client that remembers what was not acknowledged.
struct Load {
    client: usize,
    next: usize,
    ts: u64,
    pending: Vec<Vec<Sent>>,
    acknowledged: Vec<Sent>,
}

impl Load {
    /// Sends one batch; whether it was acknowledged.
    fn send(&mut self, http: &Client, url: &str, batch: Vec<Sent>) -> bool {
        let body: String = batch.iter().map(|sent| sent.line(self.ts)).collect();
        let request = http.post(format!("{url}/events")).header("content-type", "application/x-ndjson").body(body);
        let answer = request.send().and_then(|response| {
            let ok = response.status() == 200;
            Ok((ok, response.json::<Value>()?))
        });
        match answer {
            Ok((true, body)) => {
                let taken = body["counted"].as_u64().unwrap() + body["duplicate"].as_u64().unwrap();
                assert_eq!(taken as usize, batch.len(), "{body}");
                self.acknowledged.extend(batch);
                true
            }
            _ => {
                self.pending.push(batch);
                false
            }
        }
    }

    /// Sends again what was not acknowledged; whether all of it is now.
    fn resend(&mut self, http: &Client, url: &str) -> bool {
        let again = std::mem::take(&mut self.pending);
        // Every batch is tried: one that fails goes back to those pending.
        again.into_iter().filter(|batch| !self.send(http, url, batch.clone())).count() == 0
    }

    fn batch(&mut self) -> Vec<Sent> {
        let first = self.next;
        self.next += 25;
        (first..self.next).map(|number| Sent { client: self.client, number }).collect()
    }
}

fn rounds() -> usize {
    std::env::var("FREQCAP_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

/// Loads a server, kills it in the middle, starts the next on what it left, and sends again what it did not answer.
fn crash(flags: &[&str]) {
    let counting = ["--limit", "none", "--history-limit", "60000", "--writers", "2"];
    let site = Site::new(&[&counting[..], flags].concat());
    let ts = now_ms();
    let mut loads: Vec<_> = (0..CLIENTS)
        .map(|client| Load { client, next: 0, ts, pending: Vec::new(), acknowledged: Vec::new() })
        .collect();
    let mut broken = 0;
    for round in 0..rounds() {
        let server = site.start();
        let (url, stop, answered) = (server.url.clone(), AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for load in &mut loads {
                let (url, stop, answered) = (&url, &stop, &answered);
                scope.spawn(move || {
                    let http = crate::support::client();
                    if !load.resend(&http, url) {
                        return;
                    }
                    while !stop.load(Ordering::Relaxed) {
                        let batch = load.batch();
                        if !load.send(&http, url, batch) {
                            return;
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // Killed in full load, at another moment each round.
            crate::support::wait_for("answers", || {
                (answered.load(Ordering::Relaxed) >= CLIENTS + 7 * round % 40).then_some(())
            });
            std::thread::park_timeout(Duration::from_micros(137 * (round as u64 % 23)));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        broken += loads.iter().map(|load| load.pending.len()).sum::<usize>();
    }
    assert!(broken > 0, "no round interrupted anything: the load was too small");
    let server = site.start();
    assert!(loads.iter_mut().all(|load| load.resend(&server.http, &server.url)));
    verify(&server, &loads);
    println!("{broken} batches were interrupted");
}

fn verify(server: &Server, loads: &[Load]) {
    let mut expected: HashMap<(usize, usize), u64> = HashMap::new();
    for sent in loads.iter().flat_map(|load| &load.acknowledged) {
        *expected.entry(sent.pair()).or_default() += 1;
    }
    for ((user, ad), count) in expected {
        let verdict = server.ok(&format!("/cap/user-{user}/{ad}"));
        assert_eq!(verdict["count"], count, "user-{user} {ad}");
    }
    // A second time, all of it: every event is known.
    let sent: Vec<_> = loads.iter().flat_map(|load| &load.acknowledged).copied().collect();
    for batch in sent.chunks(5_000) {
        let body: String = batch.iter().map(|sent| sent.line(loads[0].ts)).collect();
        let (status, answer) = server.post_lines(&body);
        assert_eq!((status.as_u16(), &answer["duplicate"]), (200, &batch.len().into()), "{answer}");
    }
}

#[test]
fn after_kill_9_every_acknowledged_event_is_counted_once_with_fsync() {
    // An overlay so small that files are written all the while.
    crash(&["--durability", "fsync", "--overlay-size", "192KiB"]);
}

#[test]
fn after_kill_9_every_acknowledged_event_is_counted_once_with_wal() {
    crash(&["--durability", "wal", "--overlay-size", "192KiB"]);
}

/// Killed, compacted, served again: what was held is held, in fewer bytes, and no service is disturbed by it.
#[test]
fn a_directory_is_compacted_while_no_service_runs_on_it() {
    let site = Site::new(&["--overlay-size", "192KiB"]);
    let server = site.start();
    let ts = now_ms();
    for number in 0..20 {
        let lines: String = (0..1_000).map(|n| Sent { client: 0, number: number * 1_000 + n }.line(ts)).collect();
        assert_eq!(server.post_lines(&lines).0, 200);
    }
    let held = server.ok("/users/user-7");
    let compact = || {
        let mut command = std::process::Command::new(crate::support::binary());
        command.args(["compact", "--json", "--data-dir"]).arg(site.data()).output().unwrap()
    };
    let refused = compact();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use by process"), "{refused:?}");
    server.kill();
    let report: Value = serde_json::from_slice(&compact().stdout).unwrap();
    let bytes = |when: &str| report[when].as_u64().unwrap();
    assert!(0 < bytes("after") && bytes("after") < bytes("before"), "{report}");
    assert_eq!(site.start().ok("/users/user-7"), held);
}
