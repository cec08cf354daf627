//! Pauses of work that can wait, where others wait for a core.

use std::time::{Duration, Instant};

/// Work between two looks at who waits.
const SLICE: Duration = Duration::from_millis(5);
/// A thread that waited for a core for more than one part in so many of a slice is in others' way.
const WAITED_PARTS: u64 = 8;
/// So many times as long as it ran it pauses then.
const PAUSES: u32 = 9;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long a thread ran, and how long it waited for a core while it could have run. In ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scheduled {
    ran: u64,
    waited: u64,
}

impl Scheduled {
    /// Of this thread, where the kernel says it.
    fn now() -> Option<Self> {
        if cfg!(target_os = "linux") {
            Self::read(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
        } else {
            None
        }
    }

    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        Some(Self { ran: numbers.next()?.ok()?, waited: numbers.next()?.ok()? })
    }
}

/// Says when a thread is to pause. Without contention it never is.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    scheduled: Option<Scheduled>,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), scheduled: Scheduled::now() }
    }

    /// How long to pause now, if at all. Costs little, so it may be asked often.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let took = self.begun.elapsed();
        if took < SLICE {
            return None;
        }
        let now = Scheduled::now();
        let pause = pause_after(took, self.scheduled.zip(now));
        (self.begun, self.scheduled) = (Instant::now(), now);
        pause
    }

    /// Begins the next slice, after a pause.
    pub(super) fn go_on(&mut self) {
        *self = Self::begin();
    }
}

/// The pause after a slice that took so long. Where the kernel does not say who waits, half of the time is for others.
fn pause_after(took: Duration, scheduled: Option<(Scheduled, Scheduled)>) -> Option<Duration> {
    let Some((before, after)) = scheduled else { return Some(took.min(PAUSE_MAX)) };
    let (ran, waited) = (after.ran.saturating_sub(before.ran), after.waited.saturating_sub(before.waited));
    (waited > (ran + waited) / WAITED_PARTS).then(|| (Duration::from_nanos(ran) * PAUSES).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn who_is_in_nobodys_way_does_not_pause() {
        let scheduled = |ran, waited| Scheduled { ran: ran * MS, waited: waited * MS };
        let took = Duration::from_millis(5);
        let paused = |before, after| pause_after(took, Some((before, after)));
        assert_eq!(paused(scheduled(100, 7), scheduled(105, 7)), None);
        assert_eq!(paused(scheduled(100, 7), scheduled(103, 9)), Some(Duration::from_millis(27)));
        // Waiting for the disk is no wait for a core.
        assert_eq!(paused(scheduled(100, 7), scheduled(100, 7)), None);
        assert_eq!(paused(scheduled(0, 0), scheduled(9_000, 9_000)), Some(PAUSE_MAX));
        assert_eq!(pause_after(took, None), Some(took));
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(Scheduled::read("70786 1428689 2\n"), Some(Scheduled { ran: 70_786, waited: 1_428_689 }));
        assert_eq!(Scheduled::read("70786"), None);
    }
}
