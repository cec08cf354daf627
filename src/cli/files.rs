//! Files of events: NDJSON, or CSV with a header; plain or gzip; `-` is standard input.

use crate::input::{EventReader, Reject, TableError, TableReader};
use crate::model::Event;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The longest line of NDJSON: memory stays bounded whatever the file holds.
const LINE_MAX: u64 = 16 << 20;

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: cannot be opened: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Csv { path: PathBuf, source: csv::Error },
    #[error("{}: {source}", path.display())]
    Header { path: PathBuf, source: TableError },
    #[error("{}: line {line} is longer than {LINE_MAX} bytes", path.display())]
    LongLine { path: PathBuf, line: u64 },
    #[error("{}: is a JSON array; put one event on each line (jq -c '.[]' FILE)", path.display())]
    Array { path: PathBuf },
}

impl FileError {
    /// Whether another file, or other flags, would do.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Header { .. } | Self::Array { .. })
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

    /// Gives every event of an opened file to `sink`, one at a time, until that breaks off.
    pub fn each<B>(
        &self,
        opened: impl Read,
        mut sink: impl FnMut(Place, Result<Event<'_>, Reject>) -> Flow<B>,
    ) -> Result<Flow<B>, FileError> {
        let failed = |source| FileError::Read { path: self.path.to_owned(), source };
        let (first, opened) = first_bytes::<2>(opened).map_err(failed)?;
        let plain: Box<dyn Read + '_> =
            if first == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(opened)) } else { Box::new(opened) };
        let mut text = BufReader::with_capacity(1 << 18, plain);
        if text.fill_buf().map_err(failed)?.starts_with(b"\xef\xbb\xbf") {
            text.consume(3);
        }
        match skip_blank(&mut text).map_err(failed)? {
            (_, None) => Ok(Flow::Continue(())),
            (lines, Some(b'{')) => self.lines(text, lines, &mut sink),
            (_, Some(b'[')) => Err(FileError::Array { path: self.path.to_owned() }),
            (_, Some(_)) => self.rows(text, &mut sink),
        }
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
            let taken = (&mut text).take(LINE_MAX + 1).read_until(b'\n', &mut line);
            match taken.map_err(|source| FileError::Read { path: self.path.to_owned(), source })? as u64 {
                0 => return Ok(Flow::Continue(())),
                1..=LINE_MAX => number += 1,
                _ => return Err(FileError::LongLine { path: self.path.to_owned(), line: number + 1 }),
            }
            let json = line.trim_ascii();
            if json.is_empty() {
                continue;
            }
            hash.update(json);
            hash.update(b"\n");
            let place = Place { line: number, hash: hash.digest() };
            if let Flow::Break(broken) = sink(place, self.reader.event(json)) {
                return Ok(Flow::Break(broken));
            }
        }
    }

    fn rows<B>(
        &self,
        text: impl BufRead,
        sink: &mut impl FnMut(Place, Result<Event<'_>, Reject>) -> Flow<B>,
    ) -> Result<Flow<B>, FileError> {
        let failed = |source| FileError::Csv { path: self.path.to_owned(), source };
        let mut csv = csv::Reader::from_reader(text);
        let table = TableReader::new(self.reader, csv.headers().map_err(failed)?, self.keys)
            .map_err(|source| FileError::Header { path: self.path.to_owned(), source })?;
        let (mut record, mut hash) = (csv::StringRecord::new(), Xxh3::new());
        while csv.read_record(&mut record).map_err(failed)? {
            for cell in &record {
                hash.update(cell.as_bytes());
                hash.update(b"\n");
            }
            let line = record.position().map_or(0, csv::Position::line);
            if let Flow::Break(broken) = sink(Place { line, hash: hash.digest() }, table.row(&record)) {
                return Ok(Flow::Break(broken));
            }
        }
        Ok(Flow::Continue(()))
    }
}

/// The first bytes of a stream (fewer at its end are filled up with zeros), and the stream from its start.
fn first_bytes<const N: usize>(mut stream: impl Read) -> io::Result<([u8; N], impl Read)> {
    let mut first = Vec::with_capacity(N);
    (&mut stream).take(N as u64).read_to_end(&mut first)?;
    let mut bytes = [0; N];
    bytes[..first.len()].copy_from_slice(&first);
    Ok((bytes, Cursor::new(first).chain(stream)))
}

/// Skips white space; says how many lines that were, and the byte after it.
fn skip_blank(text: &mut impl BufRead) -> io::Result<(u64, Option<u8>)> {
    let mut lines = 0;
    loop {
        let Some(&byte) = text.fill_buf()?.first() else { return Ok((lines, None)) };
        if !byte.is_ascii_whitespace() {
            return Ok((lines, Some(byte)));
        }
        lines += u64::from(byte == b'\n');
        text.consume(1);
    }
}
