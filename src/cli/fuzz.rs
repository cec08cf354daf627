//! What must hold of every file of events, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`]: every
//! row is counted or told, and no event is made of anything but one row.

use super::files::{EventFile, Flow};
use crate::input::fuzz::{check_event, reader};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::Path;

/// A row as it was told: its line, then the user and the ad of its event or the code of its rejection.
type Told = (u64, Result<(String, String), &'static str>);

/// A file after a byte that chooses the `[fields]` and the columns with keys: as it is, and packed.
pub(crate) fn files(bytes: &[u8]) {
    let Some((&choice, content)) = bytes.split_first() else { return };
    let told = read(choice, content);
    // Of a file with CR LF the lines are told too low.
    if !content.starts_with(&[0x1f, 0x8b]) && !content.contains(&b'\r') {
        assert_eq!(read(choice, &packed(content)), told, "the same in gzip");
        let (rows, _) = &told;
        assert!(rows.is_sorted_by_key(|(line, _)| *line), "{rows:?}");
        rows.windows(2).for_each(|pair| assert!(pair[0].0 < pair[1].0, "two rows of one line: {pair:?}"));
        let lines: Vec<&[u8]> = content.split(|&byte| byte == b'\n').collect();
        for (at, (line, event)) in rows.iter().enumerate() {
            let next = rows.get(at + 1).map_or(lines.len(), |(next, _)| *next as usize - 1);
            let text = lines.get(*line as usize - 1..next.min(lines.len())).map(|lines| lines.concat());
            let Some(text) = text else { panic!("line {line} of {} lines", lines.len()) };
            if let Ok((user, da)) = event {
                assert!(holds(&text, user) && holds(&text, da), "{event:?} is not in {text:?}");
            }
        }
    }
}

/// What a file has, row by row; and whether it was read to its end.
fn read(choice: u8, content: &[u8]) -> (Vec<Told>, bool) {
    let keys = if choice & 0x80 == 0 { Vec::new() } else { vec!["campaign".to_owned()] };
    let file = EventFile { path: Path::new("-"), reader: reader(choice & 0x7f), keys: &keys };
    let mut told = Vec::new();
    let end = file.each(content, |place, event| {
        event.iter().for_each(|event| check_event(event, content.len()));
        let event = event.map(|event| (event.user.as_str().to_owned(), event.da.as_str().to_owned()));
        told.push((place.line, event.map_err(|reject| reject.code)));
        Flow::<()>::Continue(())
    });
    (told, end.is_ok())
}

fn packed(content: &[u8]) -> Vec<u8> {
    // In two members, as some tools that append write it.
    let (first, second) = content.split_at(content.len() / 2);
    let mut out = Vec::new();
    for part in [first, second] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(part).and_then(|()| encoder.finish());
        out.extend(written.unwrap_or_default());
    }
    out
}

/// Whether a text has an id in it, quotes aside; of JSON, with escapes, this cannot be told so.
fn holds(text: &[u8], id: &str) -> bool {
    let plain: Vec<u8> = text.iter().copied().filter(|&byte| byte != b'"').collect();
    let id: Vec<u8> = id.bytes().filter(|&byte| byte != b'"').collect();
    text.contains(&b'\\') || memchr::memmem::find(&plain, &id).is_some()
}
