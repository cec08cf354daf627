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

/// The code of a row that is none of its table; it does not concern its neighbours.
const INVALID_ROW: &str = "invalid_row";

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
    #[error("{}: no column of the header is {missing}; there are {columns} ([fields] can name others)", path.display())]
    NoEvents { path: PathBuf, missing: &'static str, columns: String },
    #[error("{}: line {line} is longer than {LINE_MAX} bytes", path.display())]
    LongLine { path: PathBuf, line: u64 },
    #[error("{}: is a JSON array; put one event on each line (jq -c '.[]' FILE)", path.display())]
    Array { path: PathBuf },
}

impl FileError {
    /// Whether another file, or other flags, would do.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Header { .. } | Self::NoEvents { .. } | Self::Array { .. })
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
        // One read of a stream may give fewer bytes than a byte order mark has.
        let (first, plain) = first_bytes::<3>(plain).map_err(failed)?;
        let mut text = BufReader::with_capacity(1 << 18, plain);
        if first == *b"\xef\xbb\xbf" {
            text.read_exact(&mut [0; 3]).map_err(failed)?;
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
        // A row is looked at by itself: one that is too long, or no text, is no reason to leave the rest.
        let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(text);
        let header = csv.byte_headers().map_err(failed)?.iter();
        let header: Vec<String> = header.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let table = self.table(&header)?;
        let (mut record, mut hash) = (csv::ByteRecord::new(), Xxh3::new());
        while csv.read_byte_record(&mut record).map_err(failed)? {
            for cell in &record {
                hash.update(cell);
                hash.update(b"\n");
            }
            let line = record.position().map_or(0, csv::Position::line);
            let event = cells(&record, &header).and_then(|cells| table.row(cells));
            if let Flow::Break(broken) = sink(Place { line, hash: hash.digest() }, event) {
                return Ok(Flow::Break(broken));
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
fn cells<'r>(record: &'r csv::ByteRecord, header: &[String]) -> Result<Vec<&'r str>, Reject> {
    let reject = |detail| Reject { code: INVALID_ROW, detail };
    if record.len() > header.len() {
        return Err(reject(format!("the row has {} cells, and the header {}", record.len(), header.len())));
    }
    let text = |(cell, name): (&'r [u8], &String)| {
        std::str::from_utf8(cell).map_err(|_| reject(format!("the cell under {name:?} is not UTF-8")))
    };
    record.iter().zip(header).map(text).collect()
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
