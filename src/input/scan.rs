//! A scanner for JSON text that says where things are and copies nothing.
//!
//! An event is a handful of short fields out of an object that may hold anything besides. A general parser makes a
//! value of each member or visits each through several layers of calls; here a member nobody asked for costs one look
//! at its bytes, and one that was asked for is a slice of the body. The grammar is that of RFC 8259, held to
//! `serde_json` by a property test.

/// How deep values may nest, as in `serde_json`: the open brackets fit in the bits of one integer.
const DEPTH_MAX: u32 = 127;

/// Where a text stops being JSON, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    /// Bytes before the spot.
    pub at: usize,
    pub why: &'static str,
}

/// What a value is, as far as its first and last bytes tell. A whole word wide: a [`Raw`] with a one-byte tag is copied
/// in overlapping pieces, each of which waits for the last to be written (a third of the time of reading an event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Form {
    /// A string without escapes; the text is what is between the quotes.
    Plain,
    /// A string with escapes; the text includes the quotes.
    Escaped,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Decimal,
    Bool,
    Null,
    Object,
    Array,
    /// The cell of a table, which says nothing of types.
    Cell,
}

/// A value found, not yet understood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub text: &'a str,
    pub form: Form,
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub fn bad(&self, why: &'static str) -> Bad {
        Bad { at: self.at, why }
    }

    pub fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes one byte if it is the next.
    pub fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    /// Takes the end of the text, and white space before it.
    pub fn end(&mut self) -> Result<(), Bad> {
        self.skip_space();
        if self.peek().is_none() { Ok(()) } else { Err(self.bad("expected the end")) }
    }

    /// Takes any value.
    pub fn value(&mut self) -> Result<Raw<'a>, Bad> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.nested(Form::Object),
            Some(b'[') => self.nested(Form::Array),
            Some(b't') => self.literal("true", Form::Bool),
            Some(b'f') => self.literal("false", Form::Bool),
            Some(b'n') => self.literal("null", Form::Null),
            Some(_) => Err(self.bad("expected a value")),
            None => Err(self.bad("expected a value, found the end")),
        }
    }

    /// Takes an object; `member` gets the name of each member and takes its value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Raw<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        if !self.take(b'{') {
            return Err(self.bad("expected an object"));
        }
        self.skip_space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.name()?;
            member(self, name)?;
            self.skip_space();
            if self.take(b'}') {
                return Ok(());
            }
            self.comma("expected `,` or `}`")?;
        }
    }

    /// Takes an array; `element` takes each element.
    pub fn array<E: From<Bad>>(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        if !self.take(b'[') {
            return Err(self.bad("expected an array").into());
        }
        self.skip_space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            if self.take(b']') {
                return Ok(());
            }
            self.comma("expected `,` or `]`")?;
        }
    }

    fn comma(&mut self, why: &'static str) -> Result<(), Bad> {
        if !self.take(b',') {
            return Err(self.bad(why));
        }
        self.skip_space();
        Ok(())
    }

    /// Takes a member's name, the colon, and the white space before the value.
    fn name(&mut self) -> Result<Raw<'a>, Bad> {
        if self.peek() != Some(b'"') {
            return Err(self.bad("expected a member's name in quotes"));
        }
        let name = self.string()?;
        self.skip_space();
        if !self.take(b':') {
            return Err(self.bad("expected `:`"));
        }
        self.skip_space();
        Ok(name)
    }

    fn string(&mut self) -> Result<Raw<'a>, Bad> {
        let quote = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    let (text, form) = if escaped {
                        (&self.text[quote..self.at], Form::Escaped)
                    } else {
                        (&self.text[quote + 1..self.at - 1], Form::Plain)
                    };
                    return Ok(Raw { text, form });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.bad("a control character in a string must be escaped")),
                None => return Err(self.bad("a string has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Bad> {
        const WRONG: &str = "no such escape in a string";
        let rest = &self.text.as_bytes()[self.at + 1..];
        match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => self.at += 6,
            _ => return Err(self.bad(WRONG)),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Raw<'a>, Bad> {
        const WRONG: &str = "a number is not complete";
        let start = self.at;
        self.take(b'-');
        // No digit may follow a leading zero.
        if !self.take(b'0') && !self.digits() {
            return Err(self.bad(WRONG));
        }
        let mut form = Form::Integer;
        if self.take(b'.') {
            form = Form::Decimal;
            if !self.digits() {
                return Err(self.bad(WRONG));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            form = Form::Decimal;
            self.at += 1;
            if !self.take(b'-') {
                self.take(b'+');
            }
            if !self.digits() {
                return Err(self.bad(WRONG));
            }
        }
        Ok(Raw { text: &self.text[start..self.at], form })
    }

    /// Takes a run of digits; says whether there was one.
    fn digits(&mut self) -> bool {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at > start
    }

    fn literal(&mut self, word: &'static str, form: Form) -> Result<Raw<'a>, Bad> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.bad("expected a value"));
        }
        let start = self.at;
        self.at += word.len();
        Ok(Raw { text: &self.text[start..self.at], form })
    }

    /// Takes an object or array, whatever is in it, without recursion.
    fn nested(&mut self, form: Form) -> Result<Raw<'a>, Bad> {
        let start = self.at;
        // One bit for each bracket open, the innermost lowest: set for an object.
        let (mut open, mut depth) = (0u128, 0u32);
        loop {
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return Err(self.bad("nested too deeply"));
                    }
                    let object = bracket == b'{';
                    (open, depth) = (open << 1 | u128::from(object), depth + 1);
                    self.at += 1;
                    self.skip_space();
                    let closing = if object { b'}' } else { b']' };
                    if self.peek() != Some(closing) {
                        if object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => {
                    self.value()?;
                    self.skip_space();
                }
            }
            // A value has ended, or a bracket has just opened before its closing one.
            loop {
                let object = open & 1 == 1;
                if self.take(if object { b'}' } else { b']' }) {
                    (open, depth) = (open >> 1, depth - 1);
                    if depth == 0 {
                        return Ok(Raw { text: &self.text[start..self.at], form });
                    }
                    self.skip_space();
                } else {
                    self.comma(if object { "expected `,` or `}`" } else { "expected `,` or `]`" })?;
                    if object {
                        self.name()?;
                    }
                    break;
                }
            }
        }
    }
}

/// Where, from `at` on, the first quote, backslash or control character stands: eight bytes at a look.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of each zero byte; bits above the lowest one set may be wrong, the lowest never is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    while let Some(&chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(chunk);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let stops = quotes | backslashes | controls;
        if stops != 0 {
            return at + stops.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn scans(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip_space();
        scanner.value().and_then(|_| scanner.end()).is_ok()
    }

    fn parses(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn the_corners_of_the_grammar_are_where_serde_json_has_them() {
        for text in [
            "",
            " ",
            "null",
            "nul",
            "nulll",
            "true",
            "tru",
            "-",
            "-0",
            "-01",
            "01",
            "1.",
            ".5",
            "1.5e",
            "1e+5",
            "1E-5",
            "1e+-5",
            "+1",
            "\"",
            "\"\\\"",
            "\"\\u12G4\"",
            "\"\\u123\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "[",
            "[]",
            "[ ]",
            "[,]",
            "[1,]",
            "[1 2]",
            "[1}",
            "{]",
            "{}",
            "{ }",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "{1:2}",
            "{\"a\" : [ { } , [ ] ] } ",
            "[[]]]",
            "\u{feff}1",
            "1\u{a0}",
            "[\"01234567\u{8}\"]",
            "nan",
            "1e999",
            "[[[],[]],{\"\":{}}]",
        ] {
            assert_eq!(scans(text), parses(text), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let nest = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(scans(&nest(127)) && !scans(&nest(128)) && !scans(&nest(1_000_000)));
        assert!(!scans(&"{\"a\":".repeat(1_000_000)));
    }

    proptest! {
        /// Soup of JSON's own pieces: near the grammar, mostly outside it.
        #[test]
        fn any_text_is_judged_as_serde_json_does(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"b\":", "1", "-0.5", "e3", "0", "null", "true",
                    " ", "\n", "\\n", "\\u00e9", "\\", "é", "\u{1}", "[]", "{}", "{\"a\":", "[1,", "-",
                ]),
                0..12,
            )
        ) {
            let text = pieces.concat();
            prop_assert_eq!(scans(&text), parses(&text), "{}", text);
        }

        #[test]
        fn a_string_ends_at_the_first_byte_that_is_not_plain(text in "[a-é\"\\\\\u{0}-\u{22}\u{7f}-\u{a0}]{0,40}") {
            let naive = text.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(text.len());
            prop_assert_eq!(plain_end(text.as_bytes(), 0), naive);
        }
    }
}
