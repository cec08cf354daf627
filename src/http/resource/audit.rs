//! `GET /audit`: who changed what, and when.

use crate::api::{AuditAnswer, AuditLine};
use crate::http::app::App;
use crate::http::pieces::Pieces;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::route::{Answer, Call};
use crate::service::UnitAuditRow;
use crate::store::Room;
use std::sync::Arc;

/// The most lines of an answer.
const LINES_MAX: usize = 1_000;

/// Who changed what, the newest first
///
/// Changes of rules and keys, erasures and snapshots, the last 10,000. A line of an erasure does not name the user: it has the
/// keyed hash that the tombstone has.
#[utoipa::path(
    get,
    path = "/audit",
    operation_id = "listAudit",
    tag = "operation",
    params(query::AuditParams),
    responses(
        (status = 200, description = "Lines of the audit", body = AuditAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The limit, the cursor or the instant is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, call: &mut Call) -> Answer {
    let query::AuditQuery { after, since, limit } = query::audit(call.query(), LINES_MAX)?;
    let (audit, mut room) = (app.services.audit.clone(), app.admission.read_budget());
    let read = move || {
        let (rows, cursor) = audit.page(after.as_ref(), since, limit)?;
        if !room.take(rows.iter().map(|row| 2 * row.row.line.len() + size_of::<AuditLine>()).sum()) {
            return Err(room.refusal());
        }
        let entries = rows.into_iter().map(|UnitAuditRow { row, unit }| AuditLine::new(&row, unit)).collect();
        Pieces::json(&AuditAnswer { entries, cursor: cursor.map(|cursor| cursor.to_string()) }, room)
    };
    app.background.spawn_blocking(read).await.map_err(|_| Problem::internal())?
}
