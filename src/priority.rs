//! Who gives way to whom where there are fewer cores than there is to do.

/// By how much, in steps of nice(2).
const NICE_STEPS: i32 = 10;

/// From now on this thread gives way to those that answer requests: who reads waits for nobody, and a writer that waits a
/// little finds more to do at once.
pub fn lower_priority() {
    // Of Linux alone: that a thread's id stands for the thread. Where it is refused, all are alike.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE_STEPS);
}
