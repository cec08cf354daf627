//! Files of events: NDJSON, or CSV with a header; plain or gzip; `-` is standard input.

use super::gzip::Gunzip;
use crate::input::{CsvRows, EventReader, ROW_MAX, Reject, Row, RowError, TableError, TableReader, without_mark};
use crate::model::Event;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The longest line of NDJSON: memory stays bounded whatever the file holds.
const LINE_MAX: u64 = ROW_MAX as u64;

/// The code of a line that is no row of its table, or too long; it does not concern its neighbours.
const INVALID_ROW: &str = "invalid_row";

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Header { path: PathBuf, source: TableError },
    #[error("{}: no column of the header is {missing}; there are {columns} ([fields] can name others)", path.display())]
    NoEvents { path: PathBuf, missing: &'static str, columns: String },
    #[error("{}: its first line is no header: {source}", path.display())]
    NoHeader { path: PathBuf, source: RowError },
    #[error("{}: is a JSON array; put one event on each line (jq -c '.[]' FILE)", path.display())]
    Array { path: PathBuf },
}

impl FileError {
    /// Whether another file, or other flags, would do.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Read { .. })
    }
}

/// Where an event was read.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Counted from 1.
    pub line: u64,
    /// A hash of the file from its first event to the end of this one: the same for the same event at the same place
    /// of the same file, or of a file that goes on where that one ended.
    pub hash: u64,
}

/// Whether to read on.
pub type Flow<B> = std::ops::ControlFlow<B>;

/// A file of events.
pub struct EventFile<'f> {
    pub path: &'f Path,
    pub reader: &'f EventReader,
    /// Columns whose values are ids of keys.
    pub keys: &'f [String],
}

impl EventFile<'_> {
    pub fn is_stdin(&self) -> bool {
        self.path == Path::new("-")
    }

    /// The bytes of the file as it is on disk, where that is known.
    pub fn size(&self) -> Option<u64> {
        std::fs::metadata(self.path).ok().filter(|_| !self.is_stdin()).map(|file| file.len())
    }

    /// Opens the file.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, FileError> {
        if self.is_stdin() {
            return Ok(Box::new(io::stdin()));
        }
        match File::open(self.path) {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => Err(FileError::Open { path: self.path.to_owned(), source }),
        }
    }

    /// Gives every event of an opened file to `sink`, one at a time, until that breaks off, and every line that is none
    /// with the reason. An error in the midst of the file comes after all that was read before it.
    pub fn each<B>(
        &self,
        opened: impl Read,
        mut sink: impl FnMut(Place, Result<Event<'_>, Reject>) -> Flow<B>,
    ) -> Result<Flow<B>, FileError> {
        let (first, opened) = first_bytes::<2>(opened).map_err(|source| self.failed(source))?;
        let plain: Box<dyn Read + '_> =
            if first == [0x1f, 0x8b] { Box::new(Gunzip::new(BufReader::new(opened))) } else { Box::new(opened) };
        let (lines, first, text) =
            skip_blank(BufReader::with_capacity(1 << 18, plain)).map_err(|source| self.failed(source))?;
        match first {
            None => Ok(Flow::Continue(())),
            Some(b'{') => self.lines(text, lines, &mut sink),
            Some(b'[') => Err(FileError::Array { path: self.path.to_owned() }),
            Some(_) => self.rows(text, lines, &mut sink),
        }
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Read { path: self.path.to_owned(), source }
    }

    fn lines<B>(
        &self,
        mut text: impl BufRead,
        before: u64,
        sink: &mut impl FnMut(Place, Result<Event<'_>, Reject>) -> Flow<B>,
    ) -> Result<Flow<B>, FileError> {
        let (mut line, mut number, mut hash) = (Vec::new(), before, Xxh3::new());
        loop {
            line.clear();
            let taken =
                (&mut text).take(LINE_MAX + 1).read_until(b'\n', &mut line).map_err(|source| self.failed(source))?
                    as u64;
            if taken == 0 {
                return Ok(Flow::Continue(()));
            }
            number += 1;
            let json = without_mark(line.trim_ascii());
            if json.is_empty() {
                continue;
            }
            hash.update(json);
            hash.update(b"\n");
            let place = Place { line: number, hash: hash.digest() };
            let event = if taken > LINE_MAX && !line.ends_with(b"\n") {
                let rest = skip_line(&mut text);
                let told = sink(place, Err(invalid_row(&RowError::TooLong)));
                rest.map_err(|source| self.failed(source))?;
                told
            } else {
                sink(place, self.reader.event(json))
            };
            if let Flow::Break(broken) = event {
                return Ok(Flow::Break(broken));
            }
        }
    }

    fn rows<B>(
        &self,
        text: impl BufRead,
        before: u64,
        sink: &mut impl FnMut(Place, Result<Event<'_>, Reject>) -> Flow<B>,
    ) -> Result<Flow<B>, FileError> {
        let mut rows = CsvRows::new(text, before);
        let Some(first) = rows.next_row().map_err(|source| self.failed(source))? else { return Ok(Flow::Continue(())) };
        let header = first.row.map_err(|source| FileError::NoHeader { path: self.path.to_owned(), source })?;
        let header: Vec<String> = header.cells().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let table = self.table(&header)?;
        let mut hash = Xxh3::new();
        while let Some(line) = rows.next_row().map_err(|source| self.failed(source))? {
            match line.row {
                Ok(row) => row.cells().for_each(|cell| {
                    hash.update(cell);
                    hash.update(b"\n");
                }),
                Err(_) => hash.update(line.source),
            }
            let place = Place { line: line.number, hash: hash.digest() };
            let row = line.row.map_err(|why| invalid_row(&why));
            let event = row.and_then(|row| cells(row, &header, &table)).and_then(|cells| table.row(cells));
            let is_broken = event.is_err() && line.lines > 1;
            if let Flow::Break(broken) = sink(place, event) {
                return Ok(Flow::Break(broken));
            }
            if is_broken {
                rows.reread_lines();
            }
        }
        Ok(Flow::Continue(()))
    }

    /// The reader of the rows under a header, where there can be any event in them.
    fn table(&self, header: &[String]) -> Result<TableReader<'_>, FileError> {
        let table = TableReader::new(self.reader, header.iter().map(String::as_str), self.keys)
            .map_err(|source| FileError::Header { path: self.path.to_owned(), source })?;
        // A row with something in every cell lacks only what has no column.
        let missing = match table.row(header.iter().map(|_| "1")) {
            Err(reject) if reject.code == Reject::MISSING_USER => "the user",
            Err(reject) if reject.code == Reject::MISSING_DA => "the ad (da)",
            _ => return Ok(table),
        };
        // Of a file that is no table, this could be all of it, and anything.
        let columns = header.join(", ").escape_debug().take(200).collect();
        Err(FileError::NoEvents { path: self.path.to_owned(), missing, columns })
    }
}

/// The cells of a row as text. Fewer than the header has are no fault: the others are absent.
fn cells<'r>(row: &'r Row, header: &[String], table: &TableReader<'_>) -> Result<Vec<&'r str>, Reject> {
    // In a cell that means nothing a stray quote does no harm; what means something is not guessed at.
    if let Some(cell) = row.stray_quotes().iter().find(|cell| table.uses(**cell)) {
        let name = header.get(*cell).map_or("", String::as_str);
        return Err(invalid_row(&format_args!("the cell under {name:?} has a quote, and does not begin with one")));
    }
    let mut texts = Vec::with_capacity(row.len());
    for (cell, name) in row.cells().zip(header) {
        let text = std::str::from_utf8(cell);
        texts.push(text.map_err(|_| invalid_row(&format_args!("the cell under {name:?} is not UTF-8")))?);
    }
    Ok(texts)
}

fn invalid_row(why: &dyn std::fmt::Display) -> Reject {
    Reject { code: INVALID_ROW, detail: why.to_string() }
}

/// The first bytes of a stream (fewer at its end are filled up with zeros), and the stream from its start.
fn first_bytes<const N: usize>(mut stream: impl Read) -> io::Result<([u8; N], impl Read)> {
    let mut first = Vec::with_capacity(N);
    (&mut stream).take(N as u64).read_to_end(&mut first)?;
    let mut bytes = [0; N];
    bytes[..first.len()].copy_from_slice(&first);
    Ok((bytes, Cursor::new(first).chain(stream)))
}

/// Passes over the rest of a line.
fn skip_line(text: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = match text.fill_buf() {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(why),
        };
        let end = memchr::memchr(b'\n', bytes);
        let len = end.map_or(bytes.len(), |at| at + 1);
        text.consume(len);
        if end.is_some() || len == 0 {
            return Ok(());
        }
    }
}

/// Skips white space and byte order marks; says how many lines that were, the byte after it, and what the stream goes on
/// with.
fn skip_blank(mut text: impl BufRead) -> io::Result<(u64, Option<u8>, impl BufRead)> {
    let mut lines = 0;
    let mut taken = Vec::new();
    let next = loop {
        let next = text.fill_buf()?.first().copied();
        match next {
            Some(byte) if byte.is_ascii_whitespace() => {
                lines += u64::from(byte == b'\n');
                text.consume(1);
            }
            // One read of a stream may give fewer bytes than a mark has.
            Some(0xef) => {
                (&mut text).take(3).read_to_end(&mut taken)?;
                if !without_mark(&taken).is_empty() {
                    break next;
                }
                taken.clear();
            }
            next => break next,
        }
    };
    Ok((lines, next, Cursor::new(taken).chain(text)))
}
