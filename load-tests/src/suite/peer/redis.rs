//! A Redis server of our own: for the mirror, and as a peer that counts in a script.

use crate::load::stream::{Part, Stream, push_user};
use crate::load::text::push_number;
use crate::suite::bench::{Bench, with};
use crate::suite::child::{Child, free_addr};
use crate::suite::watch::Watch;
use anyhow::Context;
use redis::Connection;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Redis {
    pub child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Redis {
    /// Without persistence, or with every write synced to its append-only file.
    pub fn start(work: &Path, durable: bool) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("redis-").tempdir_in(work)?;
        let addr = free_addr()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string(), "--save", ""]);
        command.args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
        command.arg("--dir").arg(dir.path());
        let child = Child::start(command, &work.join("redis.log"))?;
        let mut redis = Self { child, addr, _dir: dir };
        let url = redis.url();
        redis.child.wait_until(Duration::from_secs(10), || connect(&url).is_ok())?;
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub fn connect(&self) -> anyhow::Result<Connection> {
        connect(&self.url())
    }
}

fn connect(url: &str) -> anyhow::Result<Connection> {
    let mut connection = redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(2))?;
    redis::cmd("PING").query::<String>(&mut connection)?;
    Ok(connection)
}

/// One sorted set a pair, one member an event: what is older than the window goes, the event comes, the rest is counted.
const SCRIPT: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1] - ARGV[2])
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3])
local count = redis.call('ZCARD', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return count";

const CONNECTIONS: usize = 4;
/// Commands sent before the first answer is read.
const PIPELINE: usize = 500;
const WINDOW_MS: &[u8] = b"432000000";

/// The sliding-window script over the even stream, in memory and with every write synced.
pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for (name, bytes, durable) in [("redis-memory", "redis-bytes", false), ("redis-aof", "redis-aof-bytes", true)] {
        let redis = Redis::start(&bench.work, durable)?;
        let mut connection = redis.connect()?;
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query(&mut connection)?;
        let empty = used_memory(&mut connection)?;
        let watch = Watch::start(&[("redis", &redis.child)])?;
        let start = Instant::now();
        let each = bench.size.redis_events / (CONNECTIONS * PIPELINE) as u64;
        std::thread::scope(|scope| {
            let send = |connection| {
                scope.spawn({
                    let (sha, addr) = (&sha, redis.addr);
                    move || pipelines(addr, sha, Stream::EVEN.part(connection), each)
                })
            };
            let threads: Vec<_> = (0..CONNECTIONS).map(send).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a thread of the generator panicked"))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let events = each * (CONNECTIONS * PIPELINE) as u64;
        let pairs: u64 = redis::cmd("DBSIZE").query(&mut connection)?;
        let details = json!({"events": events, "pairs": pairs, "seconds": seconds, "cpu": watch.finish()?});
        let per_pair = (used_memory(&mut connection)? - empty) as f64 / pairs as f64;
        let memory = Some(redis.child.peak_memory()?);
        bench.add(name, events as f64 / seconds, memory, with(details.clone(), "pipeline", PIPELINE));
        bench.add(bytes, per_pair, memory, details);
    }
    Ok(())
}

fn used_memory(connection: &mut Connection) -> anyhow::Result<u64> {
    let text: String = redis::cmd("INFO").arg("memory").query(connection)?;
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
    Ok(line.trim().parse()?)
}

/// Written by hand for the same reason as the bodies of events: the generator shares the cores.
fn pipelines(addr: SocketAddr, sha: &str, mut events: Part, count: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let (mut commands, mut key, mut input) = (Vec::new(), Vec::new(), vec![0; 16 << 10]);
    for _ in 0..count {
        commands.clear();
        let now = now_ms();
        for _ in 0..PIPELINE {
            let event = events.next();
            key.clear();
            push_user(&mut key, event.user);
            key.push(b':');
            push_number(&mut key, event.ad);
            let mut time = Vec::with_capacity(16);
            push_number(&mut time, now);
            commands.extend_from_slice(b"*7\r\n");
            for part in [b"EVALSHA", sha.as_bytes(), b"1", &key, &time, WINDOW_MS] {
                push_bulk(&mut commands, part);
            }
            commands.extend_from_slice(b"$16\r\n");
            events.push_id(&mut commands, event);
            commands.extend_from_slice(b"\r\n");
        }
        stream.write_all(&commands)?;
        let mut answered = 0;
        while answered < PIPELINE {
            let read = stream.read(&mut input)?;
            anyhow::ensure!(read > 0, "Redis closed the connection");
            anyhow::ensure!(!input[..read].contains(&b'-'), "Redis: {}", String::from_utf8_lossy(&input[..read]));
            answered += memchr::memchr_iter(b'\n', &input[..read]).count();
        }
    }
    Ok(())
}

fn push_bulk(out: &mut Vec<u8>, part: &[u8]) {
    out.push(b'$');
    push_number(out, part.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// The time of day.
pub fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}
