//! Many caps that end within one second: what GETs feel of it, and how long Redis still holds them.
//!
//! Each user has five ads that end then, and one that does not, so that Redis does not drop the user's key by itself.

use crate::load::calls::{Calls, NDJSON, get, post};
use crate::load::stream::{Part, Stream, push_user};
use crate::load::text::{number_after, push_number};
use crate::load::{Load, Outcome};
use crate::suite::bench::{Bench, CONNECTIONS, LONG, with};
use crate::suite::child::pause;
use crate::suite::peer::redis::{Redis, now_ms};
use crate::suite::watch::Watch;
use anyhow::Context;
use serde_json::json;
use std::time::{Duration, Instant};

const ADS: u64 = 5;
const USERS_PER_BATCH: u64 = 100;
const WINDOW_MS: u64 = 3_600_000;
/// The caps end evenly within so many ms.
const SPREAD_MS: u64 = 1_000;
const GETS_PER_SECOND: f64 = 2_000.0;
/// How long GETs are watched before, and from the first end on.
const WATCHED: Duration = Duration::from_secs(5);

/// The events that cap them, a hundred users a batch.
struct Capping {
    /// The next user, and how many the other connections send in between.
    user: u64,
    step: u64,
    /// When the first cap ends.
    end_ms: u64,
}

impl Calls for Capping {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, "/events", NDJSON, |out| {
            for user in self.user..self.user + USERS_PER_BATCH {
                for ad in 0..=ADS {
                    out.extend_from_slice(b"{\"user\":\"");
                    push_user(out, user);
                    out.extend_from_slice(b"\",\"da\":\"");
                    push_number(out, ad);
                    if ad < ADS {
                        out.extend_from_slice(b"\",\"ts\":");
                        push_number(out, self.end_ms - WINDOW_MS + (user * ADS + ad) % SPREAD_MS);
                        out.extend_from_slice(b"}\n");
                    } else {
                        out.extend_from_slice(b"\"}\n");
                    }
                }
            }
        });
        self.user += self.step;
    }

    fn done(&mut self, body: &[u8]) -> u64 {
        number_after(body, b"\"counted\":")
    }
}

/// GET /cap of the users whose caps end.
struct Gets {
    draws: Part,
    users: u64,
}

impl Calls for Gets {
    fn next(&mut self, out: &mut Vec<u8>) {
        let (user, ad) = (self.draws.draw(self.users), self.draws.draw(ADS));
        get(out, |out| {
            out.extend_from_slice(b"/cap/");
            push_user(out, user);
            out.push(b'/');
            push_number(out, ad);
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        1
    }
}

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let users = bench.size.storm_caps / ADS;
    let redis = Redis::start(&bench.work, false)?;
    let service = bench.start(&["--redis", &redis.url(), "--limit", "1", "--window", "1h"])?;
    let end_ms = now_ms() + bench.size.storm_lead.as_millis() as u64;
    let load = Load::closed(service.addr, CONNECTIONS, LONG).requests(users / USERS_PER_BATCH);
    let sent = load.run(|connection| Capping {
        user: connection as u64 * USERS_PER_BATCH,
        step: CONNECTIONS as u64 * USERS_PER_BATCH,
        end_ms,
    })?;
    anyhow::ensure!(sent.done == users * (ADS + 1), "{} of {} were counted", sent.done, users * (ADS + 1));
    let ready = end_ms - 2 * WATCHED.as_millis() as u64;
    while members(&redis, 0..users)? < users * (ADS + 1) {
        anyhow::ensure!(now_ms() < ready, "the caps were not in Redis in time; they need a longer lead");
        pause(Duration::from_millis(200));
    }
    let gets = Load::open(service.addr, 16, WATCHED, GETS_PER_SECOND);
    let watch = || -> anyhow::Result<Outcome> {
        gets.run(|connection| Gets { draws: Stream { seed: 9, ..Stream::EVEN }.part(connection), users })
    };
    service.settle(Duration::from_millis(ready.saturating_sub(now_ms())))?;
    let before = watch()?;
    let filling = service.child.peak_memory()?;
    let processes = Watch::start(&[("service", &service.child), ("redis", &redis.child)])?;
    pause(Duration::from_millis(end_ms.saturating_sub(now_ms())));
    let (during, gone) = std::thread::scope(|scope| {
        let gone = scope.spawn(|| until_gone(&redis, users));
        (watch(), gone.join().expect("the watch does not panic"))
    });
    let (during, gone) = (during?, gone?);
    let cpu = processes.finish()?;
    let memory = Some(service.child.peak_memory()?.max(filling));
    let details =
        json!({"caps": bench.size.storm_caps, "mirrored_at_events_per_second": sent.per_second(), "cpu": cpu.clone()});
    bench.add("storm-p99-before", before.ms(0.99), None, before.to_json());
    bench.add("storm-p99", during.ms(0.99), memory, with(during.to_json(), "cpu", cpu));
    bench.add("storm-gone", gone.as_secs_f64(), memory, details);
    Ok(())
}

/// From the first end until Redis holds nothing but what lasts. Some users are asked until all of them are done, then
/// everybody: asking everybody all the time would be a load of its own.
fn until_gone(redis: &Redis, users: u64) -> anyhow::Result<Duration> {
    const SAMPLE: usize = 1_000;
    let start = Instant::now();
    let step = (users as usize / SAMPLE).max(1);
    loop {
        let sampled = || (0..users).step_by(step);
        if members(redis, sampled())? == sampled().count() as u64 && members(redis, 0..users)? == users {
            return Ok(start.elapsed());
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(120), "not all gone after two minutes");
        pause(Duration::from_millis(100));
    }
}

/// Members of the sorted sets of these users.
fn members(redis: &Redis, users: impl Iterator<Item = u64>) -> anyhow::Result<u64> {
    const AT_ONCE: usize = 5_000;
    let mut connection = redis.connect()?;
    let (mut users, mut sum) = (users.peekable(), 0);
    while users.peek().is_some() {
        let mut pipeline = redis::pipe();
        for user in users.by_ref().take(AT_ONCE) {
            pipeline.cmd("ZCARD").arg(format!("cap:{{u{user:07}}}"));
        }
        let counts: Vec<u64> = pipeline.query(&mut connection).context("ZCARD")?;
        sum += counts.iter().sum::<u64>();
    }
    Ok(sum)
}
