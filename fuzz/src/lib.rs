//! Runs a target of [`freqcap::fuzzing`] under an allocator that counts: memory is bounded by the size of the input.

use freqcap::fuzzing::{TARGETS, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a target may use whatever the input: the data of a time zone, tables of 256 shards, a decoder's buffers.
const ALWAYS: usize = 4 << 20;
/// And for each byte of the input. A section of a log is a hundred bytes in memory and two on disk, and the targets hold
/// what they read, what they write and what they read again.
const PER_BYTE: usize = 4 << 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn add(bytes: usize) {
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system's own; only sizes are noted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs the target of a name. A fuzzer has one name, so it is looked up once.
pub fn run(name: &str, bytes: &[u8]) {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let found = TARGETS.iter().find(|(own, _)| *own == name);
        found.unwrap_or_else(|| panic!("no target is named {name}")).1
    });
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    target(bytes);
    let used = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(used <= ALWAYS + PER_BYTE * bytes.len(), "{used} bytes of memory for an input of {}", bytes.len());
}
