//! Signs pixels, and tells those that it signed from all others.

use super::options::PixelKeys;
use super::token::{TOKEN_MAX, Token, TokenError, kid_of};
use crate::model::TsMs;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::{self, HMAC_SHA256};
use std::fmt;
use subtle::ConstantTimeEq;

/// Bytes of a signature: the first half of the HMAC.
const SIGNATURE: usize = 16;
/// What the path and query of a pixel begin with.
const PATH: &str = "/i.gif?e=";

/// The keys of pixels.
pub struct Signer {
    /// The first one signs.
    keys: Vec<(String, hmac::Key)>,
}

/// Why a pixel does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum PixelError {
    #[error("e is missing or longer than {TOKEN_MAX} bytes")]
    Length,
    #[error("e is not base64url of a JSON text")]
    Encoding,
    #[error("e was not signed with a key that is known here")]
    UnknownKey,
    #[error("s is not the signature of e")]
    Signature,
    #[error("e was signed, but cannot be counted: {0}")]
    Token(TokenError),
    #[error("the pixel has expired")]
    Expired,
}

impl Signer {
    /// Of some keys; without any it signs nothing and knows nothing.
    pub fn new(keys: &PixelKeys) -> Self {
        let key = |(kid, secret): &(String, String)| (kid.clone(), hmac::Key::new(HMAC_SHA256, secret.as_bytes()));
        Self { keys: keys.pairs().iter().map(key).collect() }
    }

    /// Whether there is a key to sign with.
    pub fn can_sign(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The path and query of a pixel. `None` without a key, or where the URL would be too long.
    pub fn sign(&self, token: &Token<'_>) -> Option<String> {
        let (kid, key) = self.keys.first()?;
        token.check().ok()?;
        let e = URL_SAFE_NO_PAD.encode(token.to_json(kid));
        if e.len() > TOKEN_MAX {
            return None;
        }
        let signature = hmac::sign(key, e.as_bytes());
        let s = URL_SAFE_NO_PAD.encode(&signature.as_ref()[..SIGNATURE]);
        Some(format!("{PATH}{e}&s={s}"))
    }

    /// What a pixel counts, if it was signed with one of the keys and has not expired. `json` is where it is put.
    pub fn verify<'j>(&self, e: &str, s: &str, now: TsMs, json: &'j mut String) -> Result<Token<'j>, PixelError> {
        if e.is_empty() || e.len() > TOKEN_MAX {
            return Err(PixelError::Length);
        }
        let bytes = URL_SAFE_NO_PAD.decode(e).map_err(|_| PixelError::Encoding)?;
        *json = String::from_utf8(bytes).map_err(|_| PixelError::Encoding)?;
        let kid = kid_of(json).map_err(|_| PixelError::UnknownKey)?;
        let (_, key) = self.keys.iter().find(|(known, _)| *known == kid).ok_or(PixelError::UnknownKey)?;
        let given = URL_SAFE_NO_PAD.decode(s).map_err(|_| PixelError::Signature)?;
        let right = hmac::sign(key, e.as_bytes());
        // Of another length it is never equal.
        if !bool::from(right.as_ref()[..SIGNATURE].ct_eq(&given)) {
            return Err(PixelError::Signature);
        }
        let token = Token::read(json).map_err(PixelError::Token)?;
        if token.exp <= now { Err(PixelError::Expired) } else { Ok(token) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(kid, _)| kid)).finish()
    }
}

#[cfg(test)]
mod tests;
