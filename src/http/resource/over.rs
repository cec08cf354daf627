//! `GET /over` and `GET /over/summary`: events that were counted although a rule had capped their key.

use crate::api::{OverAnswer, OverEntry, OverSummary};
use crate::http::app::App;
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::route::{Answer, Call};
use crate::service::OverError;
use crate::store::Room;
use std::sync::Arc;

/// The most events of an answer.
const EVENTS_MAX: usize = 1_000;
/// Bytes of an entry beyond its texts, which are user and key.
const ENTRY: usize = size_of::<OverEntry>() + 256;

impl From<OverError> for Problem {
    fn from(error: OverError) -> Self {
        match error {
            OverError::Cursor => Self::unprocessable("invalid_cursor", error.to_string()),
            OverError::Store(_) => {
                tracing::error!(%error, "what was over cannot be read");
                Self::internal()
            }
        }
    }
}

/// Events that were over, the newest first
///
/// An event is over when an enforced rule of its kind had capped one of its keys at its time, before it. Each is there once,
/// under the rule that capped for longest, with one cause; for 35 days, the newest 1,000,000.
#[utoipa::path(
    get,
    path = "/over",
    operation_id = "listOver",
    tag = "operation",
    params(query::OverParams),
    responses(
        (status = 200, description = "A page of events; a page may be short, or empty, before the end", body = OverAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The cause, the instant, the limit or the cursor is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, call: &mut Call) -> Answer {
    let asked = query::over(call.query(), EVENTS_MAX)?;
    let (over, mut room) = (app.services.over.clone(), app.admission.read_budget());
    let Some(_permit) = app.services.over.enter() else { return Err(Problem::overloaded("reports")) };
    let read = move || {
        let (events, next) = over.page(&asked)?;
        let texts = |entry: &OverEntry| ENTRY + 2 * (entry.user.len() + entry.key.len());
        if !room.take(events.iter().map(texts).sum()) {
            return Err(room.refusal());
        }
        Pieces::json(&OverAnswer { events, cursor: next.map(|next| next.to_string()) }, room)
    };
    app.background.spawn_blocking(read).await.map_err(|_| Problem::internal())?
}

/// How many of the counted events were over
#[utoipa::path(
    get,
    path = "/over/summary",
    operation_id = "summarizeOver",
    tag = "operation",
    params(query::OverSummaryParams),
    responses(
        (status = 200, description = "Counts, by what was asked for", body = OverSummary),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The instant, or what it is by, is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn summary(app: &Arc<App>, call: &mut Call) -> Answer {
    let (since, by) = query::over_summary(call.query())?;
    let (over, room) = (app.services.over.clone(), app.admission.read_budget());
    let Some(_permit) = app.services.over.enter() else { return Err(Problem::overloaded("reports")) };
    let read = move || Pieces::json(&over.summary(since, by).map_err(OverError::from)?, room);
    app.background.spawn_blocking(read).await.map_err(|_| Problem::internal())?
}
