//! The relay: the one loop that sends to Redis, so everything arrives in order.
//!
//! A round sends waiting changes first, then a page of the full sync, if one is under way. Writers never wait for the
//! relay. It reads `changes` and `caps` by itself. If too many changes wait, it drops them and runs a full sync.

use super::batch;
use super::batch_size::BatchSize;
use super::error::MirrorError;
use super::error_log::ErrorLog;
use super::eviction::Evictions;
use super::full_sync::FullSync;
use super::layout::CommandBuilder;
use super::link::{Chain, Link};
use super::marker::{Reason, Resume, Seqs, judge};
use super::names::Names;
use super::options::Options;
use super::owner::{self, Claim, Fence, Run};
use super::send::blocking;
use super::server;
use super::status::{Report, State};
use super::topology::{Master, Topology};
use super::trim::{self, Trimmer};
use super::unit::{self, MirrorUnit};
use crate::model::{ShardId, TsMs};
use crate::random::random_id;
use crate::store::{Bounds, ChangeCursor, MIRROR, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Time for the last changes at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// How long commands of a connection that could not be closed may still arrive.
const STRAY: Duration = Duration::from_secs(2);

/// Reads the wall clock.
pub type Now = Arc<dyn Fn() -> TsMs + Send + Sync>;

pub(super) struct Relay {
    pub store: Arc<Store>,
    options: Options,
    now: Now,
    pub report: Report,
    names: Arc<Names>,
    /// Its position in the change log. Changes that Redis may need again are kept.
    cursor: ChangeCursor,
    /// The sequences that Redis has acknowledged.
    told: Seqs,
    builder: CommandBuilder,
    full_sync: Option<FullSync>,
    /// The markers have no sequences: until the full sync ends, nothing else tells what Redis has.
    markers_cleared: bool,
    /// The chain of the last connection.
    chain: Option<Chain>,
    /// Whether the prefix is known to be ours and the chain unbroken.
    is_open: bool,
    was_live: bool,
    /// The next opening runs a full sync for this reason, whatever the markers say.
    forced_sync: Option<Reason>,
    run: Run,
    unit: Option<MirrorUnit>,
    takeover: bool,
    evictions: Evictions,
    /// The masters known last: a cluster may outlive the node in the URL.
    masters: Vec<Master>,
    seed: usize,
    batch_size: BatchSize,
    next_shard: ShardId,
    next_sweep: Instant,
    next_probe: Instant,
    probes: usize,
    next_upkeep: Instant,
    trimmer: Trimmer,
    pause: Duration,
    error_log: ErrorLog,
}

enum Round {
    Busy,
    Idle,
}

impl Relay {
    pub fn new(store: Arc<Store>, options: Options, now: Now, report: Report, unit: Option<MirrorUnit>) -> Self {
        let names = Arc::new(unit::names(unit.as_ref(), &options.prefix));
        let topology = Arc::new(Topology::single());
        let soon = Instant::now();
        let before = store.meta().mirror_run().unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known which run mirrored last: everything is sent");
            None
        });
        let bounds = Bounds { total: options.max_waiting, of_shard: options.max_waiting_of_shard };
        let cursor = store.changes().subscribe(MIRROR, bounds);
        let run = Run::new(&unit::sender(unit.as_ref(), &store), &random_id(), before);
        Self {
            unit,
            told: Seqs::of(|shard| cursor.trimmed_to(shard)),
            cursor,
            builder: CommandBuilder { names: Arc::clone(&names), layout: options.layout, topology },
            names,
            full_sync: None,
            markers_cleared: false,
            chain: None,
            is_open: false,
            was_live: false,
            forced_sync: None,
            run,
            takeover: options.takeover,
            evictions: Evictions::new(soon),
            masters: Vec::new(),
            seed: 0,
            batch_size: BatchSize::new(options.batch),
            next_shard: ShardId(0),
            next_sweep: soon + options.sweep,
            next_probe: soon,
            probes: 0,
            next_upkeep: soon,
            trimmer: Trimmer::default(),
            pause: FIRST_PAUSE,
            error_log: ErrorLog::default(),
            store,
            options,
            now,
            report,
        }
    }

    /// Runs until `stop`, then until nothing waits, within a time limit.
    pub async fn run(mut self, stop: CancellationToken) {
        self.report.state(State::Connecting);
        while let Err(error) = self.session(&stop).await {
            self.failed(&error);
            if let Err(error) = self.upkeep().await {
                self.failed(&error);
            }
            if self.back_off(&error, &stop).await {
                break;
            }
        }
        self.report.state(State::Off);
    }

    /// One connection, from connecting to its end. Returns without an error only on `stop`.
    async fn session(&mut self, stop: &CancellationToken) -> Result<(), MirrorError> {
        let connecting = Link::connect(&self.options, &self.names, self.run.store(), &self.masters, self.seed);
        let mut link = tokio::select! {
            link = connecting => link?,
            () = stop.cancelled() => return Ok(()),
        };
        self.masters.clone_from(&link.topology.masters);
        self.builder.topology = Arc::clone(&link.topology);
        self.is_open = false;
        self.check_servers(&mut link).await?;
        let has_live_copy = owner::has_live_copy(&mut link, &self.run).await?;
        // Before the fence: a run that does not own the prefix must not close the owner's connections.
        self.claim(&mut link).await?;
        if owner::fence(&mut link, &self.run).await? == Fence::Denied {
            tokio::time::sleep(STRAY).await;
            self.forced_sync = self.forced_sync.or(Some(Reason::Stray));
        } else if has_live_copy {
            // What it told Redis is not ours.
            self.forced_sync = self.forced_sync.or(Some(Reason::Copied));
        }
        let done = self.work(&mut link, stop).await;
        self.chain = link.chain().or(self.chain.take());
        done
    }

    async fn work(&mut self, link: &mut Link, stop: &CancellationToken) -> Result<(), MirrorError> {
        let mut until = None;
        loop {
            if stop.is_cancelled() {
                let until = *until.get_or_insert_with(|| Instant::now() + DRAIN);
                if Instant::now() > until {
                    return Ok(());
                }
            }
            match self.turn(link, stop.is_cancelled()).await {
                Ok(Round::Busy) => {}
                Ok(Round::Idle) if stop.is_cancelled() => return Ok(()),
                Ok(Round::Idle) => self.wait(stop).await,
                Err(error) if error.keeps_link() => {
                    self.is_open &= !matches!(error, MirrorError::Broken);
                    self.failed(&error);
                    if self.back_off(&error, stop).await {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let next = self.next_probe.min(self.next_upkeep).min(self.next_sweep);
        let next = self.evictions.due_at().map_or(next, |due| due.min(next));
        tokio::select! {
            () = self.cursor.changed() => {}
            () = tokio::time::sleep_until(next) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Waits before the next attempt. Returns whether to stop.
    async fn back_off(&mut self, error: &MirrorError, stop: &CancellationToken) -> bool {
        let pause = match error {
            MirrorError::Foreign { .. } | MirrorError::Copied { .. } => self.options.recheck_owner,
            MirrorError::Broken | MirrorError::Moved => FIRST_PAUSE,
            _ => self.pause,
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = stop.cancelled() => true,
        }
    }

    async fn turn(&mut self, link: &mut Link, stopping: bool) -> Result<Round, MirrorError> {
        if Instant::now() >= self.next_upkeep {
            self.upkeep().await?;
        }
        if !self.is_open {
            self.open(link).await?;
            return Ok(Round::Busy);
        }
        if Instant::now() >= self.next_probe {
            self.probe(link).await?;
        }
        if self.store.shards().iter().any(|shard| self.cursor.trimmed_to(shard) > self.told.get(shard)) {
            self.begin_full_sync(link, Reason::Behind).await?;
        }
        if self.full_sync.is_none() && !stopping {
            self.begin_due_sync();
        }
        let waiting = self.waiting();
        self.report.pending(waiting);
        let told_some = waiting > 0;
        if told_some {
            self.send_changes(link).await?;
        }
        if self.full_sync.is_some() && !stopping {
            self.continue_sync(link).await?;
            return Ok(Round::Busy);
        }
        if told_some {
            return Ok(Round::Busy);
        }
        if !self.markers_cleared {
            self.confirm(link).await?;
        }
        self.report.lag(0);
        Ok(Round::Idle)
    }

    /// Acknowledges old changes, removes what all consumers have acknowledged, and updates the lag.
    async fn upkeep(&mut self) -> Result<(), MirrorError> {
        self.next_upkeep = Instant::now() + UPKEEP_INTERVAL.min(self.options.keep_told / 4);
        self.store.shards().iter().for_each(|shard| self.cursor.advance(shard, self.told.get(shard)));
        if self.is_live() {
            self.trimmer.acknowledge(&self.cursor, &self.told, self.options.keep_told);
        }
        trim::trim(&self.cursor).await?;
        if self.waiting() > 0 {
            let oldest = trim::oldest_untold(&self.store, &self.told).await?;
            self.report.lag(oldest.map_or(0, |at| (self.now)().0.saturating_sub(at.0)));
        }
        Ok(())
    }

    /// Changes that Redis has not acknowledged.
    fn waiting(&self) -> u64 {
        let changes = self.store.changes();
        self.store.shards().iter().map(|shard| changes.durable_seq(shard).saturating_sub(self.told.get(shard))).sum()
    }

    /// Claims the prefix, if this run may.
    async fn claim(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        let before = self.run.mark();
        if let Some(unit) = &self.unit {
            owner::claim_for_all(link, &unit.family, self.takeover).await?;
        }
        let claim = owner::claim(link, &mut self.run, self.takeover).await?;
        // Only once: two stores with `--redis-takeover` must not take it from each other for ever.
        self.takeover = false;
        match claim {
            Claim::Ours => {}
            Claim::OfCopy => self.forced_sync = Some(Reason::Copied),
            Claim::Taken(fence) => {
                if fence == Fence::Denied {
                    tokio::time::sleep(STRAY).await;
                }
                self.forced_sync = Some(Reason::Takeover);
            }
        }
        if self.run.mark() != before && !self.store.is_poisoned() {
            // Before anything is sent, so that the next run knows its predecessor.
            let (store, mark) = (Arc::clone(&self.store), self.run.mark());
            blocking(move || Ok(store.meta().put_mirror_run(&mark)?)).await?;
        }
        Ok(())
    }

    /// Claims the prefix and finds where to resume.
    async fn open(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        self.claim(link).await?;
        let chain = link.chain().or(self.chain.take());
        let markers = link.read_markers().await?;
        let durable = Seqs::of(|shard| self.store.changes().durable_seq(shard));
        let trimmed = Seqs::of(|shard| self.cursor.trimmed_to(shard));
        let verdict = match self.forced_sync {
            Some(reason) => Resume::FullSync(reason),
            None => judge(&markers, &link.identity, &durable, &trimmed),
        };
        match verdict {
            Resume::From(told) => {
                link.adopt(markers).await?;
                if self.full_sync.take().is_some() {
                    self.next_sweep = Instant::now();
                }
                self.told = told;
                self.markers_cleared = false;
                self.live(!self.was_live);
            }
            Resume::FullSync(Reason::Missing)
                if self.markers_cleared
                    && self.full_sync.is_some()
                    && chain.is_some_and(|chain| chain.holds(&markers)) =>
            {
                link.adopt(markers).await?;
            }
            Resume::FullSync(Reason::Missing) if self.was_live => self.begin_full_sync(link, Reason::Flushed).await?,
            Resume::FullSync(reason) => self.begin_full_sync(link, reason).await?,
        }
        self.is_open = true;
        self.forced_sync = None;
        self.pause = FIRST_PAUSE;
        Ok(())
    }

    fn new_full_sync(&self, reason: Reason) -> FullSync {
        self.report.full_sync_begun(reason);
        tracing::info!(reason = reason.as_str(), "a full sync of the Redis mirror begins");
        unit::full_sync(self.unit.as_ref(), &self.store)
    }

    async fn begin_full_sync(&mut self, link: &mut Link, reason: Reason) -> Result<(), MirrorError> {
        // All changes up to here are in the pages that will be read.
        self.told = Seqs::of(|shard| self.store.changes().durable_seq(shard));
        self.markers_cleared = true;
        self.full_sync = None;
        link.begin().await?;
        self.full_sync = Some(self.new_full_sync(reason));
        self.report.state(State::FullSync);
        Ok(())
    }

    /// Whether the markers have sequences.
    fn is_live(&self) -> bool {
        self.is_open && !self.markers_cleared
    }

    /// Redis has everything up to where it was told. At the first time it may have had that for long.
    fn live(&mut self, has_long: bool) {
        let at = (!has_long).then(|| (self.now)());
        self.store.shards().iter().for_each(|shard| self.cursor.confirm(shard, self.told.get(shard), at));
        self.was_live = true;
        self.error_log.forget();
        self.report.state(State::Live);
    }

    /// Sends one page of the full sync.
    async fn continue_sync(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        let Some(full_sync) = &mut self.full_sync else { return Ok(()) };
        let before = full_sync.figures();
        full_sync
            .step(link, (&self.store, &self.run), &self.builder, self.batch_size.get())
            .await
            .inspect_err(|error| self.batch_size.failed(error))?;
        let after = full_sync.figures();
        self.report.sent(after.0 - before.0, after.1 - before.1);
        self.report.progress(full_sync.progress(link.nodes.len()));
        let is_done = full_sync.is_done();
        self.batch_size.succeeded();
        self.pause = FIRST_PAUSE;
        if !is_done {
            return Ok(());
        }
        if self.markers_cleared {
            link.deliver((&self.store, &self.run), &self.builder, self.builder.batch(), Some(&self.told)).await?;
        }
        let (sent, removed) = after;
        tracing::info!(sent, removed, "the full sync of the Redis mirror is done");
        self.full_sync = None;
        self.markers_cleared = false;
        self.next_sweep = Instant::now() + self.options.sweep;
        self.live(false);
        Ok(())
    }

    /// Sends a batch of changes.
    async fn send_changes(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        let (store, builder, told) = (Arc::clone(&self.store), self.builder.clone(), self.told.clone());
        let (first, max) = (self.next_shard, self.batch_size.get());
        let batch = blocking(move || batch::read(&store, &builder, &told, first, max)).await?;
        let (sets, removes) = (batch.batch.sets, batch.batch.removes);
        let record = (!self.markers_cleared).then_some(&self.told);
        let sent = link.deliver((&self.store, &self.run), &self.builder, batch.batch, record).await;
        sent.inspect_err(|error| self.batch_size.failed(error))?;
        let now = (self.now)();
        for (shard, seq) in batch.told {
            self.told.set(shard, seq);
            // During a full sync, Redis may have this change and lack earlier ones.
            if !self.markers_cleared {
                self.cursor.confirm(shard, seq, Some(now));
            }
            self.next_shard = shard;
        }
        self.batch_size.succeeded();
        self.pause = FIRST_PAUSE;
        self.report.sent(sets, removes);
        for (at, changes) in batch.made {
            self.report.visible(now.0.saturating_sub(at.0), changes);
        }
        Ok(())
    }

    /// Records in the markers what was acknowledged last.
    async fn confirm(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        if link.ours().all(|node| node.seqs.as_ref() == Some(&self.told)) {
            return Ok(());
        }
        link.deliver((&self.store, &self.run), &self.builder, self.builder.batch(), Some(&self.told)).await
    }

    /// Checks that Redis still has what it was sent.
    async fn probe(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        self.probes += 1;
        if !link.is_topology_current(self.probes).await? {
            return Err(MirrorError::Moved);
        }
        owner::ask(link, &self.run).await?;
        if let Some(unit) = &self.unit {
            owner::ask_for_all(link, &unit.family).await?;
        }
        self.check_servers(link).await?;
        let markers = link.read_markers().await?;
        if !link.is_intact(&markers) {
            return Err(MirrorError::Broken);
        }
        self.next_probe = Instant::now() + self.options.probe;
        Ok(())
    }

    /// Asks the servers for their time and their evictions.
    async fn check_servers(&mut self, link: &mut Link) -> Result<(), MirrorError> {
        for (is_owner, addr, told) in server::ask_all(link).await? {
            if let Some((time, at)) = told.time.filter(|_| is_owner) {
                self.report.server_time(time, at);
            }
            let evicted = told.evicted.map_or(0, |count| self.evictions.note(&addr, count, Instant::now()));
            self.report.evicted(evicted);
        }
        Ok(())
    }

    /// Begins a full sync beside the changes, if one is due.
    fn begin_due_sync(&mut self) {
        let now = Instant::now();
        if self.evictions.due_at().is_some_and(|due| now >= due) {
            self.evictions.full_sync_begun(now);
            tracing::warn!(
                evicted = self.report.handle.snapshot().evicted,
                "Redis is full and evicts keys, caps among them: all are sent again; give it more memory, or the \
                 maxmemory-policy noeviction"
            );
            self.full_sync = Some(self.new_full_sync(Reason::Evicted));
        } else if now >= self.next_sweep {
            self.full_sync = Some(self.new_full_sync(Reason::Sweep));
        }
    }

    fn failed(&mut self, error: &MirrorError) {
        self.report.error(error);
        self.report.pending(self.waiting());
        match error {
            MirrorError::Foreign { .. } => self.report.state(State::Foreign),
            MirrorError::Copied { .. } => self.report.state(State::Copied),
            error if !error.keeps_link() => self.report.state(State::Connecting),
            _ => {}
        }
        if !error.keeps_link() {
            self.seed += 1;
        }
        self.error_log.write(error);
    }
}
