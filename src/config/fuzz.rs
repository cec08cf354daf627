//! What must hold of every settings file, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`].

use super::file::File;
use super::sources::Sources;
use super::{Config, Flags};
use crate::input::EventReader;
use std::path::Path;
use toml::{Table, Value};

/// The text of a file: its settings mean the same written flat, and what is wrong is told in one line.
pub(crate) fn settings(bytes: &[u8]) {
    const NAME: &str = "freqcap.toml";
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new(NAME);
    let file = match File::of_text(path, text) {
        Ok(file) => file,
        Err(why) => {
            assert!(why.0.starts_with(NAME) && !why.0.contains('\n'), "{text:?} {why:?}");
            return;
        }
    };
    let flat: Table = file.values.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect();
    let again = File::of_text(path, &flat.to_string());
    assert_eq!(again.map(|again| again.values).as_ref(), Ok(&file.values), "{text:?}");
    for rule in &file.rules {
        let _ = rule.rule(256);
    }
    let _ = EventReader::new(&file.fields);
    let sources = Sources { flags: &Flags::default(), variable: &|_| None, file: Some(file) };
    let _ = Config::read(&sources).and_then(|config| config.check(&sources));
}
