//! What every request goes through: measured, bounded in its header, and answered even where a handler panics.

use super::app::App;
use super::leftover;
use super::problem::Problem;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use metrics::{counter, histogram};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Counts and times requests by route and status.
pub(super) async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (request, leftover) = leftover::lend(request);
    let response = match header_fits(&request, app.limits.max_header) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    leftover.discard().await;
    let route = route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
    let status = response.status();
    counter!("freqcap_http_requests_total", "route" => route.clone(), "status" => status.as_str().to_owned())
        .increment(1);
    histogram!("freqcap_http_request_seconds", "route" => route).record(start.elapsed().as_secs_f64());
    response
}

fn header_fits(request: &Request, most: usize) -> Result<(), Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if target + headers > most {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let detail = format!("the request line and header have more than {most} bytes");
        return Err(Problem::new(status, "header_too_large", detail));
    }
    Ok(())
}

/// Answers for a handler that panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> http::Response<Body> {
    let what = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = what.unwrap_or("not a text"), "a handler panicked");
    Problem::internal().into_response()
}

pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such resource; /docs tells what there is")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "the resource does not have this method; see /docs",
    )
}
