//! The S3 server that snapshots go to, as a process of its own, and how long it takes for a small object.

use crate::suite::child::{Child, free_addr};
use anyhow::Context;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../script/bucket");
const BUCKET: &str = "freqcap";
const KEY: &str = "freqcap";
const SECRET: &str = "freqcap-secret";

pub struct BucketServer {
    port: u16,
    dir: TempDir,
    _child: Child,
}

impl BucketServer {
    pub fn start(work: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("bucket-").tempdir_in(work)?;
        // Built once; that takes long.
        let made = Command::new(SCRIPT).arg("binary").output().context(SCRIPT)?;
        anyhow::ensure!(made.status.success(), "script/bucket: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_addr()?.port();
        let mut command = Command::new(SCRIPT);
        command.arg(port.to_string()).arg(dir.path());
        let mut child = Child::start(command, &work.join("bucket.log"))?;
        child.wait_until(Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { port, dir, _child: child })
    }

    /// What a service has in its environment to reach it.
    pub fn env(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let all = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Where the objects of a prefix are, as plain files.
    pub fn objects(&self, prefix: &str) -> PathBuf {
        self.dir.path().join("buckets").join(BUCKET).join(prefix)
    }

    /// Creates so many objects of 1 KiB, one after another on one connection. The time of each, in ms, the shortest first.
    pub fn create_ms(&self, objects: usize) -> anyhow::Result<Vec<f64>> {
        let body = self.dir.path().join("body");
        std::fs::write(&body, [b'x'; 1_024])?;
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3"]);
        command.args(["--user", &format!("{KEY}:{SECRET}"), "--header", "If-None-Match: *"]);
        command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--write-out", "%{time_total}\n"]);
        for number in 0..objects {
            command.arg("--upload-file").arg(&body);
            command.arg(format!("http://127.0.0.1:{}/{BUCKET}/latency/{number:06}", self.port));
        }
        let output = command.output().context("curl")?;
        anyhow::ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout);
        let mut times: Vec<f64> =
            said.lines().filter_map(|line| line.trim().parse().ok()).map(|s: f64| s * 1e3).collect();
        anyhow::ensure!(times.len() == objects, "curl told {} times of {objects}", times.len());
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}
