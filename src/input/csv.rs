//! Rows of CSV (RFC 4180) out of files that do not keep to it: a quote that nobody closes must cost its own line and no
//! other, and no row may ever be made of two.
//!
//! A row is a line. Only where a quote is open at the line's end does the row go on in the next one, and only while the
//! whole can be one row: it has fewer separators than two rows have, its quotes close, and it is as wide as rows are.
//! Otherwise its first line is told, and reading goes on with the line after that, afresh. The lines that the broken row
//! ran over may be rows, or what is left of it: those are taken that are whole, on one line, and have no quote out of place.

use super::json::without_mark;
use std::io::{self, BufRead};

/// The longest row, in bytes.
pub const ROW_MAX: usize = 1 << 20;

/// Why a line is no row. It does not concern its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum RowError {
    #[error("a quote is never closed")]
    Unclosed,
    #[error("there is something between a closing quote and the end of its cell")]
    BehindQuote,
    #[error("the row is longer than {ROW_MAX} bytes")]
    TooLong,
    #[error("the row has {cells} cells, and the header {columns}")]
    TooManyCells { cells: usize, columns: usize },
    #[error("quotes make one cell of several: the row could be read in two ways")]
    Ambiguous,
    #[error("the line is what is left of the broken row of line {line}")]
    Remnant { line: u64 },
}

/// The cells of a row.
#[derive(Debug, Default)]
pub struct Row {
    text: Vec<u8>,
    /// Where in the text each cell ends.
    ends: Vec<usize>,
    /// Cells that do not begin with a quote and have one nevertheless.
    stray: Vec<usize>,
    /// Separators within quotes, and in all.
    quoted_separators: usize,
    separators: usize,
}

impl Row {
    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Its cells, without quotes.
    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, &end| Some(&self.text[std::mem::replace(start, end)..end]))
    }

    /// The cells whose quotes were taken as they are, by their index.
    pub fn stray_quotes(&self) -> &[usize] {
        &self.stray
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.stray.clear();
        (self.quoted_separators, self.separators) = (0, 0);
    }

    fn end_cell(&mut self) {
        self.ends.push(self.text.len());
    }

    /// Drops what is empty beyond the header: separators at a line's end.
    fn trim(&mut self, columns: usize) {
        while self.ends.len() > columns {
            let start = self.ends.iter().rev().nth(1).copied().unwrap_or(0);
            if !self.text[start..].trim_ascii().is_empty() {
                return;
            }
            self.ends.pop();
            self.text.truncate(start);
        }
    }
}

/// Where in a row a line stops, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing of the cell came yet but white space.
    Start,
    Bare,
    Quoted,
    /// Behind a quote that closes the cell, unless another one follows at once.
    Quote,
    /// Behind white space after that.
    Behind,
}

/// Adds what a line has to the row, beginning in such a place; says where the line stops.
fn split(row: &mut Row, line: &[u8], mut place: Place) -> Result<Place, RowError> {
    if place == Place::Start && memchr::memchr(b'"', line).is_none() {
        let mut start = 0;
        for at in memchr::memchr_iter(b',', line) {
            row.text.extend_from_slice(&line[start..at]);
            row.end_cell();
            row.separators += 1;
            start = at + 1;
        }
        row.text.extend_from_slice(&line[start..]);
        return Ok(Place::Bare);
    }
    for &byte in line {
        row.separators += usize::from(byte == b',');
        place = match (place, byte) {
            (Place::Quoted, b'"') => Place::Quote,
            (Place::Quoted, b',') => {
                row.quoted_separators += 1;
                row.text.push(byte);
                Place::Quoted
            }
            (Place::Quoted, _) => {
                row.text.push(byte);
                Place::Quoted
            }
            (_, b',') => {
                row.end_cell();
                Place::Start
            }
            (Place::Start, b'"') => {
                // White space before the quote is no part of the cell.
                row.text.truncate(row.ends.last().copied().unwrap_or(0));
                Place::Quoted
            }
            (Place::Start, b' ' | b'\t') => {
                row.text.push(byte);
                Place::Start
            }
            (Place::Quote, b'"') => {
                row.text.push(byte);
                Place::Quoted
            }
            (Place::Quote | Place::Behind, b' ' | b'\t') => Place::Behind,
            (Place::Quote | Place::Behind, _) => return Err(RowError::BehindQuote),
            (Place::Start | Place::Bare, _) => {
                if byte == b'"' && row.stray.last() != Some(&row.ends.len()) {
                    row.stray.push(row.ends.len());
                }
                row.text.push(byte);
                Place::Bare
            }
        };
    }
    Ok(place)
}

/// What a line is, by its number from 1.
#[derive(Debug)]
pub struct Line<'r> {
    /// The number of its first line, from 1.
    pub number: u64,
    /// The row, or why the line is none.
    pub row: Result<&'r Row, RowError>,
    /// How many lines the row has; of what is none, its first one alone is passed over.
    pub lines: u64,
    /// The line as it stands in the file; of one that is too long nothing.
    pub source: &'r [u8],
}

/// Reads rows, one at a time.
#[derive(Debug)]
pub struct CsvRows<R> {
    lines: Lines<R>,
    row: Row,
    /// The columns of the header, once it is read.
    columns: Option<usize>,
    /// The most cells that a row had so far: how wide rows are in this file.
    widest: Option<usize>,
    /// The line of a broken row, and the last line that it ran over.
    broken: Option<(u64, u64)>,
    /// How many lines and bytes the last row has behind its first line.
    behind: (u64, usize),
}

impl<R: BufRead> CsvRows<R> {
    /// Reads from a stream before which there were so many lines.
    pub fn new(text: R, lines_before: u64) -> Self {
        let lines = Lines::new(text, lines_before + 1);
        Self { lines, row: Row::default(), columns: None, widest: None, broken: None, behind: (0, 0) }
    }

    /// The next row, or why its line is none; the first is the header. Blank lines are passed over. An error of the
    /// stream comes after all the lines that arrived whole.
    pub fn next_row(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.columns.is_none() {
            self.lines.learn_end();
        }
        let first = loop {
            match self.lines.find(0) {
                Found::End => return self.lines.failed.take().map_or(Ok(None), Err),
                Found::Line(end) if is_blank(self.lines.bytes(0, end)) => self.lines.pass(end, 1),
                Found::Line(end) => break end,
                Found::TooLong => {
                    let number = self.lines.number;
                    self.lines.skip_line();
                    return Ok(Some(Line { number, row: Err(RowError::TooLong), lines: 1, source: &[] }));
                }
            }
        };
        let number = self.lines.number;
        let (end, lines, read) = self.read(first);
        match read.and_then(|()| self.judge(number, lines)) {
            Ok(()) => {
                match self.columns {
                    Some(_) => self.widest = self.widest.max(Some(self.row.len())),
                    None => self.columns = Some(self.row.len()),
                }
                self.lines.pass(end, lines);
                self.behind = (lines - 1, end - first);
                Ok(Some(Line { number, row: Ok(&self.row), lines, source: self.lines.passed(end) }))
            }
            Err(why) => {
                self.break_row(number, lines);
                self.lines.pass(first, 1);
                Ok(Some(Line { number, row: Err(why), lines: 1, source: self.lines.passed(first) }))
            }
        }
    }

    /// Takes the last row for a broken one, for no event could be made of it: the quote that made one row of its lines may
    /// be one too many. Reading goes on with the line after its first.
    pub fn reread_lines(&mut self) {
        let (lines, bytes) = std::mem::take(&mut self.behind);
        if lines > 0 {
            self.lines.go_back(bytes, lines);
            self.break_row(self.lines.number - 1, lines + 1);
        }
    }

    /// Remembers a broken row that ran over several lines.
    fn break_row(&mut self, number: u64, lines: u64) {
        let last = number + lines - 1;
        if lines > 1 && self.broken.is_none_or(|broken| broken.1 < last) {
            self.broken = Some((number, last));
        }
    }

    /// Reads the row that begins with the next line, which ends at `first`. Says how many bytes and lines it looked at.
    fn read(&mut self, first: usize) -> (usize, u64, Result<(), RowError>) {
        self.row.clear();
        let (mut start, mut end, mut lines, mut place) = (0, first, 1, Place::Start);
        loop {
            let line = self.lines.bytes(start, end);
            let text = without_end(line);
            let rest = &line[text.len()..];
            let text = if lines == 1 { without_mark(text) } else { text };
            place = match split(&mut self.row, text, place) {
                Ok(place) => place,
                Err(why) => return (end, lines, Err(why)),
            };
            // What has separators enough for two rows is two, and one of them has a quote too many.
            if lines > 1 && self.row.separators >= 2 * (self.width() - 1) {
                return (end, lines, Err(RowError::Unclosed));
            }
            if place != Place::Quoted {
                self.row.end_cell();
                return (end, lines, Ok(()));
            }
            self.row.text.extend_from_slice(rest);
            let next = match self.lines.find(end) {
                // A header is one line.
                Found::Line(next) if self.columns.is_some() => next,
                Found::TooLong => return (end, lines, Err(RowError::TooLong)),
                Found::Line(_) | Found::End => return (end, lines, Err(RowError::Unclosed)),
            };
            (start, end, lines) = (end, next, lines + 1);
        }
    }

    /// Whether what was read of line `number` and those after it is to be taken for a row.
    fn judge(&mut self, number: u64, lines: u64) -> Result<(), RowError> {
        let Some(columns) = self.columns else { return Ok(()) };
        self.row.trim(columns);
        let (cells, width) = (self.row.len(), self.width());
        if cells > columns {
            return Err(RowError::TooManyCells { cells, columns });
        }
        if lines > 1 && cells < width {
            return Err(RowError::Unclosed);
        }
        // Two quotes too many can make one cell of several.
        let lacks_what_is_quoted = cells < width && self.row.separators + 1 >= width;
        if self.row.quoted_separators > 0 && (lacks_what_is_quoted || !self.row.stray.is_empty()) {
            return Err(RowError::Ambiguous);
        }
        match self.broken {
            // Nor is a quote trusted that is open at a line's end where another one was out of place.
            Some((line, last)) if number <= last && (cells < width || lines > 1 || !self.row.stray.is_empty()) => {
                Err(RowError::Remnant { line })
            }
            _ => Ok(()),
        }
    }

    /// How many cells a row has to have to be a whole one.
    fn width(&self) -> usize {
        self.widest.or(self.columns).unwrap_or_default().max(2)
    }
}

/// Whether a line holds nothing.
fn is_blank(line: &[u8]) -> bool {
    without_mark(line.trim_ascii()).is_empty()
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where a line ends, counted from the first that was not passed; its end is part of it.
enum Found {
    Line(usize),
    TooLong,
    /// There are no more lines, or none that arrived whole.
    End,
}

/// A stream by its lines, of which the next ones can be looked at before they are passed.
#[derive(Debug)]
struct Lines<R> {
    text: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins, and its number.
    start: usize,
    number: u64,
    /// What lines end with: `\n`, or `\r` where the first line ends with that alone.
    end: u8,
    failed: Option<io::Error>,
}

impl<R: BufRead> Lines<R> {
    fn new(text: R, number: u64) -> Self {
        Self { text, buffer: Vec::new(), start: 0, number, end: b'\n', failed: None }
    }

    /// Looks at the first line to see what lines end with.
    fn learn_end(&mut self) {
        let mut looked = 0;
        while looked <= ROW_MAX {
            let bytes = &self.buffer[self.start..];
            match memchr::memchr2(b'\r', b'\n', &bytes[looked..]).map(|at| looked + at) {
                Some(at) if bytes[at] == b'\n' => return,
                Some(at) if at + 1 < bytes.len() => {
                    self.end = if bytes[at + 1] == b'\n' { b'\n' } else { b'\r' };
                    return;
                }
                Some(at) => looked = at,
                None => looked = bytes.len(),
            }
            if !self.fill() {
                return;
            }
        }
    }

    fn find(&mut self, from: usize) -> Found {
        let mut looked = from;
        loop {
            let bytes = &self.buffer[self.start..];
            let found = memchr::memchr(self.end, &bytes[looked..]).map(|at| looked + at + 1);
            if found.unwrap_or(bytes.len()) > ROW_MAX {
                return Found::TooLong;
            }
            if let Some(end) = found {
                return Found::Line(end);
            }
            looked = bytes.len();
            if !self.fill() {
                // A line that an error cut off is none.
                return if looked > from && self.failed.is_none() { Found::Line(looked) } else { Found::End };
            }
        }
    }

    fn bytes(&self, from: usize, to: usize) -> &[u8] {
        &self.buffer[self.start + from..self.start + to]
    }

    fn pass(&mut self, bytes: usize, lines: u64) {
        self.start += bytes;
        self.number += lines;
    }

    /// Passes no more what was passed last, if nothing was looked for since.
    fn go_back(&mut self, bytes: usize, lines: u64) {
        self.start -= bytes;
        self.number -= lines;
    }

    /// What was passed last, if nothing was looked for since.
    fn passed(&self, bytes: usize) -> &[u8] {
        &self.buffer[self.start - bytes..self.start]
    }

    /// Passes a line however long it is.
    fn skip_line(&mut self) {
        loop {
            let bytes = &self.buffer[self.start..];
            if let Some(at) = memchr::memchr(self.end, bytes) {
                return self.pass(at + 1, 1);
            }
            self.pass(bytes.len(), 0);
            if !self.fill() {
                return;
            }
        }
    }

    /// Takes more of the stream; says whether there was any.
    fn fill(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        loop {
            match self.text.fill_buf() {
                Ok(more) => {
                    let len = more.len();
                    self.buffer.extend_from_slice(more);
                    self.text.consume(len);
                    return len > 0;
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => {
                    self.failed = Some(why);
                    return false;
                }
            }
        }
    }
}
