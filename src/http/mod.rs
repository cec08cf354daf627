//! The HTTP interface: a file a resource.

mod admission;
mod app;
mod body;
mod cap;
mod check;
mod connections;
mod error_codes;
mod events;
mod figures;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod leftover;
mod ops;
mod pieces;
mod problem;
mod process;
mod query;
mod reserve;
mod rules;
mod schema;
mod server;
mod status;
mod stream;
mod users;

pub use app::{App, AppParts, Limits, openapi_json};
pub use error_codes::{ERROR_CODES, ErrorCode};
pub use figures::describe as describe_metrics;
pub use front::Front;
pub use ops::{BackFill, Readiness};
pub use process::metrics as process_metrics;
pub use server::{ServerOptions, serve};
pub use status::StatusBoard;
