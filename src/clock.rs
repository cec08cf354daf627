//! The only place that reads the machine's clocks. Everybody else is told the time by argument.

use crate::model::TsMs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time of day: the machine's, or in tests whatever was set.
#[derive(Debug, Clone)]
pub enum Clock {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn system() -> Self {
        Self::System
    }

    /// A clock that shows what the counter holds, in ms since 1970.
    pub fn manual(ms: Arc<AtomicU64>) -> Self {
        Self::Manual(ms)
    }

    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> TsMs {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                TsMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Manual(ms) => TsMs(ms.load(Ordering::Relaxed)),
        }
    }
}

/// What a look at the clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes as time does.
    None,
    /// It went back by so many ms, more than the skew allowed.
    Back(u64),
    /// It jumped ahead by so many ms, more than an hour beyond the time that passed.
    Ahead(u64),
}

/// Watches the time of day against the monotonic clock.
///
/// After a step nothing may be reclaimed until the two have agreed again for a while: a wrong clock would make every log
/// look void.
#[derive(Debug)]
pub struct StepWatch {
    max_skew_ms: u64,
    /// Where the time of day was when it was last believed, and when that was.
    believed: (TsMs, Instant),
    last: (TsMs, Instant),
    agreed_since: Option<Instant>,
}

impl StepWatch {
    const AHEAD_MS: u64 = 3_600_000;
    /// So long a stepped clock must go as time does before it is believed.
    const PROBATION: Duration = Duration::from_secs(600);

    pub fn new(max_skew_ms: u64, now: TsMs, mono: Instant) -> Self {
        Self { max_skew_ms, believed: (now, mono), last: (now, mono), agreed_since: None }
    }

    /// Takes a look; `mono` never goes back.
    pub fn look(&mut self, now: TsMs, mono: Instant) -> Step {
        let passed = u64::try_from(mono.duration_since(self.last.1).as_millis()).unwrap_or(u64::MAX);
        let expected = self.last.0.0.saturating_add(passed);
        self.last = (now, mono);
        let step = if now.0.saturating_add(self.max_skew_ms) < expected {
            Step::Back(expected - now.0)
        } else if now.0 > expected.saturating_add(Self::AHEAD_MS) {
            Step::Ahead(now.0 - expected)
        } else {
            Step::None
        };
        if step != Step::None {
            self.agreed_since = Some(mono);
        }
        if let Some(since) = self.agreed_since {
            let passed = u64::try_from(mono.duration_since(self.believed.1).as_millis()).unwrap_or(u64::MAX);
            let line = self.believed.0.0.saturating_add(passed);
            let back_on_line = now.0.abs_diff(line) <= self.max_skew_ms;
            if back_on_line || mono.duration_since(since) >= Self::PROBATION {
                self.agreed_since = None;
            }
        }
        if self.agreed_since.is_none() {
            self.believed = (now, mono);
        }
        step
    }

    /// Whether the time of day is believed.
    pub fn is_believed(&self) -> bool {
        self.agreed_since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stepped_is_not_believed_until_it_agrees_again() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut watch = StepWatch::new(60_000, TsMs(1_000_000_000), start);
        assert_eq!(watch.look(TsMs(1_000_001_000), at(1)), Step::None);
        assert_eq!(watch.look(TsMs(1_000_000_000 - 120_000), at(2)), Step::Back(122_000));
        assert!(!watch.is_believed());
        assert_eq!(watch.look(TsMs(1_000_003_000), at(3)), Step::None);
        assert!(watch.is_believed());
        assert_eq!(watch.look(TsMs(1_000_004_000 + 4_000_000), at(4)), Step::Ahead(4_000_000));
        assert_eq!(watch.look(TsMs(1_000_005_000 + 4_000_000), at(5)), Step::None);
        assert!(!watch.is_believed());
        watch.look(TsMs(1_000_605_000 + 4_000_000), at(605));
        assert!(watch.is_believed());
    }

    #[test]
    fn a_small_correction_is_no_step() {
        let start = Instant::now();
        let mut watch = StepWatch::new(60_000, TsMs(1_000_000_000), start);
        assert_eq!(watch.look(TsMs(999_950_000), start + Duration::from_secs(1)), Step::None);
        assert!(watch.is_believed());
    }
}
