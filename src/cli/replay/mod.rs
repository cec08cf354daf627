//! `freqcap replay`: sends a file of events to a running service.

mod batch;
mod error;
mod pace;
mod send;
mod summary;

use super::files::{EventFile, FileError, Flow};
use crate::clock::Clock;
use crate::config::{Config, Flags};
use crate::model::TsMs;
use batch::{Batch, Batcher};
pub use error::ReplayError;
use indicatif::{ProgressBar, ProgressStyle};
use pace::Pace;
use send::Sender;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use summary::Summary;
use tokio::sync::{Mutex, mpsc};

/// Sends a file of events to a running freqcap
///
/// Events without an id get one made of their place in the file and of all that stands before it. So a batch can be sent
/// again after an error, and the whole file a second time, without counting anything twice. The exit code is 1 if any
/// event was left out, rejected by the service, or could not be sent.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// NDJSON, or CSV whose header names the fields of events (user, da, ts or ts_ms, kind, ...); gzip too; - is standard
    /// input
    file: PathBuf,
    /// The service
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Events per second at most [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Move all times by one span, so that the newest event of the file is now; those ahead of the clock are not looked at
    /// for that. Reads the file twice
    #[arg(long)]
    shift_to_now: bool,
    /// Columns of a CSV whose values are ids of keys: campaign makes campaign:<value>
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    keys: Vec<String>,
    /// Events per request; the service takes 10000 unless told otherwise
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// Leave events without an id as they are: each replay counts them anew, and a batch is not sent again once the
    /// service may have counted some of it
    #[arg(long)]
    no_ids: bool,
    /// End with exit code 0 though events were left out or rejected
    #[arg(long)]
    allow_rejects: bool,
    /// Settings file, for its [fields]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Replays; says whether every event was taken.
pub fn run(args: &ReplayArgs) -> Result<bool, ReplayError> {
    let config = Config::load(&Flags::of_file(args.config.clone(), None))?;
    let reader = config.event_reader();
    let file = EventFile { path: &args.file, reader: &reader, keys: &args.keys };
    let sender = Sender::new(&args.url, !args.no_ids)?;
    let shift_ms = if args.shift_to_now { shift(&file, Clock::system().now())? } else { 0 };
    let started = Instant::now();
    let (summary, read) = replay(args, &file, sender, shift_ms)?;
    if !matches!(&read, Err(why) if why.is_usage()) {
        print!("{}", summary.text(started.elapsed()));
    }
    read?;
    Ok(summary.is_clean(args.allow_rejects))
}

/// What to add to every time so that the newest is now, but for those that a wrong clock put ahead of it.
fn shift(file: &EventFile<'_>, now: TsMs) -> Result<i64, ReplayError> {
    if file.is_stdin() {
        return Err(ReplayError::ShiftOfStdin);
    }
    let mut newest: Option<TsMs> = None;
    let bar = progress(file, "looking for the newest event");
    let read = file.each(bar.wrap_read(file.open()?), |_, event| {
        newest = newest.max(event.ok().and_then(|event| event.ts).filter(|ts| *ts <= now));
        Flow::<()>::Continue(())
    });
    bar.finish_and_clear();
    // A file that breaks off is told once what comes before that is sent.
    if let Err(why) = read
        && why.is_usage()
    {
        return Err(why.into());
    }
    Ok(newest.map_or(0, |newest| now.0 as i64 - newest.0 as i64))
}

/// Sends what can be read; says what came of it, and whether the file was read to its end.
fn replay(
    args: &ReplayArgs,
    file: &EventFile<'_>,
    sender: Sender,
    shift_ms: i64,
) -> Result<(Summary, Result<(), FileError>), ReplayError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|why| ReplayError::Start(why.to_string()))?;
    let connections = args.connections as usize;
    // Small enough that a low rate is a trickle and not a batch now and then.
    let size = args.rate.map_or(args.batch, |rate| args.batch.min((rate / 10).max(1))) as usize;
    let (batches, taken) = mpsc::channel::<Batch>(connections);
    let (taken, sender) = (Arc::new(Mutex::new(taken)), Arc::new(sender));
    let pace = args.rate.map(|rate| Arc::new(Pace::new(rate)));
    let summary = Arc::new(std::sync::Mutex::new(Summary::default()));
    let bar = progress(file, "");
    let workers: Vec<_> = (0..connections)
        .map(|_| runtime.spawn(work(taken.clone(), sender.clone(), pace.clone(), summary.clone(), bar.clone())))
        .collect();
    drop(taken);

    // This thread reads, and waits where the service is slower; the workers going away ends the reading.
    let mut batcher = Batcher::new(size, shift_ms, !args.no_ids);
    let read = file.each(bar.wrap_read(file.open()?), |place, event| {
        match event {
            Ok(event) => batcher.push(place, &event),
            Err(reject) => lock(&summary).reject(place.line, reject.code, &reject.detail),
        }
        match batcher.take_full().map(|batch| batches.blocking_send(batch)) {
            Some(Err(_)) => Flow::Break(()),
            _ => Flow::Continue(()),
        }
    });
    if let Some(batch) = batcher.take_rest() {
        // Refused only once the workers have given up, which the summary tells.
        let _ = batches.blocking_send(batch);
    }
    drop(batches);
    runtime.block_on(async {
        for worker in workers {
            let _ = worker.await;
        }
    });
    bar.finish_and_clear();
    let summary = std::mem::take(&mut *lock(&summary));
    Ok((summary, read.map(drop)))
}

/// Sends batches until there are no more, or one cannot be sent.
async fn work(
    taken: Arc<Mutex<mpsc::Receiver<Batch>>>,
    sender: Arc<Sender>,
    pace: Option<Arc<Pace>>,
    summary: Arc<std::sync::Mutex<Summary>>,
    bar: ProgressBar,
) {
    loop {
        let next = taken.lock().await.recv().await;
        let Some(batch) = next else { return };
        if let Some(pace) = &pace {
            pace.wait(batch.lines.len()).await;
        }
        match sender.send(&batch, &bar).await {
            Ok(answer) => lock(&summary).add(&batch, &answer),
            Err(why) => {
                lock(&summary).fail(&batch, &why);
                // No other worker would fare better.
                taken.lock().await.close();
                return;
            }
        }
    }
}

fn lock(summary: &std::sync::Mutex<Summary>) -> std::sync::MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn progress(file: &EventFile<'_>, message: &'static str) -> ProgressBar {
    let (bar, template) = match file.size() {
        Some(size) => (
            ProgressBar::new(size),
            "{bar:40} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {bytes_per_sec}  {elapsed}  {wide_msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.set_message(message);
    if !file.is_stdin() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
