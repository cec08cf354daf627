//! What must hold of every URL that is taken, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`].

use super::url::BucketUrl;

/// A URL that is taken holds no credentials, and is printed as one that means the same.
pub(crate) fn bucket_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(url) = text.parse::<BucketUrl>() else { return };
    assert!(!text.contains(['@', '?', '#']), "{text:?}");
    assert!(!url.prefix.split('/').any(|part| matches!(part, "." | "..")), "{text:?}");
    let printed = url.to_string();
    assert_eq!(printed.parse(), Ok(url), "{printed:?}");
}
