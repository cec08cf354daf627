//! What must hold of every file of events, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`]: every
//! row is counted or told with its line, and no event is made of anything but one row.

use super::files::{EventFile, Flow};
use crate::input::fuzz::{check_event, reader};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::Path;

/// A row as it was told: its line, then its event or the code of its rejection.
type Told = (u64, Result<Event, &'static str>);

#[derive(Debug, PartialEq)]
struct Event {
    user: String,
    da: String,
    /// All of it.
    text: String,
}

/// A file after a byte that chooses the `[fields]` and the columns with keys: as it is, and packed.
pub(crate) fn files(bytes: &[u8]) {
    let Some((&choice, content)) = bytes.split_first() else { return };
    let told = read(choice, content);
    if content.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    let packed = packed(content);
    assert_eq!(read(choice, &packed), told, "the same in gzip");
    assert_eq!(read(choice, &[&packed[..], &[0; 700]].concat()), told, "and with padding");
    let (rows, _) = told;
    rows.windows(2).for_each(|pair| assert!(pair[0].0 < pair[1].0, "lines rise: {pair:?}"));
    // No member is shorter than its head and its end, 18 bytes.
    let cut = read(choice, &packed[..packed.len() - 1 - usize::from(choice & 15)]);
    assert!(!cut.1, "a file that was cut off was read to its end");
    // A line may end with CR alone, too, where the first one does.
    let lines = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).split(|&byte| byte == b'\n');
    let lines: Vec<&[u8]> = lines.collect();
    if lines.iter().any(|line| line.strip_suffix(b"\r").unwrap_or(line).contains(&b'\r')) {
        return;
    }
    let Some(header) = lines.iter().position(|line| !is_blank(line)) else { return };
    let mark = b"\xef\xbb\xbf";
    // One mark is passed over, where a file or a line begins; who writes several has not meant any.
    if lines.iter().any(|line| memchr::memmem::find_iter(line, mark).count() > 1) {
        return;
    }
    let first = lines[header].trim_ascii_start();
    match first.strip_prefix(mark).unwrap_or(first).trim_ascii_start().first() {
        Some(b'{') => each_line_is_told(choice, &rows, &lines),
        _ if rows.is_empty() => {}
        _ => {
            no_row_is_lost(&rows, &lines, header);
            rows_stand_alone(choice, &rows, &lines, header);
        }
    }
    if !content.contains(&b'"') {
        let is_told = |row| rows.contains(row);
        assert!(cut.0.iter().all(is_told), "{:?} of a file that was cut off, {rows:?} of the whole", cut.0);
    }
}

/// Every line of NDJSON is told, and its event is what the line alone says.
fn each_line_is_told(choice: u8, rows: &[Told], lines: &[&[u8]]) {
    let mut told = rows.iter();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !is_blank(line)) {
        let Some((number, event)) = told.next() else { panic!("line {} is not told", at + 1) };
        assert_eq!(*number, at as u64 + 1, "a line is not told");
        let alone = reader(choice & 0x7f).event(line.trim_ascii());
        assert_eq!(event.as_ref().ok().map(|event| &event.text), alone.ok().map(|event| format!("{event:?}")).as_ref());
    }
}

/// A line is told, or it is part of a row that a quote holds open and that is not a row of its own; and what an event says
/// stands in its row.
fn no_row_is_lost(rows: &[Told], lines: &[&[u8]], header: usize) {
    let mut at = header + 1;
    let separators = |line: &[u8]| line.iter().filter(|&&byte| byte == b',').count();
    for (number, event) in rows {
        let line = *number as usize - 1;
        assert!(lines[at..line].iter().all(|line| is_blank(line)), "before line {number} is one that is not told");
        let next = rows.iter().map(|(next, _)| *next as usize - 1).find(|&next| next > line).unwrap_or(lines.len());
        let more = lines[line + 1..next].iter().rposition(|line| !is_blank(line)).map_or(0, |last| last + 1);
        at = line + 1 + more;
        let row = &lines[line..at];
        if more > 0 {
            assert!(event.is_ok(), "line {number} is no event and has others with it");
            assert!(lines[line].contains(&b'"'), "line {number} has swallowed others");
            let width = separators(lines[header]);
            let is_row = |line: &&&[u8]| !line.contains(&b'"') && separators(line) >= width;
            assert_eq!(row[1..].iter().find(is_row), None, "the row of line {number} has swallowed another");
        }
        if let Ok(event) = event {
            let text = row.concat();
            assert!(holds(&text, &event.user) && holds(&text, &event.da), "{event:?} is not in line {number}");
        }
    }
    assert!(lines[at..].iter().all(|line| is_blank(line)), "after line {at} is one that is not told");
}

/// A line without quotes says the same without its neighbours, or is told to be what is left of a broken row.
fn rows_stand_alone(choice: u8, rows: &[Told], lines: &[&[u8]], header: usize) {
    for (number, event) in rows.iter().take(16) {
        let line = lines[*number as usize - 1];
        if line.contains(&b'"') {
            continue;
        }
        let (alone, _) = read(choice, &[lines[header], line].join(&b'\n'));
        let alone = alone.into_iter().next().map(|(_, event)| event);
        assert!(
            *event == Err("invalid_row") || alone.as_ref() == Some(event),
            "line {number}: {event:?}, {alone:?} alone"
        );
    }
}

/// What a file has, row by row; and whether it was read to its end.
fn read(choice: u8, content: &[u8]) -> (Vec<Told>, bool) {
    let keys = if choice & 0x80 == 0 { Vec::new() } else { vec!["campaign".to_owned()] };
    let file = EventFile { path: Path::new("-"), reader: reader(choice & 0x7f), keys: &keys };
    let mut told = Vec::new();
    let end = file.each(content, |place, event| {
        let event = event.map(|event| {
            check_event(&event, usize::MAX / 2);
            let (user, da) = (event.user.as_str().to_owned(), event.da.as_str().to_owned());
            Event { user, da, text: format!("{event:?}") }
        });
        told.push((place.line, event.map_err(|reject| reject.code)));
        Flow::<()>::Continue(())
    });
    (told, end.is_ok())
}

/// In two members, as what appends writes it.
fn packed(content: &[u8]) -> Vec<u8> {
    let (first, second) = content.split_at(content.len() / 2);
    let mut out = Vec::new();
    for part in [first, second] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(part).and_then(|()| encoder.finish());
        out.extend(written.unwrap_or_default());
    }
    out
}

fn is_blank(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).is_empty()
}

/// Whether a text has an id in it, quotes aside.
fn holds(text: &[u8], id: &str) -> bool {
    let plain: Vec<u8> = text.iter().copied().filter(|&byte| byte != b'"').collect();
    let id: Vec<u8> = id.bytes().filter(|&byte| byte != b'"').collect();
    memchr::memmem::find(&plain, &id).is_some()
}
