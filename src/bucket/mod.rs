//! A bucket: where objects are kept by name, in S3, Google Cloud Storage, Azure or a directory.
//!
//! What the rest of the house asks of it: put, create only if absent, get, list, delete, and what time it is there. Every
//! call is bounded in time and tried again a bounded number of times; every error says by its [`Cause`] what to do.
//! Credentials come from the providers' usual environment and are never printed.

#[allow(clippy::module_inception)]
mod bucket;
mod error;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod probe;
mod providers;
#[cfg(test)]
mod tests;
mod url;

pub use bucket::{Bucket, Created, Object};
pub use error::{BucketError, Cause};
pub use probe::{BucketClock, ProbeError, probe};
pub use providers::{Access, open};
pub use url::{BucketUrl, Scheme, UrlError};
