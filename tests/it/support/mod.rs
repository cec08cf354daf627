//! A freqcap of one's own for a test: the real binary on a free port and a temporary directory, ended with the test.

pub mod bucket_server;
#[cfg(feature = "kafka")]
pub mod kafka_broker;
pub mod mirrored;
pub mod redis_server;
pub mod shim;

use reqwest::StatusCode;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `done` gives something, or fails with `what` after [`DEADLINE`].
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The binary under test: what cargo built, or what `FREQCAP_BIN` names.
pub fn binary() -> PathBuf {
    std::env::var_os("FREQCAP_BIN").map_or_else(|| env!("CARGO_BIN_EXE_freqcap").into(), PathBuf::from)
}

/// The wall clock, which a black-box test shares with the server that it tests.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

/// Sends requests. Plain HTTP on loopback; connections are kept.
pub fn client() -> reqwest::blocking::Client {
    // The client wants a TLS provider even where it needs none; a second test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap()
}

/// `--units N` where `FREQCAP_TEST_UNITS` asks for it: every test of the service can be run with several units. None where a
/// test says itself how many it wants, or takes snapshots.
pub fn units_flags(flags: &[String]) -> Vec<String> {
    let says = |name: &str| flags.iter().any(|flag| flag.split('=').next() == Some(name));
    match std::env::var("FREQCAP_TEST_UNITS") {
        Ok(units) if !says("--units") && !says("--snapshots") => vec!["--units".to_owned(), units],
        _ => Vec::new(),
    }
}

/// How many units the services of this run have, unless a test says otherwise.
pub fn units() -> usize {
    std::env::var("FREQCAP_TEST_UNITS").map_or(1, |units| units.parse().unwrap())
}

/// A running freqcap.
pub struct Server {
    child: Child,
    pub url: String,
    pub http: reqwest::blocking::Client,
    /// Lines of its log since it listens.
    pub log: mpsc::Receiver<String>,
    /// Those before.
    pub started: Vec<String>,
}

/// A data directory and the flags of the servers that run on it.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub flags: Vec<String>,
}

impl Site {
    pub fn new(flags: &[&str]) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), flags: flags.iter().map(|flag| (*flag).to_owned()).collect() }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The command that serves this site.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data()).args(&self.flags);
        command.args(units_flags(&self.flags));
        command.current_dir(self.dir.path());
        // What the machine's environment sets must not reach the test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FREQCAP_") || name == "PORT" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts a server, and returns once it listens.
    pub fn start(&self) -> Server {
        Server::start(self.command())
    }
}

impl Server {
    /// Starts one on a directory of its own, which goes with the returned site.
    pub fn with(flags: &[&str]) -> (Site, Server) {
        let site = Site::new(flags);
        let server = site.start();
        (site, server)
    }

    pub fn start(command: Command) -> Self {
        Self::start_until(command, "listening on ")
    }

    /// Starts one that has something to wait for, and returns once it answers probes.
    pub fn start_waiting(command: Command) -> Self {
        Self::start_until(command, "answering probes at ")
    }

    /// Starts one, and returns once it says that, with its URL after it.
    fn start_until(mut command: Command, said: &str) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        // Ends with the server, which closes the pipe.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut before = Vec::new();
        let url = loop {
            match log.recv_timeout(DEADLINE) {
                Ok(line) => match line.split_once(said) {
                    Some((_, url)) => break url.split_whitespace().next().unwrap().to_owned(),
                    None => before.push(line),
                },
                Err(_) => panic!("freqcap does not listen: {before:#?}"),
            }
        };
        Self { child, url, http: client(), log, started: before }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn addr(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// GETs a path; the body as JSON, or null where it is none.
    pub fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.http.get(format!("{}{path}", self.url)).send().unwrap())
    }

    /// GETs a path that must answer 200.
    pub fn ok(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn post(&self, path: &str, content_type: &str, body: impl Into<String>) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.url)).header("content-type", content_type);
        answer(request.body(body.into()).send().unwrap())
    }

    pub fn post_json(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post(path, "application/json", body.to_string())
    }

    pub fn post_lines(&self, lines: &str) -> (StatusCode, Value) {
        self.post("/events", "application/x-ndjson", lines)
    }

    /// Sends any request; the answer with its `ETag`.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (StatusCode, Option<String>, Value) {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().unwrap();
        let etag = response.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned());
        let (status, body) = answer(response);
        (status, etag, body)
    }

    /// Puts a rule, which must be taken.
    pub fn put_rule(&self, id: &str, rule: &Value) -> Value {
        let (status, _, body) = self.send("PUT", &format!("/rules/{id}"), &[], Some(rule));
        assert!(status.is_success(), "{id}: {status} {body}");
        body
    }

    /// Posts a call that must be answered 200.
    pub fn call(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post_json(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// Posts events that must all be taken.
    pub fn count(&self, events: &Value) -> Value {
        let (status, body) = self.post_json("/events", events);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends a signal by its number.
    pub fn signal(&self, signal: i32) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of freqcap", || self.child.try_wait().unwrap())
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(15);
        self.wait()
    }

    /// The value of a metric, such as `freqcap_events_total{result="counted"}`; 0 where it is not there. Of several units the
    /// sum.
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_of_units(name).iter().sum()
    }

    /// What the mirrors of all units do, as the metric has it; no number while they differ.
    pub fn mirror_state(&self) -> f64 {
        let states = self.metric_of_units("freqcap_mirror_state");
        let first = states.first().copied().unwrap_or(f64::NAN);
        if states.iter().all(|state| *state == first) { first } else { f64::NAN }
    }

    /// The value of a metric in each unit; one where it is of all, or there is only one.
    pub fn metric_of_units(&self, name: &str) -> Vec<f64> {
        let text = self.http.get(format!("{}/metrics", self.url)).send().unwrap().text().unwrap();
        let of_unit = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            (without_unit(series) == name).then(|| value.parse().unwrap())
        };
        text.lines().filter_map(of_unit).collect()
    }
}

/// A series without its label `unit`, which is the last.
fn without_unit(series: &str) -> String {
    match series.find("unit=\"p-") {
        Some(at) if series[..at].ends_with('{') => series[..at - 1].to_owned(),
        Some(at) => format!("{}}}", series[..at].trim_end_matches(',')),
        None => series.to_owned(),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(response: reqwest::blocking::Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_str(&response.text().unwrap()).unwrap_or(Value::Null))
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
