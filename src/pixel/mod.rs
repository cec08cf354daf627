//! Signed pixels: URLs that count one event each, and that nobody can make or change who does not have a key.
//!
//! `/i.gif?e=E&s=S`: E is what counts, in JSON and base64url; S is the first half of its HMAC-SHA256, in base64url. Exchanges and
//! players replace macros after the URL was signed, so nothing that they write may decide what is counted: but for the instant,
//! which is only believed between the signing and now.

mod instant;
mod options;
mod signer;
mod token;

pub use instant::{is_macro, ts_of};
pub use options::{PixelKeys, SettingFlags, Settings};
pub use signer::{PixelError, Signer};
pub use token::{TOKEN_MAX, TTL_MAX_MS, Token, TokenError};
