//! A canonical text of a JSON value: the order of members, white space and escapes make no difference. Numbers stay as
//! written: an id of twenty digits must not become a floating-point number.

use super::json::{elements, members};
use super::raw::{NotJson, Raw};
use std::collections::BTreeMap;

/// Maximum nesting of objects and arrays; deeper values are compared as they are written.
pub(crate) const DEPTH: usize = 16;

/// A hash of a JSON value (XXH3, 128 bits). Equal values have equal hashes, however they are written.
pub(crate) fn body_hash(json: &str) -> Result<u128, NotJson> {
    let mut text = String::with_capacity(json.len());
    write(&mut text, Raw::new(json)?, DEPTH)?;
    Ok(xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

fn write(out: &mut String, value: Raw<'_>, depth: usize) -> Result<(), NotJson> {
    let source = value.source();
    match source.as_bytes().first() {
        Some(b'{') if depth > 0 => {
            let mut sorted = BTreeMap::new();
            // Of two members with one name, the last counts.
            members(
                source,
                |name| Some(name.to_owned()),
                |name, value| {
                    sorted.insert(name, value);
                    Ok(())
                },
            )?;
            out.push('{');
            for (name, value) in sorted {
                text(out, &name);
                write(out, value, depth - 1)?;
                out.push(',');
            }
            out.push('}');
        }
        Some(b'[') if depth > 0 => {
            out.push('[');
            let mut written = Ok(());
            elements(source, |value| {
                if written.is_ok() {
                    written = write(out, value, depth - 1);
                    out.push(',');
                }
            })?;
            written?;
            out.push(']');
        }
        _ => match value.text() {
            Some(plain) => text(out, &plain),
            None => out.push_str(source),
        },
    }
    Ok(())
}

/// Writes a text after its length, so that two texts cannot run together.
fn text(out: &mut String, text: &str) {
    out.push_str(&text.len().to_string());
    out.push(':');
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        body_hash(a).unwrap() == body_hash(b).unwrap()
    }

    #[test]
    fn a_value_is_the_same_however_it_is_written() {
        assert!(same(r#"{"a":1,"b":["x",{"c":null}]}"#, " { \"b\" : [ \"\\u0078\", {\"c\":null} ] , \"a\":1 } "));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
    }

    #[test]
    fn other_values_are_others() {
        for (a, b) in [
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":123456789012345678901}"#, r#"{"a":123456789012345678902}"#),
            (r#"{"a":null}"#, "{}"),
            (r#"["a","b"]"#, r#"["b","a"]"#),
            (r#"["ab"]"#, r#"["a","b"]"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[12]}"#),
            (r#""null""#, "null"),
            (r#"{"a":1,"zz11":7}"#, r#"{"a":14,"zz":17}"#),
            (r#"{"want":1,"zz1111111111111111111111":7}"#, r#"{"want":12,"zz11":111111111111111111117}"#),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }
}
