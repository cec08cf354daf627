//! Which start of the machine this is: what a process wrote without fsync can be gone only if the machine started anew.

/// What stands for a machine that does not tell. Then any unclean end may have been a power cut.
pub(in crate::store) const UNKNOWN_BOOT: &str = "unknown";

/// Changes with every start of the machine.
pub(in crate::store) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| UNKNOWN_BOOT.to_owned(), |id| id.trim().to_owned())
}

/// The same as a number; 0 where the machine does not tell.
pub fn boot_number() -> u64 {
    let id = boot_id();
    if id == UNKNOWN_BOOT { 0 } else { xxhash_rust::xxh3::xxh3_64(id.as_bytes()).max(1) }
}
