//! Pixels: which are counted, and how they are signed.

use crate::clock::Clock;
use crate::model::{Candidate, Event, EventId, Kind, TsMs, UserId};
use crate::pixel::{PixelError, PixelKeys, Signer, Token, is_macro, ts_of};
use metrics::{Counter, counter, describe_counter};

/// For how long a pixel of `/check` and `/reserve` holds, in ms.
const TTL_MS: u64 = 3_600_000;

/// What became of a call of a pixel, as it is answered.
pub const PIXEL_RESULTS: [&str; 10] =
    ["counted", "duplicate", "late", "erased", "ignored", "opted_out", "bad_signature", "expired", "rejected", "busy"];

/// Signs pixels and reads them.
pub struct Pixels {
    signer: Signer,
    clock: Clock,
    /// By [`PIXEL_RESULTS`].
    results: [Counter; PIXEL_RESULTS.len()],
    macros: Counter,
}

/// The parameters of a pixel's URL. What is not there is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct PixelCall<'q> {
    /// What counts.
    pub e: &'q str,
    /// Its signature.
    pub s: &'q str,
    /// When the ad was shown.
    pub t: Option<&'q str>,
}

/// A pixel is not signed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pixels are not signed here: there is no key (--pixel-keys or --pixel-keys-file)")]
pub struct PixelOff;

/// Describes the metrics of pixels.
pub(super) fn describe() {
    describe_counter!("freqcap_pixel_total", "Calls of pixels by result");
    describe_counter!("freqcap_pixel_macros_total", "Parameters of pixels with a macro that nobody replaced");
}

impl Pixels {
    pub(super) fn new(keys: &PixelKeys, clock: Clock) -> Self {
        let results = PIXEL_RESULTS.map(|result| counter!("freqcap_pixel_total", "result" => result));
        Self { signer: Signer::new(keys), clock, results, macros: counter!("freqcap_pixel_macros_total") }
    }

    /// The event of a pixel, if it was signed here and has not expired. `json` is where its text is put.
    pub fn event<'j>(&self, call: PixelCall<'_>, json: &'j mut String) -> Result<Event<'j>, PixelError> {
        let now = self.clock.now();
        let token = self.signer.verify(call.e, call.s, now, json)?;
        let ts = ts_of(call.t.filter(|told| !is_macro(told)), token.iat, now);
        Ok(token.into_event(ts))
    }

    /// Counts a call by its result, and parameters with a macro that nobody replaced.
    pub fn count(&self, result: &'static str, macros: usize) {
        if let Some(number) = PIXEL_RESULTS.iter().position(|known| *known == result) {
            self.results[number].increment(1);
        }
        if macros > 0 {
            self.macros.increment(macros as u64);
        }
    }

    /// What signs pixels that hold for so long.
    pub fn signing(&self, ttl_ms: Option<u64>) -> Result<Signing<'_>, PixelOff> {
        if !self.signer.can_sign() {
            return Err(PixelOff);
        }
        let iat = self.clock.now();
        Ok(Signing { signer: &self.signer, iat, exp: iat.saturating_add(ttl_ms.unwrap_or(TTL_MS)) })
    }
}

/// Signs pixels of one call.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'s> {
    signer: &'s Signer,
    iat: TsMs,
    exp: TsMs,
}

impl Signing<'_> {
    /// The path and query of a pixel. `None` where it would be too long.
    pub fn url(&self, user: &UserId<'_>, candidate: &Candidate<'_>, id: &EventId<'_>, kind: Kind) -> Option<String> {
        let token = Token {
            user: user.clone().into_owned(),
            da: candidate.da.clone().into_owned(),
            id: id.clone().into_owned(),
            keys: candidate.keys.iter().map(|key| key.clone().into_owned()).collect(),
            kind,
            iat: self.iat,
            exp: self.exp,
        };
        self.signer.sign(&token)
    }
}
