//! A Redis that hangs, forgets and ends, and the mirror of a life in it.

use crate::simulation::plan::USERS;
use freqcap::clock::Clock;
use freqcap::mirror::{Mirror, Options};
use freqcap::model::TsMs;
use freqcap::store::Store;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// By this variable a life finds its Redis: the process and the URL.
pub const REDIS: &str = "FREQCAP_SIM_REDIS";

/// What happens to Redis before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisFault {
    /// It takes connections and answers nothing.
    Hang,
    GoOn,
    Flush,
    /// It ends; there is another one, empty, in the next life.
    End,
}

pub struct Mirrored {
    process: rustix::process::Pid,
    client: redis::Client,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// User, key, until when.
pub type Caps = BTreeSet<(String, String, TsMs)>;

impl Mirrored {
    /// Starts the mirror, where the run has one.
    pub fn start(store: &Arc<Store>, clock: &Clock) -> Option<Self> {
        let redis = std::env::var(REDIS).ok()?;
        let (process, url) = redis.split_once(' ').unwrap();
        let options = Options {
            probe: Duration::from_millis(100),
            connect_timeout: Duration::from_millis(300),
            response_timeout: Duration::from_millis(300),
            ..Options::new(url.parse().unwrap())
        };
        let clock = clock.clone();
        let mirror = Mirror::new(store.clone(), options, Arc::new(move || clock.now()));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(mirror.run(stopped));
        });
        let process = rustix::process::Pid::from_raw(process.parse().unwrap()).unwrap();
        Some(Self { process, client: redis::Client::open(url).unwrap(), stop, thread })
    }

    pub fn meets(&self, fault: RedisFault) {
        use rustix::process::Signal;
        match fault {
            // It may have ended.
            RedisFault::Hang => drop(rustix::process::kill_process(self.process, Signal::STOP)),
            RedisFault::GoOn => drop(rustix::process::kill_process(self.process, Signal::CONT)),
            RedisFault::End => drop(rustix::process::kill_process(self.process, Signal::KILL)),
            RedisFault::Flush => {
                // One that hangs does not answer.
                if let Ok(mut connection) = self.client.get_connection_with_timeout(Duration::from_millis(50)) {
                    let _ = connection.set_read_timeout(Some(Duration::from_millis(50)));
                    let _ = redis::cmd("FLUSHALL").query::<()>(&mut connection);
                }
            }
        }
    }

    /// What an ad server finds in Redis.
    pub fn held(&self) -> redis::RedisResult<Caps> {
        let mut connection = self.client.get_connection_with_timeout(Duration::from_secs(1))?;
        let mut caps = Caps::new();
        for user in USERS {
            let mut read = redis::cmd("ZRANGE");
            read.arg(format!("cap:{{{user}}}")).arg(0).arg(-1).arg("WITHSCORES");
            let members: Vec<(String, u64)> = read.query(&mut connection)?;
            caps.extend(members.into_iter().map(|(key, until)| (user.to_owned(), key, TsMs(until))));
        }
        Ok(caps)
    }

    pub fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }
}
