//! One stream: what its reader is told, in which order, and where it resumes.

use super::batch::Batch;
use super::cursor::Cursor;
use super::filter::Filter;
use super::frame::Framing;
use super::lag::{BEHIND_MAX, Lag};
use super::outcome::{End, Reason};
use super::position::Position;
use super::queue::Sender;
use super::ring::Next;
use super::shared::{Seat, Shared};
use super::source;
use crate::api::StreamEvent;
use crate::model::{ShardId, ShardSet};
use crate::store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often a reader is told where it resumes, and after how many caps.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
const CHECKPOINT_CAPS: u64 = 10_000;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is let go, however little waits for it.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long caps that were read may take to become durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(10);

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With all caps that there are.
    Snapshot,
    /// With what changes from now on.
    Now,
    /// After the checkpoint that had this id.
    After(String),
}

/// The same, understood.
pub(super) enum Begin {
    Snapshot,
    Now,
    From(Cursor),
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a thread that reads ended by a panic")]
    Panicked,
    #[error("caps that were read do not become durable")]
    NotDurable,
}

/// A snapshot under way, shard by shard. Changes of the shards before `shard` are told meanwhile.
struct Snapshot {
    shard: ShardId,
    /// Where the next piece of this shard begins; `None` at its beginning.
    after: Option<Vec<u8>>,
    caps: u64,
}

pub(super) struct Follower {
    shared: Arc<Shared>,
    filter: Filter,
    framing: Framing,
    out: Sender,
    /// By shard, up to where its reader was told.
    position: Position,
    /// The shards of which changes are told.
    live: ShardSet,
    snapshot: Option<Snapshot>,
    /// The next batch of the ring. `None`: what comes next is read from the table.
    place: Option<u64>,
    /// The shard to begin with when the table is read.
    first: ShardId,
    lag: Lag,
    caps_since_checkpoint: u64,
    next_checkpoint: Instant,
    next_heartbeat: Instant,
    /// Since when there is no room for more.
    full_since: Option<Instant>,
    _seat: Seat,
}

impl Follower {
    pub fn new(shared: Arc<Shared>, seat: Seat, filter: Filter, framing: Framing, out: Sender) -> Self {
        let now = Instant::now();
        Self {
            shared,
            filter,
            framing,
            out,
            position: Position::default(),
            live: ShardSet::NONE,
            snapshot: None,
            place: None,
            first: ShardId(0),
            lag: Lag::default(),
            caps_since_checkpoint: 0,
            next_checkpoint: now + CHECKPOINT_INTERVAL,
            next_heartbeat: now + HEARTBEAT_INTERVAL,
            full_since: None,
            _seat: seat,
        }
    }

    /// Runs until the reader is gone, lags, or streams are to end.
    pub async fn run(mut self, begin: Begin) {
        self.write(|framing, out| framing.greet(out));
        self.begin(begin);
        let end = self.follow().await;
        match end {
            End::Lagged => {
                let behind_bytes = self.look_how_far_behind();
                self.event(&StreamEvent::Lagged { behind_bytes });
            }
            End::Stopped => self.checkpoint(),
            End::Closed | End::Failed => {}
        }
        self.shared.figures.ended(end);
    }

    async fn follow(&mut self) -> End {
        let (stop, mut head) = (self.shared.stop.clone(), self.shared.ring.watch());
        loop {
            // Before the ring is looked at: what comes after that wakes this task.
            head.borrow_and_update();
            if self.out.is_gone() {
                return End::Closed;
            }
            if stop.is_cancelled() {
                return End::Stopped;
            }
            let has_room = self.out.has_room();
            if has_room {
                self.full_since = None;
                self.say_what_is_due();
                match self.advance().await {
                    Ok(true) => {
                        tokio::task::consume_budget().await;
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a stream of cap changes ends");
                        return End::Failed;
                    }
                }
            } else if self.is_too_far_behind() {
                return End::Lagged;
            }
            let next = if has_room { self.next_checkpoint.min(self.next_heartbeat) } else { self.stalls_at() };
            tokio::select! {
                _ = head.changed() => {}
                () = self.out.room(), if !has_room => {}
                () = sleep_until(next) => {}
                () = self.out.gone() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn begin(&mut self, begin: Begin) {
        let stores = &self.shared.stores;
        match begin {
            Begin::Snapshot => self.begin_snapshot("asked"),
            Begin::Now => {
                self.position = stores.durable();
                self.live = self.filter.shards();
                self.checkpoint();
            }
            Begin::From(cursor) if cursor.store != self.shared.mark => self.reset(Reason::OtherStore),
            Begin::From(cursor) if cursor.filter != self.filter.hash() => self.reset(Reason::OtherFilter),
            Begin::From(Cursor { snapshot, position, .. }) => {
                let shards = self.filter.shards();
                let live =
                    shards.iter().filter(|shard| snapshot.is_none_or(|next| *shard < next)).collect::<ShardSet>();
                let is_there = |shard| {
                    (stores.log(shard).trimmed_to(shard)..=stores.log(shard).durable_seq(shard))
                        .contains(&position[shard])
                };
                if !live.iter().all(is_there) {
                    return self.reset(Reason::ChangesGone);
                }
                let next = snapshot.and_then(|next| shards.iter().find(|shard| *shard >= next));
                self.snapshot = next.map(|shard| Snapshot { shard, after: None, caps: 0 });
                (self.position, self.live) = (position, live);
                self.checkpoint();
            }
        }
    }

    /// Tells the reader that it cannot resume, and begins anew.
    fn reset(&mut self, reason: Reason) {
        self.shared.figures.reset(reason);
        self.event(&StreamEvent::Reset { reason: reason.as_str() });
        self.begin_snapshot(reason.as_str());
    }

    fn begin_snapshot(&mut self, reason: &str) {
        self.event(&StreamEvent::SnapshotBegin { reason });
        self.live = ShardSet::NONE;
        let first = self.filter.shards().iter().next();
        self.snapshot = first.map(|shard| Snapshot { shard, after: None, caps: 0 });
        // Of each shard the snapshot has what is durable when it begins with it; later changes come later in the ring.
        let head = self.shared.ring.head();
        self.place = Some(head);
        self.lag.joined(head);
    }

    /// Tells some changes, and goes on with the snapshot. Returns whether there was anything to do.
    async fn advance(&mut self) -> Result<bool, ReadError> {
        let told = self.tell_changes().await?;
        if self.snapshot.is_none() {
            return Ok(told);
        }
        self.tell_caps().await?;
        Ok(true)
    }

    async fn tell_changes(&mut self) -> Result<bool, ReadError> {
        let Some(number) = self.place else { return self.tell_from_table().await };
        match self.shared.ring.get(number) {
            Next::Batch(batch) => {
                self.place = Some(number + 1);
                let bytes = self.tell(&batch);
                self.lag.sent(number, bytes);
                Ok(true)
            }
            Next::Waits => Ok(false),
            Next::Gone => {
                self.place = None;
                self.tell_from_table().await
            }
        }
    }

    /// Reads changes from the table, unless the ring has them.
    async fn tell_from_table(&mut self) -> Result<bool, ReadError> {
        self.place = self.shared.ring.place(&self.position, &self.live);
        if let Some(place) = self.place {
            self.lag.joined(place);
            return Ok(true);
        }
        let (live, first, mut position) = (self.live, self.first, self.position.clone());
        let read = move |shared: &Shared| {
            let read = source::changes(&shared.stores, &live, first, &mut position);
            read.map(|(batch, first)| (batch, first, position))
        };
        let (batch, first, position) = self.read(read).await??;
        self.first = first;
        let bytes = self.tell(&batch);
        self.lag.sent_from_table(bytes);
        if batch.gaps().is_empty() {
            // It may be further than the last change, where numbers were skipped.
            self.position = position;
        }
        Ok(true)
    }

    /// Tells what a batch has for the reader. Returns the bytes that were written.
    fn tell(&mut self, batch: &Batch) -> u64 {
        let is_missed = |&(shard, up_to): &(ShardId, u64)| self.live.contains(shard) && self.position[shard] < up_to;
        if batch.gaps().iter().any(is_missed) {
            self.reset(Reason::ChangesGone);
            return 0;
        }
        let (mut out, mut caps) = (Vec::new(), 0);
        for line in batch.lines() {
            if !self.live.contains(line.shard) || line.seq <= self.position[line.shard] {
                continue;
            }
            self.position[line.shard] = line.seq;
            if self.filter.has_key(line.key) {
                self.framing.cap(line.json, &mut out);
                caps += 1;
            }
        }
        let bytes = out.len() as u64;
        self.send_caps(out, caps);
        bytes
    }

    fn send_caps(&mut self, out: Vec<u8>, caps: u64) {
        self.out.put(out);
        self.shared.figures.caps.increment(caps);
        self.caps_since_checkpoint += caps;
        if self.caps_since_checkpoint >= CHECKPOINT_CAPS {
            self.checkpoint();
        }
    }

    /// Tells a piece of the snapshot.
    async fn tell_caps(&mut self) -> Result<(), ReadError> {
        let Some(Snapshot { shard, after, .. }) = &mut self.snapshot else { return Ok(()) };
        let (shard, after) = (*shard, after.take());
        if after.is_none() {
            // Before the first row is read: a change is either in the rows, or comes after this.
            self.position[shard] = self.shared.stores.log(shard).durable_seq(shard);
        }
        let (seq, filter) = (self.position[shard], self.filter.clone());
        let read = move |shared: &Shared| {
            source::caps(shared.stores.of(shard), shard, after.as_deref(), seq, |key| filter.has_key(key))
        };
        let piece = self.read(read).await?;
        self.durable(shard, piece.seq).await?;
        let (mut out, caps) = (Vec::new(), piece.batch.lines_len() as u64);
        piece.batch.lines().for_each(|line| self.framing.cap(line.json, &mut out));
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        snapshot.caps += caps;
        if piece.next.is_some() {
            snapshot.after = piece.next;
            self.send_caps(out, caps);
            return Ok(());
        }
        self.live.insert(shard);
        let next = self.filter.shards().iter().find(|next| *next > shard);
        let all = snapshot.caps;
        self.snapshot = next.map(|next| Snapshot { shard: next, after: None, caps: all });
        self.send_caps(out, caps);
        if self.snapshot.is_none() {
            self.event(&StreamEvent::SnapshotEnd { caps: all });
            self.checkpoint();
        }
        Ok(())
    }

    /// Reads the store, on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Shared) -> T + Send + 'static) -> Result<T, ReadError> {
        let _permit = self.shared.disk.acquire().await.map_err(|_| ReadError::Panicked)?;
        let shared = self.shared.clone();
        self.shared.background.spawn_blocking(move || read(&shared)).await.map_err(|_| ReadError::Panicked)
    }

    /// Waits until everything that was read of a shard is durable: it must not be told what may yet be lost.
    async fn durable(&self, shard: ShardId, seq: u64) -> Result<(), ReadError> {
        let log = self.shared.stores.log(shard);
        let (mut watch, deadline) = (log.watch(), Instant::now() + DURABLE_WITHIN);
        while log.durable_seq(shard) < seq {
            tokio::select! {
                () = watch.changed() => {}
                () = sleep_until(deadline) => return Err(ReadError::NotDurable),
                () = self.shared.stop.cancelled() => return Err(ReadError::NotDurable),
            }
        }
        Ok(())
    }

    fn say_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT_INTERVAL;
            self.write(|framing, out| framing.heartbeat(out));
        }
        if now >= self.next_checkpoint {
            self.checkpoint();
        }
    }

    /// Tells where the reader resumes.
    fn checkpoint(&mut self) {
        self.caps_since_checkpoint = 0;
        self.next_checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
        let cursor = Cursor {
            store: self.shared.mark,
            filter: self.filter.hash(),
            snapshot: self.snapshot.as_ref().map(|snapshot| snapshot.shard),
            position: self.position.clone(),
        };
        self.event(&StreamEvent::Checkpoint { id: &cursor.text(&self.live) });
    }

    fn is_too_far_behind(&mut self) -> bool {
        let now = Instant::now();
        let since = *self.full_since.get_or_insert(now);
        now >= since + STALL_MAX || self.look_how_far_behind() > BEHIND_MAX
    }

    fn stalls_at(&self) -> Instant {
        self.full_since.map_or_else(Instant::now, |since| since + STALL_MAX)
    }

    /// The bytes that were not sent yet of what is known to come.
    fn look_how_far_behind(&mut self) -> u64 {
        let Self { filter, framing, position, live, lag, shared, .. } = self;
        lag.look(&shared.ring, |batch| {
            let lines = batch.lines().filter(|line| live.contains(line.shard) && line.seq > position[line.shard]);
            let told = lines.filter(|line| filter.has_key(line.key));
            told.map(|line| framing.cap_bytes(line.json) as u64).sum()
        })
    }

    fn event(&self, event: &StreamEvent<'_>) {
        self.write(|framing, out| framing.event(event, out));
    }

    fn write(&self, write: impl FnOnce(Framing, &mut Vec<u8>)) {
        let mut out = Vec::new();
        write(self.framing, &mut out);
        self.out.put(out);
    }
}
