//! Who may do what: keys with scopes, read from a file that is watched.
//!
//! A key is a secret of 256 random bits. The file holds its SHA-256 alone, so who reads the file cannot call with it. A fast
//! hash is right for such a secret: nobody guesses it.

mod digest;
mod expiry;
mod hosts;
mod key;
mod key_file;
mod keyring;
mod keys;
mod metrics;
mod noted_keys;
mod options;
mod scope;
mod secret;
mod watch;

pub use digest::Digest;
pub use hosts::{Hosts, HostsError};
pub use key::{Key, KeyId, KeyIdError};
pub use key_file::KeyFileError;
pub use keyring::{Keyring, KeyringError, Reloaded};
pub use keys::{Keys, KeysDiff};
pub use metrics::describe as describe_metrics;
pub use noted_keys::NotedKeys;
pub use options::{SettingFlags, Settings};
pub use scope::{Scope, Scopes, UnknownScope};
pub use secret::{Secret, read_secret};
pub use watch::{Unreadable, WatchedFiles};
