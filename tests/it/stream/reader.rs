//! A reader of the stream: a connection whose lines come in, and a follower that keeps a copy of the caps.

use crate::support::{DEADLINE, Server};
use reqwest::blocking::Response;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// An open stream of lines. Whoever drops it is gone for the service with the next line at the latest.
pub struct Stream {
    lines: Receiver<Value>,
}

/// Asks for the stream; the answer, as soon as its header is there.
pub fn ask(server: &Server, query: &str, headers: &[(&str, &str)]) -> Response {
    let client = reqwest::blocking::Client::builder().no_proxy().timeout(None).build().unwrap();
    let request = client.get(format!("{}/caps/stream?{query}", server.url));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().unwrap()
}

impl Stream {
    pub fn open(server: &Server, query: &str, id: Option<&str>) -> Self {
        let accept = ("accept", "application/x-ndjson");
        let headers: Vec<_> = [accept].into_iter().chain(id.map(|id| ("last-event-id", id))).collect();
        let response = ask(server, query, &headers);
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let (sender, lines) = channel();
        // Ends with the stream, or once nobody wants its lines.
        std::thread::spawn(move || {
            for line in BufReader::new(response).lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines }
    }

    /// The next line; `None` once the stream has ended.
    pub fn next(&self) -> Option<Value> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing came for {DEADLINE:?}, not even a checkpoint"),
        }
    }

    /// The next line but checkpoints.
    pub fn next_event(&self) -> Value {
        loop {
            let line = self.next().expect("the stream has ended");
            if line["event"] != "checkpoint" {
                return line;
            }
        }
    }

    /// What has come already, and comes within a moment.
    pub fn try_next(&self, within: Duration) -> Option<Value> {
        self.lines.recv_timeout(within).ok()
    }
}

/// The caps, by user and key: until when.
pub type Caps = BTreeMap<(String, String), u64>;

/// A copy of the caps that the stream keeps.
#[derive(Default)]
pub struct Follower {
    pub caps: Caps,
    /// The last checkpoint, and what the copy was by then: all that is left of it when its reader is killed.
    pub id: Option<String>,
    kept: Caps,
    /// Reasons of resets.
    pub resets: Vec<String>,
    pub snapshots: usize,
    pub changes: u64,
    /// By shard, the last sequence of this connection.
    seqs: HashMap<String, u64>,
}

impl Follower {
    /// Opens a stream where this copy is.
    pub fn connect(&mut self, server: &Server, query: &str) -> Stream {
        self.seqs.clear();
        Stream::open(server, query, self.id.as_deref())
    }

    /// Forgets what came after the last checkpoint, as a reader does that is killed.
    pub fn crash(&mut self) {
        self.caps = self.kept.clone();
    }

    pub fn apply(&mut self, line: &Value) {
        match line["event"].as_str().unwrap() {
            "cap" => self.apply_cap(line),
            "checkpoint" => {
                let id = line["id"].as_str().unwrap();
                assert!(!id.is_empty() && id.len() <= 2_048, "{id}");
                (self.id, self.kept) = (Some(id.to_owned()), self.caps.clone());
            }
            "snapshot_begin" => {
                self.caps.clear();
                self.seqs.clear();
            }
            "snapshot_end" => self.snapshots += 1,
            "reset" => self.resets.push(line["reason"].as_str().unwrap().to_owned()),
            other => panic!("{other}: {line}"),
        }
    }

    fn apply_cap(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let (shard, seq) = line["seq"].as_str().unwrap().split_once('-').unwrap();
        if line["at"].is_u64() {
            // In order, and each once while the connection lasts.
            let before = self.seqs.insert(shard.to_owned(), seq.parse().unwrap());
            assert!(before.is_none_or(|before| before < seq.parse().unwrap()), "{before:?} {line}");
            self.changes += 1;
        }
        let place = (text("user"), text("key"));
        match (line["change"].as_str().unwrap(), line["capped_until"].as_u64()) {
            ("ended", None) => self.caps.remove(&place),
            ("capped" | "extended" | "shortened", Some(until)) => self.caps.insert(place, until),
            _ => panic!("{line}"),
        };
    }
}

/// The caps of users, as `GET /users/{user}/caps` tells them.
pub fn caps_of(server: &Server, users: impl Iterator<Item = String>) -> Caps {
    let mut caps = Caps::new();
    for user in users {
        for cap in server.ok(&format!("/users/{user}/caps"))["caps"].as_array().unwrap() {
            let key = cap["key"].as_str().unwrap().to_owned();
            caps.insert((user.clone(), key), cap["capped_until"].as_u64().unwrap());
        }
    }
    caps
}
