//! Events made up: which follows which is decided by the seed alone.

use bytes::Bytes;
use std::fmt::Write;

#[derive(Clone)]
pub struct Stream {
    pub users: u64,
    pub ads: u64,
    pub ids: bool,
    pub seed: u64,
}

/// The events of one connection.
pub struct Part {
    stream: Stream,
    state: u64,
    connection: u64,
    number: u64,
    text: String,
}

impl Stream {
    pub fn part(&self, connection: u64) -> Part {
        let state = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ connection.wrapping_mul(0xD1B5_4A32_D192_ED03);
        Part { stream: self.clone(), state, connection, number: 0, text: String::new() }
    }
}

impl Part {
    /// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn pair(&mut self) -> (u64, u64) {
        (self.random() % self.stream.users, self.random() % self.stream.ads)
    }

    fn push_event(&mut self) {
        let (user, ad) = self.pair();
        self.number += 1;
        // Writing to a String cannot fail.
        let _ = write!(self.text, r#"{{"user":"u{user:07}","da":"{ad}""#);
        if self.stream.ids {
            let _ = write!(self.text, r#","id":"{:x}-{:x}-{:x}""#, self.stream.seed, self.connection, self.number);
        }
        self.text.push('}');
    }

    pub fn one(&mut self) -> Bytes {
        self.text.clear();
        self.push_event();
        Bytes::copy_from_slice(self.text.as_bytes())
    }

    pub fn lines(&mut self, count: usize) -> Bytes {
        self.text.clear();
        for _ in 0..count {
            self.push_event();
            self.text.push('\n');
        }
        Bytes::copy_from_slice(self.text.as_bytes())
    }

    /// The body of `/check`: ads drawn for one user.
    pub fn check(&mut self, candidates: usize) -> Bytes {
        self.candidates(candidates);
        self.text.push('}');
        Bytes::copy_from_slice(self.text.as_bytes())
    }

    /// The body of `/reserve`.
    pub fn reserve(&mut self, candidates: usize) -> Bytes {
        self.candidates(candidates);
        self.number += 1;
        let _ = write!(self.text, r#","id":"{:x}-{:x}-{:x}"}}"#, self.stream.seed, self.connection, self.number);
        Bytes::copy_from_slice(self.text.as_bytes())
    }

    fn candidates(&mut self, count: usize) {
        self.text.clear();
        let user = self.random() % self.stream.users;
        let _ = write!(self.text, r#"{{"user":"u{user:07}","candidates":["#);
        for number in 0..count {
            let ad = self.random() % self.stream.ads;
            let comma = if number == 0 { "" } else { "," };
            let _ = write!(self.text, r#"{comma}"{ad}""#);
        }
        self.text.push(']');
    }

    pub fn cap_path(&mut self) -> String {
        let (user, ad) = self.pair();
        format!("/cap/u{user:07}/{ad}")
    }
}
