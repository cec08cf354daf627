//! The use cases: what a call means, without what it travels in.

pub(crate) mod figures;
pub(crate) mod process;
mod readiness;
mod status_board;

pub use figures::describe as describe_metrics;
pub use process::metrics as process_metrics;
pub use readiness::{BackFill, Readiness};
pub use status_board::StatusBoard;
