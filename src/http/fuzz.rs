//! What must hold of every path, query string and packed body, for the fuzzers of `fuzz/` and the corpus test of
//! [`crate::fuzzing`].

pub(crate) use super::body::unpacked;
use super::query::{ad_query, cursor, page, segments, user_of_path};
use crate::model::MAX_KEYS;
use std::fmt::Write;

/// The query of `GET /cap`, that of a page, and a path.
pub(crate) fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(asked) = ad_query(None, text) {
        assert!(asked.candidate.keys.len() <= MAX_KEYS);
        let mut written = format!("user={}&da={}", escaped(asked.user.as_str()), escaped(asked.candidate.da.as_str()));
        for key in &asked.candidate.keys {
            let _ = write!(written, "&key={}", escaped(key.as_str()));
        }
        let Ok(again) = ad_query(None, &written) else { panic!("{text:?} {written:?}") };
        assert_eq!((again.user, again.candidate), (asked.user, asked.candidate), "{text:?}");
    }
    let _ = ad_query(Some((text.to_owned(), text.to_owned())), text);
    if let Ok((start, limit)) = page(text, 1_000) {
        assert!((1..=1_000).contains(&limit));
        if let Some(start) = start {
            let Ok((again, _)) = page(&format!("cursor={}", escaped(&cursor(&start))), 1_000) else {
                panic!("{text:?}")
            };
            assert_eq!(again.map(|again| cursor(&again)), Some(cursor(&start)), "{text:?}");
        }
    }
    if let Ok(decoded) = segments(text) {
        let written: String = decoded.iter().map(|segment| format!("/{}", escaped(segment))).collect();
        assert_eq!(segments(&format!("/cap{written}")).ok(), Some(decoded), "{text:?}");
    }
    let _ = user_of_path(text);
}

/// Every byte percent-encoded.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
