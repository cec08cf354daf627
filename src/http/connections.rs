//! The open connections of a listener, bounded in number. When all places are taken, the one idle for longest is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No request, or its last request is answered.
    Idle,
    /// A part of a request's header has arrived.
    Header,
    /// A request is being answered.
    Busy,
    /// It is being closed.
    Closing,
}

impl Phase {
    fn of(byte: u8) -> Self {
        [Self::Idle, Self::Header, Self::Busy].get(usize::from(byte)).copied().unwrap_or(Self::Closing)
    }
}

/// The state of one connection, shared by its task and by those that may close it.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    start: Instant,
    phase: AtomicU8,
    /// When it entered its phase or last wrote a part of an answer: ms after `start`.
    since_ms: AtomicU64,
    /// Bytes of an incomplete header.
    header_bytes: AtomicUsize,
    /// The answer under way that holds memory.
    sending: Mutex<Option<Sending>>,
    is_sending: AtomicBool,
    /// Whether it has one of the places that are kept free for probes.
    pub is_spare: bool,
    called: Notify,
}

/// An answer that must be taken at a minimum rate, for others want the memory that it holds.
#[derive(Debug)]
struct Sending {
    left: u64,
    /// When it is given up. What is taken puts it off by the time that it may take.
    deadline: Instant,
    min_rate: u64,
}

/// The longest that an answer which holds memory may stall, or stay below the minimum rate.
pub(super) const TAKE_STALL_MAX: Duration = Duration::from_secs(10);

impl Seat {
    /// Notes that an answer of so many bytes is to be taken at this rate at least.
    pub(super) fn sends(&self, bytes: u64, min_rate: u64) {
        *self.sending() = Some(Sending { left: bytes, deadline: Instant::now() + TAKE_STALL_MAX, min_rate });
        self.is_sending.store(true, Ordering::Release);
    }

    /// Notes bytes that were written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.touch();
        if self.is_sending.load(Ordering::Acquire) {
            self.took(bytes as u64, Instant::now());
        }
    }

    fn took(&self, bytes: u64, now: Instant) {
        let mut sending = self.sending();
        let Some(answer) = &mut *sending else { return };
        answer.left = answer.left.saturating_sub(bytes);
        if answer.left == 0 {
            *sending = None;
            self.is_sending.store(false, Ordering::Release);
            return;
        }
        let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / answer.min_rate.max(1));
        let latest = now + TAKE_STALL_MAX;
        answer.deadline = answer.deadline.max(now).checked_add(earned).map_or(latest, |deadline| deadline.min(latest));
    }

    /// How long the answer under way may take to go on; `None` if there is none that must.
    pub(super) fn sending_left(&self) -> Option<Duration> {
        if !self.is_sending.load(Ordering::Acquire) {
            return None;
        }
        self.sending().as_ref().map(|answer| answer.deadline.saturating_duration_since(Instant::now()))
    }

    fn sending(&self) -> MutexGuard<'_, Option<Sending>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Acquire))
    }

    /// How long nothing has happened.
    pub(super) fn quiet(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.since_ms.load(Ordering::Relaxed)))
    }

    /// Notes that something happens.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.store(now, Ordering::Relaxed);
    }

    fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Notes bytes of a header. Gives the bytes of the incomplete header.
    pub(super) fn header_came(&self, bytes: usize) -> usize {
        if self.change(Phase::Idle, Phase::Header) {
            self.touch();
            self.header_bytes.store(0, Ordering::Relaxed);
        }
        if self.phase() == Phase::Header { self.header_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes } else { 0 }
    }

    /// A request is there. Who is being closed already gets no answer any more.
    pub(super) fn begin(&self) {
        let _ = self.change(Phase::Header, Phase::Busy) || self.change(Phase::Idle, Phase::Busy);
        self.header_bytes.store(0, Ordering::Relaxed);
    }

    /// Its answer is made.
    pub(super) fn end(&self) {
        self.touch();
        self.change(Phase::Busy, Phase::Idle);
    }

    /// Asks it to close unless a request is being answered. Whether it will.
    fn close(&self) -> bool {
        let closes = self.change(Phase::Idle, Phase::Closing) || self.change(Phase::Header, Phase::Closing);
        if closes {
            self.called.notify_one();
        }
        closes
    }

    /// Waits until the connection is to look up: somebody else wants the place, or the server stops.
    pub(super) async fn called(&self) {
        self.called.notified().await;
    }
}

/// The connections of one listener. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    spare: usize,
    /// Maximum bytes of all incomplete headers together.
    header_bytes_max: usize,
    start: Instant,
    seats: Mutex<Seats>,
    left: Notify,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Arc<Seat>>,
}

/// A place among the connections, given back when it is dropped.
pub(super) struct Place {
    pub seat: Arc<Seat>,
    all: Connections,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.seats().taken.remove(&self.seat.id);
        self.all.0.left.notify_waiters();
        self.all.0.left.notify_one();
    }
}

impl Connections {
    /// Allows `max` connections, and `spare` more that may only make calls of operation.
    pub(super) fn new(max: usize, spare: usize, header_bytes_max: usize) -> Self {
        let (start, seats, left, stopping) = (Instant::now(), Mutex::default(), Notify::new(), AtomicBool::new(false));
        Self(Arc::new(Inner { max, spare, header_bytes_max, start, seats, left, stopping }))
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place to a new connection. If all are taken, the idlest connection is asked to close. If every one has a
    /// request under way, a spare place is given; `None` if those are taken, too.
    pub(super) fn enter(&self) -> Option<Place> {
        let mut seats = self.seats();
        // Spare places count apart: a probe that has its answer must not turn its place into an ordinary one.
        let staying = seats.taken.values().filter(|seat| !seat.is_spare && seat.phase() != Phase::Closing);
        let is_full = staying.count() >= self.0.max;
        let is_spare = is_full && !close_idlest(&seats, |seat| !seat.is_spare);
        // Connections that were asked to close still hold a file descriptor each.
        if seats.taken.len() >= self.0.max + self.0.spare {
            close_idlest(&seats, |seat| seat.is_spare);
            return None;
        }
        seats.last += 1;
        let seat = Arc::new(Seat {
            id: seats.last,
            start: self.0.start,
            phase: AtomicU8::new(Phase::Idle as u8),
            since_ms: AtomicU64::new(0),
            header_bytes: AtomicUsize::new(0),
            sending: Mutex::default(),
            is_sending: AtomicBool::new(false),
            is_spare,
            called: Notify::new(),
        });
        seat.touch();
        seats.taken.insert(seat.id, seat.clone());
        Some(Place { seat, all: self.clone() })
    }

    /// Waits until a connection may have ended.
    pub(super) async fn left(&self) {
        let _ = tokio::time::timeout(Duration::from_millis(100), self.0.left.notified()).await;
    }

    /// Tells every connection that the server stops.
    pub(super) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
        self.seats().taken.values().for_each(|seat| seat.called.notify_one());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.seats().taken.len()
    }

    /// Closes the connection that has waited longest if the incomplete headers take more memory than they may.
    pub(super) fn bound_headers(&self) {
        let seats = self.seats();
        let waiting = seats.taken.values().filter(|seat| seat.phase() == Phase::Header);
        let all: usize = waiting.map(|seat| seat.header_bytes.load(Ordering::Relaxed)).sum();
        if all > self.0.header_bytes_max {
            close_idlest(&seats, |seat| seat.header_bytes.load(Ordering::Relaxed) >= HEADER_NOTED);
        }
    }
}

/// Smaller headers fit the buffer that every connection has anyway.
pub(super) const HEADER_NOTED: usize = 4 << 10;

fn close_idlest(seats: &Seats, which: impl Fn(&Seat) -> bool) -> bool {
    let idle = seats.taken.values().filter(|seat| matches!(seat.phase(), Phase::Idle | Phase::Header) && which(seat));
    let mut idle: Vec<_> = idle.map(|seat| (seat.since_ms.load(Ordering::Relaxed), seat.id)).collect();
    idle.sort_unstable();
    // A connection that has just begun a request is skipped.
    idle.iter().any(|(_, id)| seats.taken.get(id).is_some_and(|seat| seat.close()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idlest_makes_room_and_where_all_are_busy_a_spare_place_is_given() {
        let all = Connections::new(2, 2, 1 << 20);
        let (first, second) = (all.enter().unwrap(), all.enter().unwrap());
        first.seat.header_came(10);
        first.seat.begin();
        let third = all.enter().unwrap();
        assert_eq!((second.seat.phase(), first.seat.phase()), (Phase::Closing, Phase::Busy));
        assert!(!third.seat.is_spare);
        drop(second);
        third.seat.begin();
        let fourth = all.enter().unwrap();
        let fifth = all.enter().unwrap();
        assert!(fourth.seat.is_spare && fifth.seat.is_spare, "an idle probe gives its place to no ordinary request");
        assert!(all.enter().is_none());
        assert_eq!(fourth.seat.phase(), Phase::Closing, "the idlest of the spare ones makes room for the next");
        first.seat.end();
        assert_eq!(all.len(), 4);
        drop((fourth, fifth));
        assert!(all.enter().is_some_and(|sixth| !sixth.seat.is_spare));
        assert_eq!(first.seat.phase(), Phase::Closing);
    }

    #[test]
    fn an_answer_that_holds_memory_must_be_taken_fast_enough() {
        let all = Connections::new(1, 0, 1 << 20);
        let seat = all.enter().unwrap().seat.clone();
        assert_eq!(seat.sending_left(), None);
        seat.sends(1_000_000, 1_000);
        let start = Instant::now();
        // A tenth of the rate: each second earns a tenth of one.
        for second in 1..=9 {
            seat.took(100, start + Duration::from_secs(second));
        }
        let left = seat.sending_left().unwrap();
        assert!(left > Duration::from_secs(10) && left < Duration::from_secs(12), "{left:?} from the start on");
        // As fast as it may: it has all the time again.
        seat.took(100_000, start + Duration::from_secs(10));
        assert!(seat.sending_left().unwrap() > Duration::from_secs(18));
        seat.wrote(1_000_000);
        assert_eq!(seat.sending_left(), None);
    }

    #[test]
    fn headers_that_never_end_share_a_bounded_room() {
        let all = Connections::new(10, 1, 20_000);
        let places: Vec<_> = (0..4).map(|_| all.enter().unwrap()).collect();
        for place in &places {
            place.seat.header_came(6_000);
            all.bound_headers();
        }
        let closing = places.iter().filter(|place| place.seat.phase() == Phase::Closing).count();
        assert_eq!(closing, 1);
    }
}
