//! Error answers: RFC 9457 `application/problem+json`, each with a code that never changes. The errors of all lower modules
//! are mapped to problems here.

use crate::api::RuleReject;
use crate::auth::Scope;
use crate::input::{BodyError, Reject, TooManyLines};
use crate::model::RuleError;
use crate::service::{
    AdsError, AuditError, BackFill, BatchError, ChangeError, CountError, ErasuresError, NotReady, OptOutError,
    PixelOff, ReserveError, SnapshotsError, TryError, Unhealthy,
};
use crate::shard::{BUCKET_UNAVAILABLE, ReaderError, Refusal, RulebookError, SurveyBusy, TOO_MANY_KINDS};
use crate::snapshot::SnapshotError;
use crate::store::StoreError;
use crate::stream::{FilterError, OpenStreamError};
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
    /// Of `forbidden` alone: the scope that the key has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "rules:write")]
    scope: Option<&'static str>,
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
            scope: None,
        }
    }

    /// Nobody who is known called.
    pub fn unauthenticated(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// The key has not the scope.
    pub fn forbidden(key: &str, scope: Scope) -> Self {
        let detail = format!("the key {key:?} has not the scope `{}`", scope.name());
        let forbidden = Self::new(StatusCode::FORBIDDEN, "forbidden", detail);
        Self { scope: Some(scope.name()), ..forbidden }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
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

    /// Too many of something are under way.
    pub fn overloaded(what: &str) -> Self {
        Self::unavailable("overloaded", format!("too many {what} are under way; try again shortly"))
    }

    /// More memory is wanted than there is for all reads, so it does not help to ask again.
    pub fn answer_too_large() -> Self {
        let detail = "the answer takes more memory than all reads may have (--read-memory): ask for less at once";
        Self::unprocessable("answer_too_large", detail)
    }

    /// Something could not be read from or written to the store.
    fn not_stored(what: &str, error: &StoreError) -> Self {
        if *error == StoreError::NotInBucket {
            return Self::unavailable(BUCKET_UNAVAILABLE, error.to_string());
        }
        tracing::error!(%error, what, "the store could not be read or written");
        Self::unavailable("store_failed", error.to_string())
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
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Reject> for Problem {
    fn from(Reject { code, detail }: Reject) -> Self {
        if code == Reject::INVALID_JSON { Self::bad_request(code, detail) } else { Self::unprocessable(code, detail) }
    }
}

impl From<BatchError> for Problem {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Body(error) => error.into(),
            BatchError::NoRoom => Self::overloaded("bodies"),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::unavailable(refusal.code(), refusal.to_string())
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
            ReaderError::Overtaken => {
                Self::unavailable("overloaded", "what is read changes faster than it can be read; try again shortly")
            }
            ReaderError::Busy => Self::unavailable("overloaded", "too many reads wait for the disk; try again shortly"),
            ReaderError::TooLarge => Self::answer_too_large(),
            ReaderError::NoRoom => Self::overloaded("reads"),
            error => {
                tracing::error!(%error, "a read failed");
                Self::internal()
            }
        }
    }
}

impl From<RulebookError> for Problem {
    fn from(error: RulebookError) -> Self {
        let told = error.to_string();
        match error {
            RulebookError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "unknown_rule", told),
            RulebookError::FromFlags(_) => Self::new(StatusCode::CONFLICT, "rule_is_from_flags", told),
            RulebookError::FromFile(_) => Self::new(StatusCode::CONFLICT, "rule_is_from_file", told),
            RulebookError::Precondition => Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", told),
            RulebookError::TooMany => Self::unprocessable("too_many_rules", told),
            RulebookError::Rule(why) => why.into(),
            RulebookError::NotInBucket => Self::unavailable(BUCKET_UNAVAILABLE, told),
            RulebookError::Store(_) => {
                tracing::error!(error = told, "a rule could not be written");
                Self::unavailable("store_failed", told)
            }
            RulebookError::Stored { .. } | RulebookError::Unreadable { .. } => Self::internal(),
        }
    }
}

impl From<RuleError> for Problem {
    fn from(why: RuleError) -> Self {
        let code = match why {
            RuleError::Id => "invalid_rule_id",
            RuleError::LimitOutOfRange(_) => "limit_out_of_range",
            RuleError::ShadowExemption => "shadow_exemption",
        };
        Self::unprocessable(code, why.to_string())
    }
}

impl From<RuleReject> for Problem {
    fn from(reject: RuleReject) -> Self {
        match reject {
            RuleReject::Json(reject) => reject.into(),
            RuleReject::Rule(why) => why.into(),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Rulebook(error) => error.into(),
            ChangeError::Gone => Self::internal(),
        }
    }
}

impl From<SurveyBusy> for Problem {
    fn from(SurveyBusy: SurveyBusy) -> Self {
        Self::overloaded("questions about all users")
    }
}

impl From<TryError> for Problem {
    fn from(error: TryError) -> Self {
        match error {
            TryError::Rulebook(error) => error.into(),
            TryError::Busy(error) => error.into(),
        }
    }
}

impl From<AdsError> for Problem {
    fn from(error: AdsError) -> Self {
        let told = error.to_string();
        match error {
            AdsError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "unknown_ad", told),
            AdsError::Precondition => Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", told),
            AdsError::TooMany => Self::unprocessable("too_many_ads", told),
            AdsError::TooManyBackfills => Self::unavailable("too_many_backfills", told),
            AdsError::Store(error) => Self::not_stored("an ad", &error),
            AdsError::Gone => Self::internal(),
        }
    }
}

impl From<ErasuresError> for Problem {
    fn from(error: ErasuresError) -> Self {
        let told = error.to_string();
        match error {
            ErasuresError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "unknown_erasure", told),
            ErasuresError::TooMany => Self::unavailable("too_many_erasures", told),
            ErasuresError::Store(error) => Self::not_stored("an erasure", &error),
            ErasuresError::Gone => Self::internal(),
        }
    }
}

impl From<OptOutError> for Problem {
    fn from(error: OptOutError) -> Self {
        match error {
            OptOutError::Refused(refusal) => refusal.into(),
            OptOutError::Store(error) => Self::not_stored("an opt-out", &error),
            OptOutError::Gone => Self::internal(),
        }
    }
}

impl From<PixelOff> for Problem {
    fn from(why: PixelOff) -> Self {
        Self::new(StatusCode::CONFLICT, "pixel_off", why.to_string())
    }
}

impl From<TooManyLines> for Problem {
    fn from(why: TooManyLines) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_lines", why.to_string())
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        tracing::error!(%error, "the audit failed");
        match error {
            AuditError::NotWritten(_) => Self::unavailable("store_failed", error.to_string()),
            AuditError::Store(_) | AuditError::Gone => Self::internal(),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(why: BodyError) -> Self {
        match why {
            BodyError::NotJson { .. } => Self::bad_request("invalid_json", why.to_string()),
            BodyError::Scalar => Self::unprocessable("not_an_event", why.to_string()),
            BodyError::TooMany { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", format!("{why}; nothing was counted"))
            }
        }
    }
}

impl From<CountError> for Problem {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Rejected(reject) => reject.into(),
            CountError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<ReserveError> for Problem {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Refused(refusal) => refusal.into(),
            ReserveError::IdReused => Self::new(StatusCode::CONFLICT, "id_reused", error.to_string()),
            ReserveError::TooManyKinds => Self::unprocessable(TOO_MANY_KINDS, error.to_string()),
            ReserveError::TooLong => Self::unprocessable("too_many_candidates", error.to_string()),
            ReserveError::NoRoom => Self::unavailable("too_many_reservations", error.to_string()),
            ReserveError::NoId => Self::internal(),
        }
    }
}

impl From<Unhealthy> for Problem {
    fn from(why: Unhealthy) -> Self {
        Self::unavailable(why.code(), why.to_string())
    }
}

impl From<SnapshotsError> for Problem {
    fn from(error: SnapshotsError) -> Self {
        let told = error.to_string();
        match error {
            SnapshotsError::Off => Self::new(StatusCode::CONFLICT, "snapshots_off", told),
            SnapshotsError::Waiting(_) => Self::unavailable("snapshots_waiting", told),
            SnapshotsError::Busy => Self::overloaded("calls for snapshots"),
            SnapshotsError::Failed(error) if matches!(*error, SnapshotError::Busy) => {
                Self::overloaded("calls for snapshots")
            }
            SnapshotsError::Failed(error) => Self::unavailable(error.code(), told),
            SnapshotsError::Gone => Self::unavailable("stopping", told),
        }
    }
}

impl From<FilterError> for Problem {
    fn from(why: FilterError) -> Self {
        let code = match why {
            FilterError::Shards(_) => "invalid_shards",
            FilterError::Key(_) => "invalid_key",
            FilterError::TooManyKeys => "too_many_keys",
        };
        Self::unprocessable(code, why.to_string())
    }
}

impl From<OpenStreamError> for Problem {
    fn from(why: OpenStreamError) -> Self {
        let told = why.to_string();
        match why {
            OpenStreamError::TooMany(_) => Self::unavailable("too_many_streams", told),
            OpenStreamError::Cursor => Self::unprocessable("invalid_cursor", told),
            OpenStreamError::Stopping => Self::unavailable("stopping", told),
        }
    }
}

impl From<NotReady> for Problem {
    fn from(why: NotReady) -> Self {
        match why {
            NotReady::Stopping => Self::unavailable("stopping", "the service is stopping"),
            NotReady::Superseded => Refusal::Superseded.into(),
            NotReady::CatchingUp(BackFill { lag, stopped, .. }) => {
                let stopped = if stopped == 0 { String::new() } else { format!("; {stopped} partitions are not read") };
                let detail = format!("{lag} records of the topic are not counted yet{stopped}");
                Self::unavailable("kafka_catching_up", detail)
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
