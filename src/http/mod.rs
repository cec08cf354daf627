//! The HTTP interface. A request goes from `server` to `http_service`, by `routes` to a handler in `resource/`, and from there
//! to `crate::service`.

mod access;
mod admission;
mod app;
mod body;
mod body_budget;
mod connections;
mod drain_body;
mod error_codes;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gate;
mod http_service;
mod limits;
mod openapi;
mod pieces;
mod problem;
mod query;
mod read_budget;
mod resource;
mod route;
mod routes;
mod server;
mod starting;
mod stream;
mod tls;
mod ui;

pub use app::App;
pub use error_codes::{ERROR_CODES, ErrorCode};
pub use gate::Gate;
pub use http_service::HttpService;
pub use limits::{Limits, ServerOptions, SettingFlags, Settings};
// For benches/instructions.rs, which measures it alone.
#[doc(hidden)]
pub use pieces::answer_bytes;
pub use routes::openapi_json;
pub use server::serve;
pub use starting::{StartProgress, StartStep, Starter, serve_starting};
pub use tls::{Tls, TlsError, TlsFiles, describe_metrics as describe_tls_metrics};
