//! What proves that bytes are those that were uploaded.
//!
//! SHA-256: whoever can write to the bucket must not be able to make other bytes pass for those of a snapshot, which a
//! checksum such as xxh3 allows. ring computes it with the processor's own instructions at one to two gigabytes a second, and
//! is in the build for TLS already.

use ring::digest::{Context, Digest, SHA256};

/// A SHA-256 that is being computed.
#[derive(Clone)]
pub(super) struct Hasher(Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> String {
        hex(&self.0.finish())
    }
}

/// The hash of some bytes, as 64 hex digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(&ring::digest::digest(&SHA256, bytes))
}

fn hex(digest: &Digest) -> String {
    use std::fmt::Write;
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(b""), empty);
        assert_eq!(Hasher::new().finish(), empty);
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), hash(b"abc"));
    }
}
