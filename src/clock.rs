//! The only place that reads the machine's clocks. Everybody else is told the time by argument.
//!
//! The time of day is believed only where it agrees with what is known: the monotonic clock while the process runs, and
//! the last believed time that the store keeps over restarts. A wrong clock would end caps, call logs void and events
//! late. While it is not believed, [`Clock::now`] goes on from the last believed time as the monotonic clock does, which
//! is at or before the true time.

use crate::model::TsMs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tells the time of day: the machine's, or in tests whatever was set. Clones share what they believe.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    /// The time of day less the monotonic clock, in ms, when the time of day was last believed.
    offset_ms: AtomicI64,
    believed: AtomicBool,
    /// By how much the time of day may fall behind and run ahead of what is known, in ms.
    back_ms: AtomicI64,
    ahead_ms: AtomicI64,
    /// How often the time of day stopped being believed, and how often it was believed again.
    lost: AtomicU64,
    regained: AtomicU64,
}

#[derive(Debug)]
enum Source {
    System(Instant),
    Manual { wall_ms: Arc<AtomicU64>, since: Instant },
    Simulated { wall_ms: Arc<AtomicU64>, mono_ms: Arc<AtomicU64> },
}

/// What the clock shows and whether that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Whether the time of day agrees with what is known.
    pub believed: bool,
    /// What the machine's time of day is.
    pub shows: TsMs,
    /// The time that the service goes by: `shows` where it is believed.
    pub goes_by: TsMs,
    /// How often the time of day stopped being believed since the start.
    pub lost: u64,
    /// How often it was believed again.
    pub regained: u64,
}

/// One look at both clocks, in ms.
#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: u64,
    mono: u64,
}

impl Reading {
    fn offset(self) -> i64 {
        // Both are below 2^63 ms for as long as there are clocks.
        self.wall as i64 - self.mono as i64
    }
}

impl Clock {
    /// At run time a step ahead of more than this is not believed.
    const AHEAD: Duration = Duration::from_secs(3_600);
    /// A clock that is slewed is followed in steps of this, in ms: no cache line changes hands for every reading.
    const FOLLOW_MS: u64 = 100;
    /// A thread may be stopped between its looks at the two clocks; a step is a step only if they were this close.
    const ONE_LOOK: Duration = Duration::from_millis(500);

    /// The clock of this machine.
    pub fn system() -> Self {
        Self::new(Source::System(Instant::now()))
    }

    /// A clock that shows what the counter holds, in ms since 1970. Time passes by the machine's monotonic clock.
    pub fn manual(wall_ms: Arc<AtomicU64>) -> Self {
        Self::new(Source::Manual { wall_ms, since: Instant::now() })
    }

    /// A clock whose time of day and monotonic clock are what two counters hold, in ms.
    pub fn simulated(wall_ms: Arc<AtomicU64>, mono_ms: Arc<AtomicU64>) -> Self {
        Self::new(Source::Simulated { wall_ms, mono_ms })
    }

    fn new(source: Source) -> Self {
        let offset = source.read().offset();
        Self(Arc::new(Inner {
            source,
            offset_ms: AtomicI64::new(offset),
            believed: AtomicBool::new(true),
            back_ms: AtomicI64::new(60_000),
            ahead_ms: AtomicI64::new(millis(Self::AHEAD)),
            lost: AtomicU64::new(0),
            regained: AtomicU64::new(0),
        }))
    }

    /// Compares the time of day with the last believed time of an earlier run. It is believed from there back by at most
    /// `max_skew`, and ahead by at most `max_offline`, as long as no process has run.
    pub fn resume(&self, last: Option<TsMs>, max_skew: Duration, max_offline: Duration) {
        let inner = &*self.0;
        // Two clocks that are read one after another differ by a little.
        inner.back_ms.store(millis(max_skew).max(1_000), Ordering::Relaxed);
        let Some(last) = last else { return };
        let reading = inner.source.read();
        let known = Reading { wall: last.0, ..reading }.offset();
        let ahead = millis(max_offline);
        if !inner.agrees(reading.offset() - known, ahead) {
            inner.ahead_ms.store(ahead, Ordering::Relaxed);
            inner.offset_ms.store(known, Ordering::Relaxed);
            inner.lose();
        }
    }

    /// The time that the service goes by: the time of day, or where that is not believed, the last believed time and what
    /// has passed since by the monotonic clock.
    pub fn now(&self) -> TsMs {
        let inner = &*self.0;
        let reading = inner.source.read();
        let drift = reading.offset() - inner.offset_ms.load(Ordering::Relaxed);
        if drift.unsigned_abs() <= Self::FOLLOW_MS && inner.believed.load(Ordering::Acquire) {
            return TsMs(reading.wall);
        }
        inner.judge()
    }

    /// The latest that it may be: events up to here are not ahead of the clock. [`Clock::now`] where that is believed.
    pub fn latest(&self) -> TsMs {
        let now = self.now();
        if self.is_believed() {
            return now;
        }
        let ahead = self.0.ahead_ms.load(Ordering::Relaxed).unsigned_abs();
        now.saturating_add(ahead).max(TsMs(self.0.source.read().wall))
    }

    /// Whether the time of day was believed when it was last looked at.
    pub fn is_believed(&self) -> bool {
        self.0.believed.load(Ordering::Acquire)
    }

    /// Believes the time of day as it is: somebody who knows says that it is right.
    pub fn accept(&self) {
        self.0.believe(self.0.source.read());
    }

    /// Hears what another clock says at this moment; the time of day is believed if it says the same.
    pub fn confirm(&self, other: TsMs) {
        let inner = &*self.0;
        let reading = inner.source.read();
        let tolerated = inner.back_ms.load(Ordering::Relaxed).unsigned_abs();
        if !self.is_believed() && reading.wall.abs_diff(other.0) <= tolerated {
            inner.believe(reading);
        }
    }

    /// What the clock shows now, and whether it is believed.
    pub fn state(&self) -> ClockState {
        let goes_by = self.now();
        ClockState {
            believed: self.is_believed(),
            shows: TsMs(self.0.source.read().wall),
            goes_by,
            lost: self.0.lost.load(Ordering::Relaxed),
            regained: self.0.regained.load(Ordering::Acquire),
        }
    }
}

impl Inner {
    fn agrees(&self, drift: i64, ahead: i64) -> bool {
        (-self.back_ms.load(Ordering::Relaxed)..=ahead).contains(&drift)
    }

    /// Follows a time of day that agrees, and stops or begins to believe it.
    #[cold]
    fn judge(&self) -> TsMs {
        let reading = self.source.read_at_once();
        let offset = self.offset_ms.load(Ordering::Relaxed);
        let drift = reading.offset() - offset;
        if self.agrees(drift, self.ahead_ms.load(Ordering::Relaxed)) {
            if drift.unsigned_abs() > Clock::FOLLOW_MS || !self.believed.load(Ordering::Acquire) {
                self.believe(reading);
            }
            return TsMs(reading.wall);
        }
        self.lose();
        TsMs(u64::try_from(offset.saturating_add(reading.mono as i64)).unwrap_or_default())
    }

    fn believe(&self, reading: Reading) {
        self.ahead_ms.store(millis(Clock::AHEAD), Ordering::Relaxed);
        self.offset_ms.store(reading.offset(), Ordering::Relaxed);
        if !self.believed.swap(true, Ordering::AcqRel) {
            self.regained.fetch_add(1, Ordering::Release);
        }
    }

    fn lose(&self) {
        if self.believed.swap(false, Ordering::AcqRel) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An instant of the machine's boot clock, in ms since it started. The time that it sleeps is counted, too, and nobody sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootMs(pub u64);

impl BootMs {
    /// So many ms later.
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The ms from `earlier` until here; 0 where that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Tells the time by which leases are counted: it goes on while the process is stopped and while the machine sleeps. (On other
/// systems than Linux it may stand still while the machine sleeps.)
#[derive(Debug, Clone, Default)]
pub struct BootClock(Option<Arc<AtomicU64>>);

impl BootClock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows what the counter holds, in ms.
    pub fn manual(ms: Arc<AtomicU64>) -> Self {
        Self(Some(ms))
    }

    /// What it shows.
    pub fn now(&self) -> BootMs {
        BootMs(self.0.as_ref().map_or_else(boot_ms, |ms| ms.load(Ordering::Relaxed)))
    }
}

#[cfg(target_os = "linux")]
fn boot_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (s, ns) = (u64::try_from(time.tv_sec).unwrap_or_default(), u64::try_from(time.tv_nsec).unwrap_or_default());
    s * 1_000 + ns / 1_000_000
}

#[cfg(not(target_os = "linux"))]
fn boot_ms() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    elapsed_ms(&START)
}

fn elapsed_ms(since: &Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Source {
    #[allow(clippy::disallowed_methods)]
    fn read(&self) -> Reading {
        match self {
            Self::System(since) => {
                let since_1970 = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
                let wall = u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
                Reading { wall, mono: elapsed_ms(since) }
            }
            Self::Manual { wall_ms, since } => {
                Reading { wall: wall_ms.load(Ordering::Relaxed), mono: elapsed_ms(since) }
            }
            Self::Simulated { wall_ms, mono_ms } => {
                Reading { wall: wall_ms.load(Ordering::Relaxed), mono: mono_ms.load(Ordering::Relaxed) }
            }
        }
    }

    /// Both clocks, close enough to each other that a difference is the clocks' and not the scheduler's.
    fn read_at_once(&self) -> Reading {
        for _ in 0..8 {
            let before = Instant::now();
            let reading = self.read();
            if before.elapsed() <= Clock::ONE_LOOK {
                return reading;
            }
        }
        self.read()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_732_233_600_000;
    const MINUTE: u64 = 60_000;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    struct World {
        wall: Arc<AtomicU64>,
        mono: Arc<AtomicU64>,
        clock: Clock,
    }

    fn world(start: u64, last: Option<u64>) -> World {
        let (wall, mono) = (Arc::new(AtomicU64::new(start)), Arc::new(AtomicU64::new(1_000_000)));
        let clock = Clock::simulated(wall.clone(), mono.clone());
        clock.resume(last.map(TsMs), Duration::from_secs(60), Duration::from_secs(7 * 86_400));
        World { wall, mono, clock }
    }

    impl World {
        fn pass(&self, ms: u64) {
            self.wall.fetch_add(ms, Ordering::Relaxed);
            self.mono.fetch_add(ms, Ordering::Relaxed);
        }

        /// Whether the time of day is believed, and the time gone by.
        fn look(&self) -> (bool, u64) {
            let now = self.clock.now().0;
            (self.clock.is_believed(), now)
        }
    }

    #[test]
    fn a_start_is_believed_from_the_last_believed_time_to_max_offline_after_it() {
        let cases = [
            (T, true),
            (T - 59_000, true),
            (T - 61_000, false),
            (T - 30 * DAY, false),
            (1_000, false),
            (T + 7 * DAY, true),
            (T + 7 * DAY + 1, false),
            (T + 30 * DAY, false),
        ];
        for (start, believed) in cases {
            let world = world(start, Some(T));
            assert_eq!(world.look(), (believed, if believed { start } else { T }), "{start}");
        }
        assert_eq!(world(T, None).look(), (true, T));
    }

    #[test]
    fn a_step_is_not_believed_however_long_it_lasts() {
        for (step, believed) in [
            (-61_000, false),
            (-59_000, true),
            (59 * MINUTE as i64, true),
            (61 * MINUTE as i64, false),
            (30 * DAY as i64, false),
        ] {
            let world = world(T, None);
            world.pass(1_000);
            world.look();
            world.wall.store((T + 1_000).checked_add_signed(step).unwrap(), Ordering::Relaxed);
            assert_eq!(world.look().0, believed, "{step}");
            if !believed {
                for _ in 0..100 {
                    world.pass(HOUR);
                    assert!(!world.look().0, "{step}");
                }
                assert_eq!(world.look().1, T + 1_000 + 100 * HOUR);
            }
        }
    }

    #[test]
    fn a_clock_that_agrees_again_is_believed_and_that_is_counted() {
        let world = world(T, None);
        world.wall.store(T + 30 * DAY, Ordering::Relaxed);
        assert_eq!(world.look(), (false, T));
        world.pass(5_000);
        world.wall.store(T + 5_100, Ordering::Relaxed);
        assert_eq!(world.look(), (true, T + 5_100));
        let state = world.clock.state();
        assert_eq!((state.lost, state.regained), (1, 1));
        // After a start that was too late, anything that could be is believed.
        let world = self::world(T + 30 * DAY, Some(T));
        world.wall.store(T + DAY, Ordering::Relaxed);
        assert_eq!(world.look(), (true, T + DAY));
        // And from then on a step is judged as at any other time.
        world.wall.store(T + 3 * DAY, Ordering::Relaxed);
        assert!(!world.look().0);
    }

    #[test]
    fn who_says_that_the_clock_is_right_is_heard() {
        let world = world(T + 30 * DAY, Some(T));
        world.clock.confirm(TsMs(T + 29 * DAY));
        assert!(!world.look().0);
        world.clock.confirm(TsMs(T + 30 * DAY - 59_000));
        assert_eq!(world.look(), (true, T + 30 * DAY));
        let world = self::world(T - 30 * DAY, Some(T));
        world.clock.accept();
        assert_eq!(world.look(), (true, T - 30 * DAY));
        assert_eq!(world.clock.state().regained, 1);
    }

    #[test]
    fn no_event_that_may_be_of_now_is_ahead_of_a_clock_that_is_not_believed() {
        let world = world(T - 30 * DAY, Some(T));
        assert_eq!(world.clock.latest(), TsMs(T + 7 * DAY));
        let world = self::world(T + 30 * DAY, Some(T));
        assert_eq!(world.clock.latest(), TsMs(T + 30 * DAY));
        let world = self::world(T, None);
        assert_eq!(world.clock.latest(), TsMs(T));
    }

    #[test]
    fn the_boot_clock_goes_on() {
        let clock = BootClock::system();
        let (before, started) = (clock.now(), Instant::now());
        while clock.now().since(before) < 5 {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        assert!(started.elapsed() >= Duration::from_millis(4));
        let set = BootClock::manual(Arc::new(AtomicU64::new(7)));
        assert_eq!(set.now(), BootMs(7));
    }

    #[test]
    fn a_clock_that_is_slewed_is_followed() {
        let world = world(T, None);
        for _ in 0..1_000 {
            world.pass(10_000);
            world.wall.fetch_add(50, Ordering::Relaxed);
            assert!(world.look().0);
        }
        for _ in 0..2_000 {
            world.pass(10_000);
            world.wall.fetch_sub(70, Ordering::Relaxed);
            assert!(world.look().0);
        }
    }
}
