//! Reads the query of a pixel. Exchanges and players write into it what they like, so nothing in it is an error: what cannot be
//! decoded is taken as it is.

use crate::pixel::is_macro;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The parameters of a pixel.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct PixelParams {
    /// What counts: base64url of a JSON text, at most 1,500 bytes
    e: String,
    /// The first 16 bytes of the HMAC-SHA256 of `e`, in base64url
    s: String,
    /// `i`: an image whatever happens; `b`: 204 or the problem, for billing notices
    f: Option<String>,
    /// When the ad was shown, ms since 1970 or ISO 8601; believed between the signing and now
    t: Option<String>,
}

/// The parameters that are looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PixelQuery<'q> {
    pub e: Cow<'q, str>,
    pub s: Cow<'q, str>,
    /// Whether a problem is answered rather than an image (`f=b`).
    pub is_notice: bool,
    pub t: Option<Cow<'q, str>>,
    /// Parameters with a macro that nobody replaced.
    pub macros: usize,
}

fn decoded(raw: &str) -> Cow<'_, str> {
    // A macro such as %%CACHEBUSTER%% is not percent-encoded.
    if is_macro(raw) {
        return Cow::Borrowed(raw);
    }
    percent_decode_str(raw).decode_utf8().unwrap_or(Cow::Borrowed(raw))
}

/// Reads it. Of a parameter that is named twice the first counts: what others append comes later.
pub(super) fn read(query: &str) -> PixelQuery<'_> {
    let mut read = PixelQuery::default();
    let (mut seen_f, mut seen_t) = (false, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(raw);
        read.macros += usize::from(is_macro(&value));
        match name {
            "e" if read.e.is_empty() => read.e = value,
            "s" if read.s.is_empty() => read.s = value,
            "f" if !std::mem::replace(&mut seen_f, true) => read.is_notice = value == "b",
            "t" if !std::mem::replace(&mut seen_t, true) => read.t = Some(value).filter(|value| !value.is_empty()),
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whatever_is_in_it() {
        let whole = read("e=abc&s=de-f_&f=b&t=1732233600000&gdpr=${GDPR}&cb=%%CACHEBUSTER%%&x=%ff&&y");
        assert_eq!((&*whole.e, &*whole.s, whole.is_notice), ("abc", "de-f_", true));
        assert_eq!((whole.t.as_deref(), whole.macros), (Some("1732233600000"), 2));
        let encoded = read("e=a&s=b&t=%5BTIMESTAMP%5D&f=i");
        assert_eq!((encoded.t.as_deref(), encoded.macros, encoded.is_notice), (Some("[TIMESTAMP]"), 1, false));
        let twice = read("t=2024-11-22T00%3A00%3A00Z&e=1&e=2&s=3&s=4&t=5&f=i&f=b");
        assert_eq!((&*twice.e, &*twice.s, twice.is_notice), ("1", "3", false));
        assert_eq!(twice.t.as_deref(), Some("2024-11-22T00:00:00Z"));
        assert_eq!(read(""), PixelQuery::default());
        assert!(!read("f=${F}").is_notice);
    }
}
