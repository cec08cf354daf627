//! The settings of pixels: the keys that they are signed with.

use crate::settings::{Invalid, Value, settings};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The most keys.
const KEYS_MAX: usize = 64;
/// The longest id of a key.
const KID_MAX: usize = 32;

settings! {
    /// The settings of pixels.
    pub struct Settings, SettingFlags {
        "Pixel" {
            pixel_keys: PixelKeys = "none", "KID:SECRET,..|none",
                "The keys of signed pixels: the first one signs, all verify. Every process on the machine can read a flag; in a \
                 file the keys are out of sight";
            pixel_keys_file: Option<PathBuf> = "none", "FILE|none",
                "File with the keys of signed pixels, one KID:SECRET a line, in place of --pixel-keys; read at start";
        }
    }
}

impl Settings {
    /// Reads the keys from their file.
    pub fn read_secrets(&mut self) -> Result<(), Invalid> {
        const FILE: &str = "pixel_keys_file";
        let Some(path) = &self.pixel_keys_file else { return Ok(()) };
        if !self.pixel_keys.0.is_empty() {
            return Err(Invalid::new(FILE, "cannot be given together with --pixel-keys"));
        }
        let text = std::fs::read_to_string(path).map_err(|why| Invalid::new(FILE, format!("cannot be read: {why}")))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.pixel_keys = PixelKeys::of(lines).map_err(|why| Invalid::new(FILE, why.to_string()))?;
        Ok(())
    }
}

/// Why a text does not name keys. It repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum PixelKeysError {
    #[error("has no key")]
    Empty,
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
    #[error(
        "has a key that is not of the form KID:SECRET, where KID is 1 to {KID_MAX} of A-Z, a-z, 0-9, `.`, `_`, `-`"
    )]
    Form,
    #[error("has two keys with one id")]
    Twice,
}

/// Keys by their ids; the first one signs. [`fmt::Debug`] does not show the secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PixelKeys(Vec<(String, String)>);

impl PixelKeys {
    fn of<'t>(keys: impl Iterator<Item = &'t str>) -> Result<Self, PixelKeysError> {
        let mut all: Vec<(String, String)> = Vec::new();
        for key in keys {
            let (kid, secret) = key.split_once(':').ok_or(PixelKeysError::Form)?;
            let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if !(1..=KID_MAX).contains(&kid.len()) || !kid.bytes().all(is_id) || secret.is_empty() {
                return Err(PixelKeysError::Form);
            }
            if all.iter().any(|(known, _)| known == kid) {
                return Err(PixelKeysError::Twice);
            }
            if all.len() == KEYS_MAX {
                return Err(PixelKeysError::TooMany);
            }
            all.push((kid.to_owned(), secret.to_owned()));
        }
        if all.is_empty() { Err(PixelKeysError::Empty) } else { Ok(Self(all)) }
    }

    /// Their ids, the one that signs first. None where pixels are not signed here.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(kid, _)| kid.as_str())
    }

    /// Ids and secrets.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

impl FromStr for PixelKeys {
    type Err = PixelKeysError;

    fn from_str(text: &str) -> Result<Self, PixelKeysError> {
        Self::of(text.split(',').map(str::trim))
    }
}

impl Value for PixelKeys {
    const IS_SECRET: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::default()),
            _ => text.parse().map_err(|why: PixelKeysError| why.to_string()),
        }
    }
}

impl fmt::Debug for PixelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn keys_are_read_and_their_secrets_not_shown() {
        let keys: PixelKeys = "new:s3cret:with:colons, old:other".parse().unwrap();
        assert_eq!(keys.ids().collect::<Vec<_>>(), ["new", "old"]);
        assert_eq!(keys.pairs()[0].1, "s3cret:with:colons");
        assert_eq!(format!("{keys:?}"), r#"["new", "old"]"#);
        for bad in ["", "a", "a:", ":b", "a b:c", "a:b,a:c", "a:b,,c:d"] {
            let why = bad.parse::<PixelKeys>().unwrap_err().to_string();
            assert!(!why.contains("b,"), "{bad:?}: {why}");
        }
    }

    #[test]
    fn keys_come_from_a_file_or_a_flag_but_not_both() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# pixels\n\nnew:one,two\nold:three").unwrap();
        let settings = |keys: &str| Settings {
            pixel_keys: Value::read(keys).unwrap(),
            pixel_keys_file: Some(file.path().to_owned()),
        };
        let mut read = settings("none");
        read.read_secrets().unwrap();
        assert_eq!(read.pixel_keys.pairs()[0], ("new".to_owned(), "one,two".to_owned()));
        assert!(settings("a:b").read_secrets().is_err());
        std::fs::write(file.path(), "nothing").unwrap();
        let why = settings("none").read_secrets().unwrap_err().why;
        assert!(!why.contains("nothing"), "{why}");
    }
}
