//! An S3 server of our own: a free port, a directory of its own, gone when dropped.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// It is ready after some ten ms; on a machine that compiles meanwhile, later.
const START_MAX: Duration = Duration::from_secs(30);

/// The bucket of script/bucket.
pub const BUCKET: &str = "freqcap";

/// An S3 server with one bucket.
pub struct BucketServer {
    pub port: u16,
    dir: TempDir,
    child: Child,
}

impl BucketServer {
    pub fn start() -> Self {
        // A port that was free may be taken by the time that the server binds it.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let dir = tempfile::tempdir().unwrap();
            let mut server = Self { port, child: spawn(port, &dir), dir };
            if server.is_up() {
                return server;
            }
        }
        panic!("the S3 server does not start");
    }

    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        false
    }

    /// What a client of it has in its environment; another port leads through a proxy.
    pub fn env(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "freqcap".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "freqcap-secret".to_owned()),
        ]
    }

    /// Where its objects are, as plain files.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("buckets").join(BUCKET)
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The script becomes the server (exec), so its process is the one to end.
fn spawn(port: u16, dir: &TempDir) -> Child {
    install();
    Command::new(script())
        .arg(port.to_string())
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("script/bucket can be run")
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bucket")
}

/// Once, and not while a server's time to start runs: on a new machine it is built.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let made = Command::new(script()).arg("binary").stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "script/bucket binary: {}", String::from_utf8_lossy(&made.stderr));
    });
}
