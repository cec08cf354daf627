//! The one thing that is taken from outside of what is signed: when the ad was shown.

use crate::model::TsMs;

/// Whether a text is a macro that nobody replaced: `${..}`, `[..]`, `{..}`, `%%..%%`, or what exchanges write where there is
/// nothing (`AUDIT`).
pub fn is_macro(text: &str) -> bool {
    let within = |head: &str, tail: &str| {
        text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
    };
    text == "AUDIT" || within("${", "}") || within("[", "]") || within("{", "}") || within("%%", "%%")
}

/// The instant of an event: what is told, if it is between the signing and now, else the nearer of the two. Without one that can
/// be read, nothing is told.
pub fn ts_of(told: Option<&str>, signed_at: TsMs, now: TsMs) -> Option<TsMs> {
    let told = TsMs::from_text(told?).ok()?;
    // A signer's clock may be ahead of ours.
    Some(told.max(signed_at).min(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_that_nobody_replaced_are_known() {
        for text in ["${AUCTION_IMP_TS}", "[TIMESTAMP]", "{ts}", "{{ts}}", "%%CACHEBUSTER%%", "AUDIT", "%%%%", "[]"] {
            assert!(is_macro(text), "{text}");
        }
        for text in ["", "1732233600000", "%%", "%%%", "[", "2024-11-22T00:00:00Z", "audit", "${x", "x}"] {
            assert!(!is_macro(text), "{text}");
        }
    }

    #[test]
    fn an_instant_is_believed_between_the_signing_and_now() {
        const SIGNED: u64 = 1_732_233_600_000;
        let of =
            |told: &str, now: u64| ts_of(Some(told), TsMs(SIGNED), TsMs(now)).map(|ts| ts.0 as i64 - SIGNED as i64);
        let now = SIGNED + 60_000;
        assert_eq!(of("1732233605000", now), Some(5_000));
        assert_eq!(of("2024-11-22T00:00:07Z", now), Some(7_000));
        assert_eq!((of("1732233599999", now), of("1832233600000", now)), (Some(0), Some(60_000)));
        assert_eq!((of("5", now), of("soon", now), of("", now)), (None, None, None));
        assert_eq!(of("1732233605000", SIGNED - 9), Some(-9), "the signer's clock is ahead");
        assert_eq!(ts_of(None, TsMs(SIGNED), TsMs(now)), None);
    }
}
