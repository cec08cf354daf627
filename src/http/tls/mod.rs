//! TLS: certificates from files that are watched, and streams that are encrypted or not.

mod certificate;
mod files;
mod frames;
mod transport;

pub use certificate::TlsError;
pub(super) use certificate::names_of;
pub use files::{Tls, TlsFiles, describe_metrics};
pub(super) use frames::FrameWatch;
pub(super) use transport::Transport;
