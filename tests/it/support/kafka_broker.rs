//! A Kafka broker of our own: a free port, a directory of its own, gone when dropped.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A broker is ready after two seconds, four if it was killed before; on a machine that compiles meanwhile, later.
const START_MAX: Duration = Duration::from_secs(90);

/// A broker, the only one of its cluster. It makes no topics by itself and keeps records however old they are
/// (script/kafka-broker/broker.properties).
pub struct Broker {
    pub port: u16,
    dir: TempDir,
    settings: Vec<String>,
    child: Child,
}

impl Broker {
    pub fn start() -> Broker {
        Self::start_with(&[])
    }

    /// Starts one with settings (`name=value`) of its own.
    pub fn start_with(settings: &[&str]) -> Broker {
        fetch_jars();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut said = String::new();
        // A port that was free may be taken by the time that the broker binds it.
        for _ in 0..3 {
            let port = free_port();
            let dir = tempfile::tempdir().unwrap();
            let mut broker = Broker { port, child: spawn(port, &dir, &settings), dir, settings: settings.clone() };
            if broker.is_up() {
                return broker;
            }
            said = broker.said();
        }
        panic!("Kafka does not start: {said}");
    }

    /// Waits until it answers; false where it ends instead, or does not in [`START_MAX`].
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            // The port is open before the broker may answer for partitions; the line comes last.
            if self.said().contains("Kafka Server started") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        false
    }

    /// What clients are given to find it by.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged since it was last started: warnings and errors.
    pub fn said(&self) -> String {
        fs::read_to_string(output(&self.dir)).unwrap_or_default()
    }

    /// Ends it as a crash would. What it acknowledged is still there when it is started again.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The file of a partition's records.
    fn segment(&self, topic: &str, partition: u32) -> PathBuf {
        self.dir.path().join(format!("log/{topic}-{partition}/{:020}.log", 0))
    }

    /// The bytes of a partition's records, for [`Broker::cut`].
    pub fn bytes(&self, topic: &str, partition: u32) -> u64 {
        fs::metadata(self.segment(topic, partition)).unwrap().len()
    }

    /// Loses the end of a partition, as a broker does that loses its power, and starts again.
    pub fn cut(&mut self, topic: &str, partition: u32, bytes: u64) {
        self.kill();
        let segment = self.segment(topic, partition);
        File::options().write(true).open(&segment).unwrap().set_len(bytes).unwrap();
        for index in ["index", "timeindex"] {
            let _ = fs::remove_file(segment.with_extension(index));
        }
        self.start_again();
    }

    /// Starts it again with what is on its disk, on the same port.
    pub fn start_again(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.dir, &self.settings);
        assert!(self.is_up(), "Kafka does not start again: {}", self.said());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The script becomes the broker (exec), so its process is the one to end.
fn spawn(port: u16, dir: &TempDir, settings: &[String]) -> Child {
    let said = File::create(output(dir)).unwrap();
    Command::new(script())
        .arg(port.to_string())
        .arg(dir.path())
        .args(settings)
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .expect("script/kafka can be run")
}

fn output(dir: &TempDir) -> PathBuf {
    dir.path().join("output.txt")
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("script/kafka")
}

/// Once, and not while a broker's time to start runs: on a new machine they are downloaded.
fn fetch_jars() {
    static FETCHED: Once = Once::new();
    FETCHED.call_once(|| {
        let made = Command::new(script()).arg("jars").stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "script/kafka jars: {}", String::from_utf8_lossy(&made.stderr));
    });
}

/// Not from the range that outgoing connections get their ports from: while the broker is down, a client that keeps
/// trying for its port could be given that very port, be connected to itself, and keep the broker from coming back.
fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = std::process::id().wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (nth % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
