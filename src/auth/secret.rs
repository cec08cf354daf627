//! The secret of a key.

use super::digest::Digest;
use super::key::KeyId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::path::Path;

/// A secret, as it stands after `Authorization: Bearer`: `fc_<id>_<43 letters>`, of which the letters are 256 random bits.
/// [`fmt::Debug`] does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes one of these random bytes.
    pub fn new(id: &KeyId, random: [u8; 32]) -> Self {
        Self(format!("fc_{id}_{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The secret itself, to show once or to send.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the keys file has of it.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Reads a file that holds a secret and nothing else but white space around it; the error completes "`path` ...".
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|why| format!("cannot be read: {why}"))?;
    let secret = text.trim();
    let is_one = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(Secret(secret.to_owned())) } else { Err("does not hold one secret".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_key_and_is_not_shown() {
        let secret = Secret::new(&KeyId::new("bidder-1").unwrap(), [7; 32]);
        let letters = secret.expose().strip_prefix("fc_bidder-1_").unwrap();
        assert_eq!(letters.len(), 43);
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(secret.digest().is(&Digest::of(secret.expose().as_bytes())));
    }
}
