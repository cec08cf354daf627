//! Events made up. Which event is the n-th of a connection is decided by the seed alone, so what was sent can be asked
//! for again without having been kept.

use super::text::{push_hex, push_number, push_padded};

/// What a stream of events looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Users and ads drawn evenly.
    Even,
    /// Display advertising: Zipf users and ads, mostly one or two impressions a pair, some bots, one event in twenty
    /// sent twice, each with its campaign.
    Real,
}

#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub shape: Shape,
    pub users: u64,
    pub ads: u64,
    pub ids: bool,
    pub seed: u64,
}

/// Some of the users of [`Shape::Real`] are robots, and this many events of a thousand are theirs.
const BOTS: u64 = 200;
const BOT_PER_MILLE: u64 = 10;
/// One event in so many of [`Shape::Real`] is one of the last [`RESENT_WITHIN`] again.
const RESENT: u64 = 20;
const RESENT_WITHIN: u64 = 5_000;
/// And one in so many is another view of a pair among the last [`SEEN_WITHIN`].
const SEEN_AGAIN: u64 = 12;
const SEEN_WITHIN: u64 = 200_000;
/// Ads of [`Shape::Real`] in a campaign.
const ADS_PER_CAMPAIGN: u64 = 10;

/// The events of one connection.
#[derive(Clone)]
pub struct Part {
    stream: Stream,
    salt: u64,
    /// The number of the next event.
    pub number: u64,
}

/// (user, ad), and which event it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    pub user: u64,
    pub ad: u64,
    id: u64,
}

/// Finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): one to one, so
/// different numbers give different ids.
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The 32 bits as a number below `bound`.
fn below(bits: u64, bound: u64) -> u64 {
    ((bits & 0xFFFF_FFFF) * bound) >> 32
}

/// Ranks that fall off with the power 1 - 1/N: the N-th power of an even draw.
fn zipf<const N: i32>(bits: u64, bound: u64) -> u64 {
    let even = (bits & 0xFFFF_FFFF) as f64 / 4_294_967_296.0;
    (even.powi(N) * bound as f64) as u64
}

impl Stream {
    /// The stream that most figures are for: a million users, a thousand ads, ids.
    pub const EVEN: Self = Self { shape: Shape::Even, users: 1_000_000, ads: 1_000, ids: true, seed: 1 };
    pub const REAL: Self = Self { shape: Shape::Real, users: 5_000_000, ads: 10_000, ids: true, seed: 1 };

    pub fn part(&self, connection: usize) -> Part {
        self.part_from(connection, 0)
    }

    /// The events of a connection from the `number`-th on.
    pub fn part_from(&self, connection: usize, number: u64) -> Part {
        let salt = mix(self.seed.wrapping_mul(GAMMA) ^ mix(connection as u64 + 1));
        Part { stream: *self, salt, number }
    }
}

impl Part {
    fn bits(&self, number: u64) -> u64 {
        mix(self.salt.wrapping_add(number.wrapping_mul(GAMMA)))
    }

    /// The part of another connection of the same stream.
    pub fn of(&self, connection: usize) -> Self {
        self.stream.part(connection)
    }

    pub fn event(&self, number: u64) -> Event {
        match self.stream.shape {
            Shape::Even => {
                let bits = self.bits(number);
                Event { user: below(bits >> 32, self.stream.users), ad: below(bits, self.stream.ads), id: bits }
            }
            Shape::Real => self.real(number),
        }
    }

    fn real(&self, number: u64) -> Event {
        let sent = self.first_sent(number);
        let id = self.bits(sent);
        // The pair is that of a view of before, or a new one.
        let (mut bits, mut view) = (id, sent);
        let mut chance = mix(mix(bits));
        while view > 0 && chance.is_multiple_of(SEEN_AGAIN) {
            view = self.first_sent(view - 1 - (chance >> 32) % view.min(SEEN_WITHIN));
            bits = self.bits(view);
            chance = mix(mix(bits));
        }
        let Stream { users, ads, .. } = self.stream;
        let user = if (chance >> 20) % 1_000 < BOT_PER_MILLE {
            users + (chance >> 40) % BOTS
        } else {
            // Ranks are spread over the names, so that a hot user is not beside the next one.
            zipf::<2>(bits >> 32, users) * 7_368_787 % users
        };
        Event { user, ad: zipf::<3>(bits, ads), id }
    }

    /// The event that the `number`-th is a copy of, or it itself.
    fn first_sent(&self, mut number: u64) -> u64 {
        loop {
            let chance = mix(self.bits(number));
            if number == 0 || !chance.is_multiple_of(RESENT) {
                return number;
            }
            number -= 1 + (chance >> 32) % number.min(RESENT_WITHIN);
        }
    }

    pub fn next(&mut self) -> Event {
        self.number += 1;
        self.event(self.number - 1)
    }

    /// An even draw, for what is not an event.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.number += 1;
        below(self.bits(self.number - 1), bound)
    }

    /// One event as JSON.
    pub fn push(&self, out: &mut Vec<u8>, event: Event) {
        out.extend_from_slice(b"{\"user\":\"");
        push_user(out, event.user);
        out.extend_from_slice(b"\",\"da\":\"");
        push_number(out, event.ad);
        if self.stream.ids {
            out.extend_from_slice(b"\",\"id\":\"");
            self.push_id(out, event);
        }
        if self.stream.shape == Shape::Real {
            out.extend_from_slice(b"\",\"keys\":[\"campaign:");
            push_number(out, event.ad / ADS_PER_CAMPAIGN);
            out.extend_from_slice(b"\"]}");
        } else {
            out.extend_from_slice(b"\"}");
        }
    }

    /// The id of an event: 16 bytes.
    pub fn push_id(&self, out: &mut Vec<u8>, event: Event) {
        push_hex(out, event.id ^ self.salt);
    }

    pub fn push_lines(&mut self, out: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            let event = self.next();
            self.push(out, event);
            out.push(b'\n');
        }
    }

    /// The name of a user drawn evenly.
    pub fn push_any_user(&mut self, out: &mut Vec<u8>) {
        let user = self.draw(self.stream.users);
        push_user(out, user);
    }

    /// An id that no other call of any connection has.
    pub fn push_new_id(&mut self, out: &mut Vec<u8>) {
        self.number += 1;
        push_hex(out, self.bits(self.number - 1) ^ self.salt);
    }

    pub fn push_any_ad(&mut self, out: &mut Vec<u8>) {
        let ad = self.draw(self.stream.ads);
        push_number(out, ad);
    }
}

/// The name of a user: `u0000007`.
pub fn push_user(out: &mut Vec<u8>, user: u64) {
    out.push(b'u');
    push_padded(out, user, 7);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_seed_decides() {
        let text = |stream: Stream| {
            let mut out = Vec::new();
            stream.part(3).push_lines(&mut out, 100);
            out
        };
        for stream in [Stream::EVEN, Stream::REAL] {
            assert_eq!(text(stream), text(stream));
            assert_ne!(text(stream), text(Stream { seed: 2, ..stream }));
            for line in text(stream).split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                let event: serde_json::Value = serde_json::from_slice(line).unwrap();
                assert_eq!(event["id"].as_str().unwrap().len(), 16);
            }
        }
    }

    #[test]
    fn the_real_stream_is_mostly_once_or_twice_a_pair() {
        const EVENTS: u64 = 2_000_000;
        let (mut views, mut seen) = (HashMap::<(u64, u64), u64>::new(), HashSet::new());
        for connection in 0..4 {
            let mut part = Stream::REAL.part(connection);
            for _ in 0..EVENTS / 4 {
                let event = part.next();
                if seen.insert((connection, event.id)) {
                    *views.entry((event.user, event.ad)).or_default() += 1;
                }
            }
        }
        let duplicates = 1.0 - seen.len() as f64 / EVENTS as f64;
        assert!((0.045..0.055).contains(&duplicates), "{duplicates}");
        let share =
            |of: &dyn Fn(u64) -> bool| views.values().filter(|&&views| of(views)).count() as f64 / views.len() as f64;
        let shares = [share(&|n| n == 1), share(&|n| n == 2), share(&|n| n > 2)];
        eprintln!("{shares:?} most {:?} pairs {}", views.values().max(), views.len());
        assert!((0.90..0.95).contains(&shares[0]), "{shares:?}");
        assert!((0.04..0.08).contains(&shares[1]), "{shares:?}");
        assert!((0.003..0.02).contains(&shares[2]), "{shares:?}");
        assert!(*views.values().max().unwrap() > 20);
    }
}
