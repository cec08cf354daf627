//! Errors as RFC 9457 `application/problem+json`, each with a code that never changes.

use super::admission::answer_too_large;
use crate::input::Reject;
use crate::shard::{ReaderError, Refusal};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;

/// An error answer.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    #[schema(example = 422)]
    status: u16,
    /// Stable: what programs go by.
    #[schema(example = "ts_not_milliseconds")]
    code: &'static str,
    /// For people; may change.
    #[schema(example = "ts 1732233600 is not between 10^11 and 10^14, so it is not in milliseconds since 1970")]
    detail: Cow<'static, str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!(super::error_codes::is_listed(code), "{code} is not in error_codes.rs");
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
        }
    }

    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something failed here; the service's log says what")
    }

    /// The same problem with more members beside its own.
    pub fn with<T: Serialize>(self, more: T) -> ProblemWith<T> {
        ProblemWith { problem: self, more }
    }

    fn respond(status: u16, body: &impl Serialize) -> Response {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Serialising plain structs to memory cannot fail.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Reject> for Problem {
    fn from(Reject { code, detail }: Reject) -> Self {
        if code == Reject::INVALID_JSON { Self::bad_request(code, detail) } else { Self::unprocessable(code, detail) }
    }
}

/// The code of a refusal.
pub(super) fn refusal_code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Busy => "overloaded",
        Refusal::Poisoned => "store_failed",
        Refusal::DiskFull => "disk_full",
        Refusal::RowUnreadable => crate::shard::ROW_UNREADABLE,
        Refusal::ReadFailed => "store_read_failed",
        Refusal::ClockNotBelieved => "clock_not_believed",
        Refusal::Stopping => "stopping",
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::unavailable(refusal_code(refusal), refusal.to_string())
    }
}

impl From<ReaderError> for Problem {
    fn from(error: ReaderError) -> Self {
        if let ReaderError::Store(error) = &error
            && error.is_unreadable()
        {
            return Refusal::RowUnreadable.into();
        }
        match error {
            ReaderError::Busy => Self::unavailable("overloaded", "too many reads wait for the disk; try again shortly"),
            ReaderError::TooLarge => answer_too_large(),
            ReaderError::NoRoom => Self::unavailable("overloaded", "too many reads are under way; try again shortly"),
            error => {
                tracing::error!(%error, "a read failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Self::respond(self.status, &self)
    }
}

/// A problem with members of its own beside the standard ones.
#[derive(Debug, Serialize)]
pub struct ProblemWith<T> {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    more: T,
}

impl<T: Serialize> IntoResponse for ProblemWith<T> {
    fn into_response(self) -> Response {
        Problem::respond(self.problem.status, &self)
    }
}

/// What a handler answers, or the problem that kept it from it.
pub(super) fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::into_response)
}

/// A 200 with a body that is JSON already.
pub(super) fn json_bytes(body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A 200 with a JSON body.
pub fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_bytes(body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Problem::internal().into_response()
        }
    }
}
