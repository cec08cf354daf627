//! Reads write-ahead logs as they lie in the directory, before RocksDB does: RocksDB drops what follows damage, and
//! cannot tell a torn tail, which nobody was promised, from damage to what was acknowledged.
//!
//! A log is blocks of 32 KiB, in which records stand, cut into fragments where a block ends: checksum (masked CRC-32C of
//! all that follows), length, type, bytes. A record is a write: its first sequence, how many rows, the rows.
//! <https://github.com/facebook/rocksdb/wiki/Write-Ahead-Log-File-Format>
//!
//! The first thing in every write of a turn is a note that only the log has: up to which sequence everything was synced
//! by then. So what comes after damage says whether what is damaged had been promised.
//!
//! And a log says of the one before it how long that is and how it ends (RocksDB's option `track_and_verify_wals`), so that
//! none can be missing before others without a trace.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// Of a record, as much as says what it is: sequence, count, and a note.
const HEAD: usize = 12 + 2 + LISTED;
/// Bytes of a note: "sync", and a sequence.
const NOTE: usize = 12;
const NOTE_MAGIC: &[u8; 4] = b"sync";
/// Bytes of a note on the list of files: "list", its number, and its length.
const LISTED: usize = 20;
const LISTED_MAGIC: &[u8; 4] = b"list";
/// What stands before bytes that only the log has, in a write.
const LOG_DATA: u8 = 3;
/// The fragment by which a log speaks of the one before it.
const PREDECESSOR: u8 = 130;

/// The note of a write: everything up to this sequence is synced.
pub(super) fn note(synced: u64) -> [u8; NOTE] {
    let mut note = [0; NOTE];
    note[..4].copy_from_slice(NOTE_MAGIC);
    note[4..].copy_from_slice(&synced.to_le_bytes());
    note
}

/// The note of a write: RocksDB's list of files has this number and is on disk up to this byte, and may be added to.
pub(super) fn listed_note(number: u64, bytes: u64) -> [u8; LISTED] {
    let mut note = [0; LISTED];
    note[..4].copy_from_slice(LISTED_MAGIC);
    note[4..12].copy_from_slice(&number.to_le_bytes());
    note[12..].copy_from_slice(&bytes.to_le_bytes());
    note
}

/// What one log has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WalFile {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: u64,
    /// Whole records from its beginning, and the last sequence in them; 0 where there is none.
    pub records: u64,
    pub last_seq: u64,
    /// The first sequence of the last of them.
    pub last_first: u64,
    /// The log before this one, as it was when this one was begun.
    pub before: Option<Predecessor>,
    /// Where the whole records end.
    pub whole_to: u64,
    /// Up to where everything was synced, by the notes of all writes that can be read.
    pub synced: u64,
    /// The last list of files that a write notes, and up to which byte that was on disk.
    pub listed: (u64, u64),
    pub end: WalEnd,
}

/// What a log says of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub number: u64,
    pub bytes: u64,
    /// The first sequence of its last record.
    pub last_first: u64,
}

impl Predecessor {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self { number: number(0)?, bytes: number(8)?, last_first: number(16)? })
    }
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WalEnd {
    /// After a whole record.
    Whole,
    /// Within a record; with its first and last sequence where they can be read.
    Cut(Option<(u64, u64)>),
    /// A record cannot be read.
    Bad(Bad),
}

/// A record that cannot be read, and what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bad {
    pub what: &'static str,
    /// Its first sequence as it stands there, if it does.
    pub first: Option<u64>,
    /// Records that can be read after it, and the last sequence in them.
    pub later: u64,
    pub later_seq: u64,
    /// How many of those have a note.
    pub notes: u64,
}

impl WalFile {
    /// Bytes that are given up if it is cut where its whole records end.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.bytes - self.whole_to
    }
}

/// Reads every log in a directory, in the order of their numbers.
pub(super) fn scan(dir: &Path) -> io::Result<Vec<WalFile>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(number) = number {
            logs.push((number, path));
        }
    }
    logs.sort_unstable();
    logs.into_iter().map(|(number, path)| scan_file(number, path)).collect()
}

fn scan_file(number: u64, path: PathBuf) -> io::Result<WalFile> {
    let mut file = File::open(&path)?;
    let mut scan = Scan::default();
    let mut block = vec![0; BLOCK];
    loop {
        let len = read_block(&mut file, &mut block)?;
        scan.block(&block[..len]);
        if len < BLOCK {
            break;
        }
    }
    Ok(scan.into_file(number, path))
}

fn read_block(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < block.len() {
        match file.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[derive(Default)]
struct Scan {
    /// Of the block that is read.
    at: u64,
    records: u64,
    last_seq: u64,
    last_first: u64,
    before: Option<Predecessor>,
    whole_to: u64,
    synced: u64,
    listed: (u64, u64),
    /// The beginning of the record that is read, where its first fragment was.
    head: Option<Vec<u8>>,
    /// Zeros since here: room that was never written, if nothing follows.
    zeros: bool,
    cut: bool,
    bad: Option<Bad>,
}

/// A fragment at the beginning of some bytes, and how many it takes.
enum Fragment<'a> {
    Whole(u8, &'a [u8], usize),
    Zeros,
    /// The file ends in it; with what there is of its bytes.
    Cut(u8, &'a [u8]),
    /// With the bytes that stand there, where it begins a record.
    Bad(&'static str, &'a [u8]),
}

fn fragment(rest: &[u8], ends_here: bool) -> Fragment<'_> {
    let Some((header, body)) = rest.split_first_chunk::<HEADER>() else { return Fragment::Cut(0, &[]) };
    if rest.iter().all(|&byte| byte == 0) {
        return Fragment::Zeros;
    }
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let Some(bytes) = body.get(..len) else {
        return if ends_here { Fragment::Cut(header[6], body) } else { Fragment::Bad("a length is wrong", &[]) };
    };
    let own = crc32c::crc32c_append(crc32c::crc32c(&header[6..]), bytes);
    if own.rotate_right(15).wrapping_add(0xa282_ead8) != crc {
        let begins = matches!(header[6], 1 | 2);
        return Fragment::Bad("a checksum does not match", if begins { bytes } else { &[] });
    }
    Fragment::Whole(header[6], bytes, HEADER + len)
}

/// Where in a block the next fragment begins that can be read. A checksum says that it is one.
fn next_whole(block: &[u8], from: usize) -> Option<usize> {
    let is_one = |at: &usize| match block[*at..] {
        [_, _, _, _, _, _, 1..=4 | PREDECESSOR, ..] => matches!(fragment(&block[*at..], true), Fragment::Whole(..)),
        _ => false,
    };
    (from..block.len()).find(is_one)
}

impl Scan {
    fn block(&mut self, block: &[u8]) {
        let ends_here = block.len() < BLOCK;
        let mut pos = 0;
        while pos + HEADER <= block.len() || (ends_here && pos < block.len()) {
            match fragment(&block[pos..], ends_here) {
                Fragment::Whole(kind, bytes, len) => {
                    pos += len;
                    self.fragment(kind, bytes, self.at + pos as u64);
                }
                Fragment::Zeros => {
                    self.zeros = true;
                    break;
                }
                Fragment::Cut(kind, bytes) => {
                    // A length that is damaged may point behind the end, too.
                    let Some(next) = next_whole(block, pos + 1) else {
                        self.take(kind, bytes);
                        self.cut = true;
                        break;
                    };
                    pos = next;
                    self.spoilt("a length is wrong", None);
                }
                Fragment::Bad(what, bytes) => {
                    let first = self.head.as_deref().or(Some(bytes)).and_then(sequences);
                    self.spoilt(what, first);
                    // The length may be what is damaged. The next block begins with a fragment again.
                    match next_whole(block, pos + 1) {
                        Some(next) => pos = next,
                        None => break,
                    }
                }
            }
        }
        self.at += block.len() as u64;
    }

    fn spoilt(&mut self, what: &'static str, seen: Option<(u64, u64)>) {
        self.head = None;
        self.bad.get_or_insert(Bad { what, first: seen.map(|(first, _)| first), ..Bad::default() });
    }

    /// Adds what says what a record is; false where a fragment has no beginning.
    fn take(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let head = match kind {
            1 | 2 => self.head.insert(Vec::new()),
            _ => match &mut self.head {
                Some(head) => head,
                None => return false,
            },
        };
        head.extend_from_slice(&bytes[..bytes.len().min(HEAD - head.len().min(HEAD))]);
        true
    }

    fn fragment(&mut self, kind: u8, bytes: &[u8], end: u64) {
        if std::mem::take(&mut self.zeros) {
            self.spoilt("zeros stand where a record should be", None);
        }
        // Others than fragments of writes say things about the log itself.
        if !(1..=4).contains(&kind) {
            if self.bad.is_none() && self.head.is_none() {
                self.whole_to = end;
                if kind == PREDECESSOR {
                    self.before = Predecessor::decode(bytes);
                }
            }
            return;
        }
        let begins = matches!(kind, 1 | 2);
        if begins && self.head.is_some() {
            self.spoilt("a record has no end", None);
        }
        if !self.take(kind, bytes) {
            // After damage that is to be expected: its record began in it.
            return self.spoilt("a record has no beginning", None);
        }
        if !matches!(kind, 1 | 4) {
            return;
        }
        let Some(head) = self.head.take() else { return };
        let Some((first, last)) = sequences(&head) else { return self.spoilt("a record is too short", None) };
        let synced = note_of(&head);
        self.listed = self.listed.max(listed_of(&head).unwrap_or_default());
        // A note is never ahead of its own write.
        self.synced = self.synced.max(synced.unwrap_or(0).min(first));
        match &mut self.bad {
            None => {
                self.records += 1;
                self.last_seq = self.last_seq.max(last);
                self.last_first = first;
                self.whole_to = end;
            }
            Some(bad) => {
                bad.later += 1;
                bad.later_seq = bad.later_seq.max(last);
                bad.notes += u64::from(synced.is_some());
            }
        }
    }

    fn into_file(self, number: u64, path: PathBuf) -> WalFile {
        let end = match self.bad {
            Some(bad) => WalEnd::Bad(bad),
            None if self.cut || self.head.is_some() => WalEnd::Cut(self.head.as_deref().and_then(sequences)),
            None => WalEnd::Whole,
        };
        let Self { at: bytes, records, last_seq, last_first, before, whole_to, synced, listed, zeros, .. } = self;
        // Room that was never written is no loss.
        let whole_to = if zeros && end == WalEnd::Whole { bytes } else { whole_to };
        WalFile { number, path, bytes, records, last_seq, last_first, before, whole_to, synced, listed, end }
    }
}

/// The first and the last sequence of a write.
fn sequences(head: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = head.split_first_chunk()?;
    let first = u64::from_le_bytes(*first);
    let count = u32::from_le_bytes(*rest.first_chunk()?);
    Some((first, (first + u64::from(count)).saturating_sub(1)))
}

/// Up to where everything was synced when a write was made, where it says so.
fn note_of(head: &[u8]) -> Option<u64> {
    let rest = head.get(12..)?;
    let synced = rest.strip_prefix(&[LOG_DATA, NOTE as u8])?.strip_prefix(NOTE_MAGIC)?;
    synced.first_chunk().copied().map(u64::from_le_bytes)
}

/// Up to where the list of files was on disk when a write was made, where it says so.
fn listed_of(head: &[u8]) -> Option<(u64, u64)> {
    let rest = head.get(12..)?.strip_prefix(&[LOG_DATA, LISTED as u8])?.strip_prefix(LISTED_MAGIC)?;
    let (number, bytes) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), u64::from_le_bytes(*bytes.first_chunk()?)))
}

/// Where a file in the form of a log can no longer be read: the end of its last whole record, and whether another begins
/// further on. `None` where all of it can be read.
pub(super) fn unreadable_from(bytes: &[u8]) -> Option<(u64, bool)> {
    let (mut whole_to, mut is_spoilt, mut has_more) = (0, false, false);
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        let mut pos = 0;
        while pos < block.len() {
            match fragment(&block[pos..], true) {
                Fragment::Whole(kind, _, len) => {
                    pos += len;
                    has_more |= is_spoilt && matches!(kind, 1 | 2);
                    if !is_spoilt && matches!(kind, 1 | 4) {
                        whole_to = number * BLOCK + pos;
                    }
                }
                // What is left of a block is no room for a header.
                Fragment::Cut(..) if block.len() == BLOCK && pos + HEADER > BLOCK => break,
                Fragment::Zeros | Fragment::Cut(..) | Fragment::Bad(..) => {
                    is_spoilt = true;
                    match next_whole(block, pos + 1) {
                        Some(next) => pos = next,
                        None => break,
                    }
                }
            }
        }
    }
    (whole_to < bytes.len()).then_some((whole_to as u64, has_more))
}
