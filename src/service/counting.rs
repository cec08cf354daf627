//! Counting events: what `POST /events` means.

use crate::api::{BatchAnswer, Capped, EventError, EventOver};
use crate::input::{BodyError, EventReader, Reject, looks_like_lines};
use crate::model::{Candidate, Event, UserId};
use crate::shard::{Counted, EventBatchBuilder, Refusal, Router, TOO_MANY_KINDS};
use metrics::Counter;

/// Maximum rejected events that an answer lists.
const ERRORS_TOLD: usize = 100;

/// Memory for a batch is asked for each time that so many more events were parsed.
const ROOM_STEP: usize = 64;

/// What is wrong with an event of a kind too many.
pub const TOO_MANY_KINDS_DETAIL: &str =
    "a log that this would count in holds as many kinds as a log may (16), and not this one";

/// Parses and counts events.
pub struct Counting {
    router: Router,
    events: EventReader,
    max_batch: usize,
    rejected: Counter,
    unavailable: Counter,
}

/// Why one event was not counted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum CountError {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a batch was not parsed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum BatchError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("there is no memory for the batch")]
    NoRoom,
}

/// A batch that was parsed: the events to count, and the answer as far as it is known.
pub struct Batch {
    builder: EventBatchBuilder,
    answer: BatchAnswer,
    /// Events so far, whatever became of them. (Their indices may count blank lines.)
    parsed: usize,
    /// Whether there was memory for all of it so far.
    fits: bool,
}

/// One event that was parsed.
pub struct SingleEvent<'a> {
    builder: EventBatchBuilder,
    user: UserId<'a>,
    candidate: Candidate<'a>,
}

/// What became of one event, and what its verdict is asked for.
pub struct CountedEvent<'a> {
    /// `counted`, `duplicate`, `late`, `erased` or `ignored`.
    pub result: &'static str,
    /// The user of the event.
    pub user: UserId<'a>,
    /// Its ad and keys.
    pub candidate: Candidate<'a>,
    /// Its keys that were capped when it happened.
    pub over: Vec<EventOver>,
}

impl SingleEvent<'_> {
    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> SingleEvent<'static> {
        let (user, candidate) = (self.user.into_owned(), self.candidate.into_owned());
        SingleEvent { builder: self.builder, user, candidate }
    }
}

impl Counting {
    pub(super) fn new(router: Router, events: EventReader, max_batch: usize) -> Self {
        Self {
            router,
            events,
            max_batch,
            rejected: metrics::counter!("freqcap_events_total", "result" => "rejected"),
            unavailable: metrics::counter!("freqcap_events_total", "result" => "unavailable"),
        }
    }

    /// Parses a JSON array of events. `has_room` is told how many bytes the batch has as it grows.
    pub fn parse_array(&self, body: &[u8], mut has_room: impl FnMut(usize) -> bool) -> Result<Batch, BatchError> {
        let mut batch = self.empty_batch();
        self.events.array(body, self.max_batch, |index, event| batch.add_within(index, event, &mut has_room))?;
        batch.within(has_room)
    }

    /// Parses a body with an event on each line.
    pub fn parse_lines(&self, body: &[u8], mut has_room: impl FnMut(usize) -> bool) -> Result<Batch, BatchError> {
        let mut batch = self.empty_batch();
        self.events.lines(body, self.max_batch, |index, event| batch.add_within(index, event, &mut has_room))?;
        batch.within(has_room)
    }

    fn empty_batch(&self) -> Batch {
        Batch { builder: self.router.builder(), answer: BatchAnswer::default(), parsed: 0, fits: true }
    }

    /// Counts a batch. The refusal says why some events of it were not taken.
    pub async fn count_batch(&self, batch: Batch) -> (BatchAnswer, Option<Refusal>) {
        let counted = self.router.count(batch.builder).await;
        self.finish(batch.answer, counted)
    }

    /// Answers for a batch of which nothing is counted.
    pub fn refuse_batch(&self, batch: Batch, refusal: Refusal) -> (BatchAnswer, Option<Refusal>) {
        let counted = Counted::refused(&batch.builder, refusal);
        self.finish(batch.answer, counted)
    }

    fn finish(&self, mut answer: BatchAnswer, counted: Counted) -> (BatchAnswer, Option<Refusal>) {
        reject_kinds(&mut answer, &counted.too_many_kinds);
        self.rejected.increment(answer.rejected as u64);
        answer.counted = counted.counted;
        answer.duplicate = counted.duplicate;
        answer.late = counted.late;
        answer.erased = counted.erased;
        answer.ignored = counted.ignored;
        answer.capped = counted.capped.into_iter().map(Capped::from).collect();
        answer.over = counted.over.into_iter().map(EventOver::of_batch).collect();
        answer.over_omitted = counted.over_omitted;
        if counted.refusal.is_some() {
            self.unavailable.increment(counted.unavailable as u64);
            answer.unavailable = Some(counted.unavailable);
        }
        (answer, counted.refusal)
    }

    /// Parses one event.
    pub fn parse_event<'a>(&self, body: &'a [u8]) -> Result<SingleEvent<'a>, Reject> {
        let parsed = self.try_parse_event(body);
        if parsed.is_err() {
            self.rejected.increment(1);
        }
        parsed
    }

    fn try_parse_event<'a>(&self, body: &'a [u8]) -> Result<SingleEvent<'a>, Reject> {
        let event = self.events.event(body).map_err(|reject| hint_at_lines(body, reject))?;
        let mut builder = self.router.builder();
        add(&mut builder, 0, &event)?;
        let Event { user, da, keys, .. } = event;
        Ok(SingleEvent { builder, user, candidate: Candidate { da, keys } })
    }

    /// Counts one event.
    pub async fn count_event<'a>(&self, event: SingleEvent<'a>) -> Result<CountedEvent<'a>, CountError> {
        let SingleEvent { builder, user, candidate } = event;
        let mut counted = self.router.count(builder).await;
        let over = std::mem::take(&mut counted.over).into_iter().map(EventOver::of_one).collect();
        let result = match counted {
            Counted { refusal: Some(refusal), .. } => return Err(self.refuse_event(refusal)),
            Counted { too_many_kinds, .. } if !too_many_kinds.is_empty() => {
                self.rejected.increment(1);
                return Err(Reject { code: TOO_MANY_KINDS, detail: TOO_MANY_KINDS_DETAIL.to_owned() }.into());
            }
            Counted { counted: 1, .. } => "counted",
            Counted { duplicate: 1, .. } => "duplicate",
            Counted { erased: 1, .. } => "erased",
            Counted { ignored: 1, .. } => "ignored",
            _ => "late",
        };
        Ok(CountedEvent { result, user, candidate, over })
    }

    /// Answers for an event that is not counted.
    pub fn refuse_event(&self, refusal: Refusal) -> CountError {
        self.unavailable.increment(1);
        refusal.into()
    }
}

impl Batch {
    /// Itself, if there was room for all of it.
    fn within(self, mut has_room: impl FnMut(usize) -> bool) -> Result<Self, BatchError> {
        if self.fits && has_room(self.builder.bytes()) { Ok(self) } else { Err(BatchError::NoRoom) }
    }

    /// Adds an event while there is memory. That is asked for each 64 events: they are at most some hundred KiB.
    fn add_within(&mut self, index: usize, event: Result<Event<'_>, Reject>, has_room: &mut impl FnMut(usize) -> bool) {
        self.parsed += 1;
        if self.parsed.is_multiple_of(ROOM_STEP) {
            self.fits = self.fits && has_room(self.builder.bytes());
        }
        if self.fits {
            self.add(index, event);
        }
    }

    fn add(&mut self, index: usize, event: Result<Event<'_>, Reject>) {
        let added = event.and_then(|event| add(&mut self.builder, index, &event));
        if let Err(Reject { code, detail }) = added {
            self.answer.rejected += 1;
            if self.answer.errors.len() < ERRORS_TOLD {
                self.answer.errors.push(EventError { index, code, detail });
            }
        }
    }
}

fn add(builder: &mut EventBatchBuilder, index: usize, event: &Event<'_>) -> Result<(), Reject> {
    builder.push(index, event).map_err(|why| Reject { code: "ts_in_future", detail: why.to_string() })
}

/// Adds what the writers rejected to what was rejected before, in the order of the batch.
fn reject_kinds(answer: &mut BatchAnswer, indices: &[u32]) {
    if indices.is_empty() {
        return;
    }
    answer.rejected += indices.len();
    for &index in indices {
        let detail = TOO_MANY_KINDS_DETAIL.to_owned();
        answer.errors.push(EventError { index: index as usize, code: TOO_MANY_KINDS, detail });
    }
    answer.errors.sort_unstable_by_key(|error| error.index);
    answer.errors.truncate(ERRORS_TOLD);
}

/// Lines that were sent as one JSON text are not JSON. That alone says little to a client that meant them as lines.
fn hint_at_lines(body: &[u8], mut reject: Reject) -> Reject {
    if reject.code == Reject::INVALID_JSON && looks_like_lines(body) {
        reject.detail =
            format!("this looks like NDJSON: send application/x-ndjson, not application/json; {}", reject.detail);
    }
    reject
}
