//! Fast path of JSON: parses in one pass an object whose members are strings without escapes, integers, null, true,
//! false, or arrays of such strings. Most events are such objects. The JSON library parses everything else, and makes
//! all error messages.

use super::raw::Raw;
use smallvec::SmallVec;

/// The wanted members, in order.
pub(super) type Members<'a, T> = SmallVec<[(T, Raw<'a>); 8]>;

/// The members of an object for which `look` returns a value; `None` if the text is not such an object.
pub(super) fn members<'a, T>(json: &'a str, look: impl Fn(&str) -> Option<T>) -> Option<Members<'a, T>> {
    let mut wanted = Members::new();
    each(json, look, |meaning, value| wanted.push((meaning, value)))?;
    Some(wanted)
}

/// Passes those members to `keep` one by one. If the result is `None`, what `keep` got is void.
#[inline]
pub(super) fn each<'a, T>(
    json: &'a str,
    look: impl Fn(&str) -> Option<T>,
    mut keep: impl FnMut(T, Raw<'a>),
) -> Option<()> {
    let mut scan = Scan { json, bytes: json.as_bytes(), at: 0 };
    scan.expect(b'{')?;
    if !scan.take(b'}') {
        loop {
            scan.space();
            let name = scan.string()?;
            scan.expect(b':')?;
            scan.space();
            let value = scan.value()?;
            if let Some(meaning) = look(&name[1..name.len() - 1]) {
                keep(meaning, value);
            }
            if !scan.take(b',') {
                break;
            }
        }
        scan.expect(b'}')?;
    }
    scan.space();
    (scan.at == scan.bytes.len()).then_some(())
}

struct Scan<'a> {
    json: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// Bytes that end a string, or need the JSON library.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        ends[byte] = true;
        byte += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips white space, and the byte if it is next. Returns whether it was.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    /// A string without escapes, with its quotes.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return None;
        }
        let len = self.bytes[start + 1..].iter().position(|&byte| ENDS[usize::from(byte)])?;
        self.at = start + len + 2;
        (self.bytes[self.at - 1] == b'"').then(|| &self.json[start..self.at])
    }

    #[inline]
    fn value(&mut self) -> Option<Raw<'a>> {
        let start = self.at;
        match self.peek()? {
            b'"' => return self.string().map(Raw::Plain),
            b'-' | b'0'..=b'9' => self.integer()?,
            b'[' => self.strings()?,
            b'n' => self.word("null")?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            _ => return None,
        }
        Some(Raw::Json(&self.json[start..self.at]))
    }

    fn integer(&mut self) -> Option<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.bytes[start..self.at];
        // The number continues, so it is not an integer.
        let goes_on = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        (!digits.is_empty() && (digits[0] != b'0' || digits.len() == 1) && !goes_on).then_some(())
    }

    fn strings(&mut self) -> Option<()> {
        self.at += 1;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.space();
            self.string()?;
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.json[self.at..].starts_with(word).then(|| self.at += word.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use proptest::prelude::*;

    /// The same by the JSON library: names and values as they are written.
    fn by_library(text: &str) -> Option<Vec<(String, String)>> {
        let mut members = Vec::new();
        let keep = |name: String, value: Raw<'_>| {
            members.push((name, value.source().to_owned()));
            Ok(())
        };
        json::members_by_library(text, |name| Some(name.to_owned()), keep).ok().map(|()| members)
    }

    fn in_one_pass(text: &str) -> Option<Vec<(String, String)>> {
        let members = members(text, |name| Some(name.to_owned()))?;
        Some(members.into_iter().map(|(name, value)| (name, value.source().to_owned())).collect())
    }

    #[test]
    fn an_event_is_taken_apart_in_one_pass() {
        for text in [
            r#"{"user":"u1","da":"77","ts":1732233600000,"id":"imp-1","keys":["campaign:42","c:é"]}"#,
            " { \"user\" : 12 ,\t\"da\":-0, \"id\": null , \"keys\" : [ ] }\r",
            "{}",
        ] {
            assert!(in_one_pass(text).is_some(), "{text}");
        }
        let members = members(r#"{"a":"b"}"#, |_| Some(())).unwrap();
        assert!(matches!(members[..], [((), Raw::Plain("\"b\""))]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Pieces of JSON in any order and number.
        #[test]
        fn what_is_found_in_one_pass_is_what_the_library_finds(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", " ", "\n", "\"", "\\", "a", "0", "1", "-", ".", "e", "null", "true",
                    "false", "é", "\u{1}", "\"a\":", "\"b\":", "\"x\"", "12", "-3", "[\"x\"]", "1.5", "{\"a\":1}",
                    "\"\\u0041\"", "\u{b}", "\u{a0}",
                ]),
                0..12,
            )
        ) {
            for text in [pieces.concat(), format!("{{{}}}", pieces.concat()), format!("{{\"a\":{}}}", pieces.concat())] {
                if let Some(found) = in_one_pass(&text) {
                    prop_assert_eq!(Some(found), by_library(&text), "{}", text);
                }
            }
        }
    }
}
