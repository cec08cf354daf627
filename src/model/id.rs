//! Opaque ids: users, ads and events. 1..=256 bytes of UTF-8, no control characters, never `*`.

use std::borrow::Cow;
use std::fmt;

/// The longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum IdError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MAX_ID_BYTES} bytes")]
    TooLong,
    #[error("holds a control character")]
    Control,
    #[error("is `*`, which stands for every id in rules")]
    Wildcard,
}

pub(super) fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if text == "*" {
        return Err(IdError::Wildcard);
    }
    // C0 and DEL are single bytes; C1 (U+0080..U+009F) is 0xC2 followed by 0x80..0x9F.
    let mut before = 0u8;
    for &byte in text.as_bytes() {
        if byte < 0x20 || byte == 0x7f || (before == 0xc2 && byte < 0xa0) {
            return Err(IdError::Control);
        }
        before = byte;
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name<'a>(Cow<'a, str>);

        impl<'a> $name<'a> {
            /// Takes the text as an id, or says why it is none.
            pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, IdError> {
                let text = text.into();
                check_id(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same, independent of the text it was read from.
            pub fn into_owned(self) -> $name<'static> {
                $name(Cow::Owned(self.0.into_owned()))
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// Who sees ads.
    UserId
);
id_type!(
    /// An ad.
    DaId
);
id_type!(
    /// What makes an event one of its kind for its user and ad, so that a retry counts once.
    EventId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_any_printable_text_up_to_256_bytes() {
        for good in ["u", "a/b%c:d{e} f", "\u{1F600}", "\u{a0}", &"x".repeat(256)] {
            assert!(UserId::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn what_is_no_id_is_told_why() {
        let cases = [
            ("", IdError::Empty),
            ("*", IdError::Wildcard),
            ("a\u{0}", IdError::Control),
            ("a\u{7f}", IdError::Control),
            ("a\u{85}b", IdError::Control),
        ];
        for (bad, why) in cases {
            assert_eq!(UserId::new(bad), Err(why), "{bad:?}");
        }
        assert_eq!(UserId::new("x".repeat(257)), Err(IdError::TooLong));
    }

    #[test]
    fn control_means_what_unicode_says() {
        for code in (0..0x300).filter_map(char::from_u32) {
            let text = format!("a{code}");
            assert_eq!(check_id(&text) == Err(IdError::Control), code.is_control(), "{code:?}");
        }
    }
}
