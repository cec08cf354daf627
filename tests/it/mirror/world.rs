//! A store, what its caps are, a mirror of it, and what Redis holds.

use crate::support::redis_server::Server;
use freqcap::clock::Clock;
use freqcap::engine::plan_cap;
use freqcap::mirror::{Handle, Layout, Mirror, Options, State};
use freqcap::model::{CapKey, TsMs, UserId};
use freqcap::store::{RowKey, StorageKind, Store, StoreOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub type Caps = BTreeMap<(String, String), u64>;

pub fn now() -> u64 {
    Clock::system().now().0
}

/// SplitMix64: random enough, and the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

pub struct World {
    pub store: Arc<Store>,
    pub caps: Caps,
    pub random: Random,
}

impl World {
    pub fn new() -> World {
        // Shown for a test that fails.
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().try_init();
        let options = StoreOptions {
            storage: StorageKind::Memory,
            keep_changes: true,
            block_cache: freqcap::store::ByteSize::mib(8),
            ..StoreOptions::default()
        };
        World { store: Arc::new(Store::open(&options).unwrap()), caps: Caps::new(), random: Random(1) }
    }

    /// One write of many caps: `None` ends one.
    pub fn write(&mut self, changes: &[(String, String, Option<u64>)]) {
        let last: BTreeMap<(&String, &String), Option<u64>> =
            changes.iter().map(|(user, key, until)| ((user, key), *until)).collect();
        let mut commit = self.store.begin_commit();
        for (&(user, key), &until) in &last {
            let row_key = RowKey::new(&UserId::new(&user[..]).unwrap(), &CapKey::new(&key[..]).unwrap());
            let held = self.store.caps().get_many([row_key.as_bytes()], &mut Vec::new())[0];
            commit.put_cap(row_key.as_bytes(), &plan_cap(held, until.map(TsMs), false), TsMs(now()));
        }
        let written = commit.write().unwrap();
        self.store.changes().publish(written);
        for ((user, key), until) in last {
            let pair = (user.clone(), key.clone());
            match until {
                Some(until) => drop(self.caps.insert(pair, until)),
                None => drop(self.caps.remove(&pair)),
            }
        }
    }

    pub fn cap(&mut self, user: &str, key: &str, until: u64) {
        self.write(&[(user.to_owned(), key.to_owned(), Some(until))]);
    }

    pub fn uncap(&mut self, user: &str, key: &str) {
        self.write(&[(user.to_owned(), key.to_owned(), None)]);
    }

    /// `n` random changes among `users` users, a quarter of them ends of caps.
    pub fn stream(&mut self, n: usize, users: u64) {
        let start = now();
        let mut changes = Vec::with_capacity(n);
        for _ in 0..n {
            let user = format!("u{}", self.random.below(users));
            let key = match self.random.below(4) {
                0 => format!("campaign:{}", self.random.below(5)),
                _ => format!("da:{}", self.random.below(20)),
            };
            let until = (self.random.below(4) > 0).then(|| start + 600_000 + self.random.below(600_000));
            changes.push((user, key, until));
        }
        self.write(&changes);
    }

    pub fn mirror(&self, options: Options) -> Running {
        let mirror = Mirror::new(Arc::clone(&self.store), options, Arc::new(|| TsMs(now())));
        let (handle, stop) = (mirror.handle(), CancellationToken::new());
        let task = tokio::spawn(mirror.run(stop.clone()));
        Running { handle, stop, task }
    }

    /// Waits until Redis holds exactly the caps.
    pub async fn is_mirrored(&self, server: &Server, layout: Layout) {
        self.is_mirrored_by(&[server], layout, Duration::from_secs(10)).await;
    }

    pub async fn is_mirrored_by(&self, servers: &[&Server], layout: Layout, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            let found = held_by(servers, layout);
            if found == self.caps {
                return;
            }
            if Instant::now() > deadline {
                let missing: Vec<_> = self.caps.iter().filter(|(pair, until)| found.get(pair) != Some(until)).collect();
                let surplus: Vec<_> = found.keys().filter(|pair| !self.caps.contains_key(pair)).collect();
                panic!(
                    "not mirrored: {} missing or wrong, {} too many, such as {:?} and {:?}",
                    missing.len(),
                    surplus.len(),
                    &missing[..missing.len().min(3)],
                    &surplus[..surplus.len().min(3)],
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A mirror at work; aborted when dropped, as a kill would.
pub struct Running {
    pub handle: Handle,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Running {
    pub async fn is(&self, state: State) {
        eventually(&format!("the mirror is {state:?}"), || self.handle.state() == state).await;
    }

    pub fn passes(&self) -> u64 {
        self.handle.snapshot().full_passes()
    }

    pub fn passes_for(&self, reason: &str) -> u64 {
        self.handle.snapshot().passes.iter().find(|(name, _)| *name == reason).unwrap().1
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), &mut self.task).await.expect("ends in time").unwrap();
    }

    pub async fn abort(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn options(url: &str, layout: Layout) -> Options {
    Options {
        layout,
        response_timeout: Duration::from_secs(1),
        probe: Duration::from_millis(200),
        recheck_owner: Duration::from_millis(200),
        ..Options::new(url.parse().unwrap())
    }
}

fn decode(text: &str) -> String {
    text.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
}

/// Everything under the prefix `cap:` that stands for a capped key. Anything else there fails the test.
pub fn held_by(servers: &[&Server], layout: Layout) -> Caps {
    let mut caps = Caps::new();
    for server in servers {
        let mut connection = server.connection();
        let names: Vec<String> =
            redis::cmd("KEYS").arg("cap:{*").query(&mut connection).expect("a server that answers");
        for name in names {
            let (user, rest) = name.strip_prefix("cap:{").unwrap().split_once('}').unwrap();
            match layout {
                Layout::Zset if rest.is_empty() => {
                    let members: redis::RedisResult<Vec<(String, f64)>> =
                        redis::cmd("ZRANGE").arg(&name).arg(0).arg(-1).arg("WITHSCORES").query(&mut connection);
                    for (member, score) in members.unwrap_or_default() {
                        caps.insert((decode(user), decode(&member)), score as u64);
                    }
                }
                Layout::String if !rest.is_empty() => {
                    let until: Option<u64> = redis::cmd("GET").arg(&name).query(&mut connection).unwrap_or_default();
                    let Some(until) = until else { continue };
                    caps.insert((decode(user), decode(&rest[1..])), until);
                }
                _ => drop(caps.insert((name.clone(), "of the other layout".to_owned()), 0)),
            }
        }
    }
    caps
}
