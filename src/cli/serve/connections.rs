//! How many connections the process can bear.

use crate::store::open_files;

/// How many connections leave the store enough file descriptors: one that it cannot open would fail a write. The limit
/// of the process is raised as far as it goes first.
pub(super) fn connections_that_fit(units: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// For logs, Redis, probes and what comes and goes, beside the files that stores keep open.
    const FOR_OTHERS: u64 = 128 + 128;
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { now.maximum } else { now.current };
    let fit = limit.unwrap_or(u64::MAX).saturating_sub(FOR_OTHERS + open_files(units)).max(64);
    usize::try_from(fit).unwrap_or(usize::MAX)
}
