//! Identifies the start of the machine: what a process wrote without fsync can be lost only if the machine has
//! restarted since.

/// Stands for a machine that has no boot id. Then any unclean end may have been a power cut.
pub(in crate::store) const UNKNOWN_BOOT: &str = "unknown";

/// Changes with every start of the machine.
pub(in crate::store) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map_or_else(|_| UNKNOWN_BOOT.to_owned(), |id| id.trim().to_owned())
}

/// The boot id as a number; 0 if there is none.
pub fn boot_number() -> u64 {
    let id = boot_id();
    if id == UNKNOWN_BOOT { 0 } else { xxhash_rust::xxh3::xxh3_64(id.as_bytes()).max(1) }
}
