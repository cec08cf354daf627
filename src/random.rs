//! The only place that makes something up.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 32 hex digits, 128 bits, that nobody else comes by: from the keys of the standard library's hash maps, which come
/// from the system's randomness.
pub fn random_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
