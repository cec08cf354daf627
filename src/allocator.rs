//! The allocator, mimalloc, and how long it keeps what was freed.
#![expect(unsafe_code, reason = "the option of the C library has no safe binding")]

// For its C library, where this crate is not the program that has it for its allocator.
use mimalloc as _;
use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc.h: for how many ms freed memory is kept before the kernel gets it back.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

/// Gives freed memory back at once, rather than within a second: that takes a little time each time, and in a process with
/// a small budget up to half of it would be such memory.
pub fn give_back_at_once() {
    // SAFETY: mimalloc.h declares it so, it may be called at any time, and an unknown option would do nothing.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_of_this_version() {
        // By its default, which no other option has.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 1_000);
        give_back_at_once();
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 0);
    }
}
