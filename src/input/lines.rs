//! Bodies with a JSON text on each line, other than events.

use super::json::{json_text, without_mark};
use super::parse_event::Reject;

/// A body has more lines than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body has more than {max} lines; nothing was done")]
pub struct TooManyLines {
    /// The most that it may have.
    pub max: usize,
}

/// Gives each line that is not blank to `each`, with its number; blank ones are counted. A line that is no text is a rejection.
/// On an error, what `each` got is void.
pub fn each_line<'b>(
    body: &'b [u8],
    max: usize,
    mut each: impl FnMut(usize, Result<&'b str, Reject>),
) -> Result<(), TooManyLines> {
    let mut count = 0;
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if without_mark(line).is_empty() {
            continue;
        }
        if count == max {
            return Err(TooManyLines { max });
        }
        count += 1;
        let text = std::str::from_utf8(line).map(json_text);
        each(index, text.map_err(|why| Reject::new(Reject::INVALID_JSON, format!("the line is not UTF-8: {why}"))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_counted_and_skipped() {
        let read = |body: &[u8], max| {
            let mut lines = Vec::new();
            let read = each_line(body, max, |index, line| {
                lines.push((index, line.map(str::to_owned).map_err(|reject| reject.code)));
            });
            read.map(|()| lines)
        };
        let line = |index, text: &str| (index, Ok(text.to_owned()));
        assert_eq!(read(b"\xef\xbb\xbf1\r\n\n 2 \n", 2), Ok(vec![line(0, "1"), line(2, "2")]));
        assert_eq!(read(b"\xff\n3", 2), Ok(vec![(0, Err("invalid_json")), line(1, "3")]));
        assert_eq!(read(b"1\n\n2\n3", 2), Err(TooManyLines { max: 2 }));
        assert_eq!(read(b"", 0), Ok(vec![]));
    }
}
