//! The HTTP interface: a file a resource.

mod admission;
mod app;
mod body;
mod cap;
mod check;
mod events;
mod front;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod leftover;
mod ops;
mod problem;
mod query;
mod reserve;
mod rules;
mod schema;
mod server;
mod users;

pub use app::{App, Limits, openapi_json};
pub use front::Front;
pub use ops::{BackFill, Readiness};
pub use server::{ServerOptions, serve};
