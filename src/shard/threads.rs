//! The threads of the shards: how they are named, begun and awaited.

use crate::store::Store;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread that panicked can serve nobody: then events are refused and the process asks to be restarted.
pub(super) struct PoisonOnPanic(pub Arc<Store>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.alarm().raise(std::thread::current().name().unwrap_or("unnamed"));
            self.0.poison();
        }
    }
}

/// Linux shows 15 bytes of a name.
pub(super) fn thread_name(name: &str, unit: Option<&str>) -> String {
    unit.map_or_else(|| name.to_owned(), |unit| format!("{name}-{unit}"))
}

pub(super) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = std::thread::Builder::new().name(name.clone()).spawn(run);
    // Only at start, where a machine that can make no thread can serve nobody.
    thread.unwrap_or_else(|error| panic!("cannot start the thread {name}: {error}"))
}

/// Waits for a thread, but not for long.
pub(super) fn wait_briefly(thread: &JoinHandle<()>) {
    let start = Instant::now();
    while !thread.is_finished() && start.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(super) fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread ended by a panic");
    }
}
