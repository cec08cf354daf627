//! The open loop: arrivals by the clock, not by the answers.
//!
//! One task watches a timer of the kernel (tokio's own ticks in milliseconds) and lets arrivals go; idle connections
//! take them in order. When all are waiting, arrivals queue, and their latency counts from when they were to be sent.

use super::calls::Calls;
use super::connection::Connection;
use super::outcome::Outcome;
use super::{Stop, sum};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub struct Arrivals {
    pub per_second: f64,
    pub time: Duration,
}

impl Arrivals {
    /// When the n-th is to be sent, from the start.
    fn instant(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// How many are to be sent in all.
    fn count(&self) -> u64 {
        (self.time.as_secs_f64() * self.per_second) as u64
    }
}

/// Sent later than this after its instant, an arrival is counted as late.
const LATE: Duration = Duration::from_millis(1);

/// What the connections share: arrivals let go (permits) and taken.
struct Queue {
    arrivals: Arrivals,
    start: Instant,
    due: Semaphore,
    taken: AtomicU64,
}

pub async fn run<C: Calls + 'static>(
    arrivals: Arrivals,
    stop: Stop,
    connections: Vec<(Connection, C)>,
) -> anyhow::Result<Outcome> {
    anyhow::ensure!(arrivals.per_second > 0.0, "no arrivals");
    let queue = Arc::new(Queue { arrivals, start: Instant::now(), due: Semaphore::new(0), taken: AtomicU64::new(0) });
    let mut tasks = JoinSet::new();
    for (connection, calls) in connections {
        tasks.spawn(open_loop(connection, calls, queue.clone()));
    }
    let let_go = let_go(&queue, &stop).await?;
    // Those who wait are sent away; those who are being served finish.
    queue.due.close();
    let mut whole = sum(tasks).await?;
    whole.elapsed = queue.start.elapsed();
    // What is still waiting has waited for so long at the least.
    for number in queue.taken.load(Ordering::Relaxed)..let_go {
        whole.unsent += 1;
        let waited = whole.elapsed.saturating_sub(queue.arrivals.instant(number));
        whole.latency.record(u64::try_from(waited.as_nanos())?)?;
    }
    Ok(whole)
}

/// Lets arrivals go as they come due; how many, when the time is up.
async fn let_go(queue: &Queue, stop: &Stop) -> anyhow::Result<u64> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    #[expect(unsafe_code, reason = "tokio cannot know that the descriptor stays open")]
    // SAFETY: the descriptor is moved in, so it stays open and the same for as long as it is registered.
    let timer = unsafe { AsyncFd::register(timer) }?;
    let count = queue.arrivals.count();
    let mut gone = 0;
    while gone < count && !stop.is_set() {
        let now = queue.start.elapsed();
        let due = ((now.as_secs_f64() * queue.arrivals.per_second) as u64 + 1).min(count);
        if due > gone {
            queue.due.add_permits((due - gone) as usize);
            gone = due;
        }
        let wait = queue.arrivals.instant(gone).saturating_sub(queue.start.elapsed()).max(Duration::from_nanos(1));
        set(&timer, wait)?;
        timer.readable().await?.clear_ready();
    }
    Ok(gone)
}

fn set(timer: &AsyncFd<rustix::fd::OwnedFd>, wait: Duration) -> rustix::io::Result<()> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
    let once = Itimerspec { it_interval: zero, it_value: wait };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).map(|_| ())
}

async fn open_loop<C: Calls>(mut connection: Connection, mut calls: C, queue: Arc<Queue>) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut request = Vec::new();
    calls.next(&mut request);
    while let Ok(permit) = queue.due.acquire().await {
        permit.forget();
        let intended = queue.arrivals.instant(queue.taken.fetch_add(1, Ordering::Relaxed));
        outcome.late += u64::from(queue.start.elapsed() > intended + LATE);
        let answer = connection.call(&request).await?;
        let answered = queue.start.elapsed();
        outcome.answered(&mut calls, &answer, answered.saturating_sub(intended), answered)?;
        // The next one is ready before it is due.
        request.clear();
        calls.next(&mut request);
    }
    Ok(outcome)
}
