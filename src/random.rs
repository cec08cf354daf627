//! The only place that makes something up. Everything comes from the system's random generator.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 32 hex digits, 128 bits: an id that nobody else has.
pub fn random_id() -> String {
    secret_key().unwrap_or_else(|error| {
        // An id need not be secret, only unlike all others; the keys of the hash maps are.
        tracing::warn!(%error, "the system's random generator failed");
        format!("{:016x}{:016x}", random_half(), random_half())
    })
}

fn random_half() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// 32 hex digits, 128 bits, that nobody can guess.
pub fn secret_key() -> std::io::Result<String> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    Ok(format!("{:032x}", u128::from_be_bytes(key)))
}

#[cfg(test)]
mod tests {
    use super::{random_id, secret_key};

    #[test]
    fn ids_and_keys_are_32_hex_digits_and_never_the_same() {
        let (id, key) = (random_id(), secret_key().unwrap());
        for text in [&id, &key] {
            assert_eq!(text.len(), 32);
            assert!(u128::from_str_radix(text, 16).is_ok(), "{text}");
        }
        assert_ne!(id, random_id());
        assert_ne!(key, secret_key().unwrap());
    }
}
