//! How snapshots and progress look on a terminal.

use crate::api::SnapshotAnswer;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// A line of the list.
pub(super) fn row(snapshot: &SnapshotAnswer) -> String {
    let SnapshotAnswer { id, state, time, epoch, bytes, files, why, .. } = snapshot;
    let time = time.map_or_else(|| "-".to_owned(), text_of_time);
    let size = bytes.map_or_else(|| "-".to_owned(), size);
    let (epoch, files) = (figure(*epoch), figure(files.map(|files| files as u64)));
    let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    format!("{id:>8}  {time:<24}  {epoch:>6}  {size:>10}  {files:>6}  {state}{why}")
}

/// One snapshot in a sentence.
pub(super) fn sentence(snapshot: &SnapshotAnswer) -> String {
    let SnapshotAnswer { id, time, epoch, bytes, files, .. } = snapshot;
    let time = time.map_or_else(|| "an unknown time".to_owned(), text_of_time);
    let (size, files) = (size(bytes.unwrap_or(0)), files.unwrap_or(0));
    format!("snapshot {id} of {time}: {size} in {files} files, epoch {}", figure(*epoch))
}

fn figure(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// RFC 3339, to the millisecond.
fn text_of_time(ms: u64) -> String {
    let instant = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(|| ms.to_string(), |instant| format!("{instant:.3}"))
}

/// A bar of bytes on standard error, where that is a terminal.
pub(super) fn bar(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{msg} {bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}
