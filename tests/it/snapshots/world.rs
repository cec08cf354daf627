//! A bucket, the services that keep their store in it, and what was sent to them.

use crate::support::bucket_server::{BUCKET, BucketServer};
use crate::support::{DEADLINE, Server, binary, now_ms, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Where snapshots go.
enum Place {
    Directory,
    S3(BucketServer),
}

/// A bucket, and room for data directories.
pub struct World {
    dir: tempfile::TempDir,
    place: Place,
    /// S3 is reached at this port, where it is another than the server's.
    pub port: Option<u16>,
    /// What every service is started with.
    pub flags: Vec<String>,
}

impl World {
    pub fn of_directory() -> Self {
        Self::new(Place::Directory)
    }

    pub fn of_s3() -> Self {
        Self::new(Place::S3(BucketServer::start()))
    }

    /// One of each kind of bucket.
    pub fn each(test: impl Fn(&World)) {
        test(&Self::of_directory());
        test(&Self::of_s3());
    }

    fn new(place: Place) -> Self {
        // Every event is counted, however many there are of a pair.
        let flags = ["--limit", "none", "--history-limit", "60000", "--writers", "2"];
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { dir: tempfile::tempdir().unwrap(), place, port: None, flags }
    }

    pub fn s3_port(&self) -> u16 {
        match &self.place {
            Place::S3(server) => server.port,
            Place::Directory => panic!("this is a directory"),
        }
    }

    pub fn url(&self) -> String {
        match &self.place {
            Place::Directory => format!("file://{}", self.dir.path().join("bucket").display()),
            Place::S3(_) => format!("s3://{BUCKET}/store"),
        }
    }

    /// The folder that the prefix is on disk.
    pub fn objects(&self) -> PathBuf {
        match &self.place {
            Place::Directory => self.dir.path().join("bucket"),
            Place::S3(server) => server.objects().join("store"),
        }
    }

    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn lose_disk(&self, name: &str) {
        std::fs::remove_dir_all(self.data(name)).unwrap();
    }

    /// A command of freqcap with what it needs to reach the bucket.
    pub fn freqcap(&self) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("FREQCAP_") || text.starts_with("AWS_") || text == "PORT" {
                command.env_remove(name);
            }
        }
        command.env("FREQCAP_SNAPSHOTS", self.url());
        if let Place::S3(server) = &self.place {
            command.envs(server.env(self.port.unwrap_or(server.port)));
        }
        command
    }

    /// The command of a service.
    pub fn serve(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = self.freqcap();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data(name));
        command.args(&self.flags).args(flags);
        command
    }

    pub fn start(&self, name: &str, flags: &[&str]) -> Server {
        Server::start(self.serve(name, flags))
    }

    /// Runs a command of `freqcap snapshot`.
    pub fn run(&self, args: &[&str]) -> Output {
        self.freqcap().arg("snapshot").args(args).output().unwrap()
    }

    /// The same, which must go well; what it printed, as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The snapshots that can be restored, the newest first.
    pub fn snapshots(&self) -> Vec<Value> {
        let listed = self.json(&["list", "--json"]);
        let all = listed["snapshots"].as_array().unwrap().clone();
        all.into_iter().filter(|snapshot| snapshot["state"] == "whole").collect()
    }
}

/// A service that ends instead of starting: its exit code and what it said.
pub fn refused(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > DEADLINE {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it is not refused: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Ends the load, however the test ends.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub const USERS: usize = 12;
pub const ADS: usize = 4;

pub type Pair = (usize, usize);

/// How often each pair was counted.
pub type Counts = BTreeMap<Pair, u64>;

/// What was sent, and when it was acknowledged.
#[derive(Default)]
pub struct Oracle {
    next: usize,
    /// What was held when this began.
    base: Counts,
    sent: Counts,
    /// Pairs, with the time at which the answer was there.
    acknowledged: Vec<(Pair, u64)>,
    /// Batches whose answer was lost.
    pub unanswered: Vec<Vec<usize>>,
}

/// The pair of an event.
fn pair(number: usize) -> Pair {
    let spread = number.wrapping_mul(0x9E37_79B9) >> 7;
    (spread % USERS, spread / USERS % ADS)
}

impl Oracle {
    /// Sends a batch; whether all of it was acknowledged.
    pub fn send(&mut self, server: &str, http: &reqwest::blocking::Client, events: usize) -> bool {
        let batch: Vec<usize> = (self.next..self.next + events).collect();
        self.next += events;
        batch.iter().for_each(|number| *self.sent.entry(pair(*number)).or_default() += 1);
        self.post(server, http, batch)
    }

    /// Sends again what was not answered; whether all of it is acknowledged now.
    pub fn send_again(&mut self, server: &str, http: &reqwest::blocking::Client) -> bool {
        let again = std::mem::take(&mut self.unanswered);
        again.into_iter().all(|batch| self.post(server, http, batch))
    }

    fn post(&mut self, server: &str, http: &reqwest::blocking::Client, batch: Vec<usize>) -> bool {
        let lines: String = batch
            .iter()
            .map(|number| {
                let (user, ad) = pair(*number);
                format!("{{\"user\":\"u{user}\",\"da\":\"{ad}\",\"id\":\"e{number}\"}}\n")
            })
            .collect();
        let request = http.post(format!("{server}/events")).header("content-type", "application/x-ndjson").body(lines);
        let is_taken = request.send().is_ok_and(|response| {
            response.status() == 200
                && response.json::<Value>().is_ok_and(|body| {
                    let taken = body["counted"].as_u64().unwrap() + body["duplicate"].as_u64().unwrap();
                    assert_eq!(taken as usize, batch.len(), "{body}");
                    true
                })
        });
        if is_taken {
            let now = now_ms();
            self.acknowledged.extend(batch.into_iter().map(|number| (pair(number), now)));
        } else {
            self.unanswered.push(batch);
        }
        is_taken
    }

    /// Asserts that a store has every count that was acknowledged before `since`, and none that was never sent. From then on
    /// what it has is what was held.
    pub fn check(&mut self, server: &Server, since: u64) {
        let held = counts(server);
        let mut least = self.base.clone();
        for (pair, _) in self.acknowledged.iter().filter(|(_, at)| *at < since) {
            *least.entry(*pair).or_default() += 1;
        }
        for user in 0..USERS {
            for ad in 0..ADS {
                let of = |counts: &Counts| counts.get(&(user, ad)).copied().unwrap_or(0);
                let (least, held, most) = (of(&least), of(&held), of(&self.base) + of(&self.sent));
                assert!((least..=most).contains(&held), "u{user} {ad}: {held} is not in {least}..={most}");
            }
        }
        *self = Self { next: self.next, base: held, ..Self::default() };
    }

    /// Events that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Asserts that exactly what was sent is counted.
    pub fn is_exact(&self, server: &Server) {
        let mut sent = self.base.clone();
        self.sent.iter().for_each(|(pair, count)| *sent.entry(*pair).or_default() += count);
        sent.retain(|_, count| *count > 0);
        assert_eq!(counts(server), sent);
    }
}

/// Every count of a store.
pub fn counts(server: &Server) -> Counts {
    let mut counts = Counts::new();
    for user in 0..USERS {
        let candidates: Vec<String> = (0..ADS).map(|ad| ad.to_string()).collect();
        for (ad, verdict) in
            server.call("/check", &json!({"user": format!("u{user}"), "candidates": candidates}))["results"]
                .as_array()
                .unwrap()
                .iter()
                .enumerate()
        {
            let count = verdict["count"].as_u64().unwrap();
            if count > 0 {
                counts.insert((user, ad), count);
            }
        }
    }
    counts
}

/// Takes a snapshot of a service.
pub fn take(server: &Server) -> Value {
    let (status, body) = server.post("/snapshots", "application/json", "");
    assert_eq!(status, 201, "{body}");
    body
}

/// Waits until `/readyz` has this code, and returns the answer.
pub fn is_waiting(server: &Server, code: &str) -> Value {
    wait_for(code, || {
        let (status, body) = server.get("/readyz");
        (status == 503 && body["code"] == code).then_some(body)
    })
}

/// Waits until a service that started by waiting serves.
pub fn is_ready(server: &Server) {
    wait_for("the service to serve", || {
        let answer = server.http.get(format!("{}/readyz", server.url)).send();
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    });
}
