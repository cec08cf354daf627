//! `GET /users/{user}/caps`, `GET` and `DELETE /users/{user}`: what is held about a user, and its erasure.

use crate::api::{CallAnswer, Logs, Receipt, UserAnswer, UserCap, UserCaps};
use crate::http::app::App;
use crate::http::pieces::Pieces;
use crate::http::problem::{Problem, json};
use crate::http::query::{self, PageParams};
use crate::http::read_budget::ReadBudget;
use crate::http::route::{Answer, Call};
use crate::model;
use crate::shard::UserPage;
use std::io::Write;
use std::sync::Arc;

/// Maximum logs and calls of a page.
const PAGE_MAX: usize = 1_000;

/// The answer to [`get_caps`] that is being written.
struct CapsAnswer {
    pieces: Pieces,
    is_empty: bool,
}

impl CapsAnswer {
    fn add(&mut self, cap: &model::UserCap) -> bool {
        let comma: &[u8] = if std::mem::take(&mut self.is_empty) { b"" } else { b"," };
        self.pieces.write_all(comma).is_ok() && serde_json::to_writer(&mut self.pieces, &UserCap::from(cap)).is_ok()
    }
}

/// Every key capped now for a user
#[utoipa::path(
    get,
    path = "/users/{user}/caps",
    operation_id = "listUserCaps",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 200, description = "The capped keys, with until when and by which rule; none of an unknown user", body = UserCaps),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid, or the answer takes more memory than all reads may have", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get_caps(app: &Arc<App>, call: &mut Call) -> Answer {
    let user = query::user_of_path(call.path())?;
    let mut pieces = Pieces::new(app.admission.read_budget());
    write_head(&mut pieces, user.as_str()).ok_or_else(|| pieces.budget.refusal())?;
    let answer = CapsAnswer { pieces, is_empty: true };
    let (CapsAnswer { mut pieces, .. }, has_room) = app.services.users.caps(&user, answer, CapsAnswer::add).await?;
    if !has_room {
        return Err(pieces.budget.refusal());
    }
    pieces.write_all(b"]}").map_err(|_| pieces.budget.refusal())?;
    Ok(pieces.into_response())
}

fn write_head(pieces: &mut Pieces, user: &str) -> Option<()> {
    pieces.write_all(b"{\"user\":").ok()?;
    serde_json::to_writer(&mut *pieces, user).ok()?;
    pieces.write_all(b",\"caps\":[").ok()
}

/// Everything that is held about a user
///
/// Each event with its time, and when it leaves the window of each rule that counts it: this also explains a cap.
#[utoipa::path(
    get,
    path = "/users/{user}",
    operation_id = "getUser",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1"), PageParams),
    responses(
        (status = 200, description = "A page of what is held; nothing of an unknown user", body = UserAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id, the limit or the cursor is invalid, or the page takes more memory than all reads may have", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    let user = query::user_of_path(call.path())?;
    let query = call.query();
    let (after, limit) = query::page(query, PAGE_MAX)?;
    let name = user.as_str().to_owned();
    let tell = move |mut page: UserPage, room: ReadBudget| {
        let mut logs = page.logs();
        let logs = Logs::new(&mut logs);
        let calls = page.calls.into_iter().map(CallAnswer::from).collect();
        let cursor = page.next.as_ref().map(query::cursor);
        Pieces::json(&UserAnswer { user: &name, logs, calls, cursor }, room)
    };
    app.services.users.page(&user, after, limit, app.admission.read_budget(), tell).await?
}

/// Erase a user
///
/// Removes logs, timers, reservations and, in the background, the entries in Redis. Who has very many keys is erased in steps; the
/// answer comes when all is erased, and from the first step on nobody sees what is left. What stays is a keyed hash of the user
/// and the instant, so that a replay cannot bring the user back.
#[utoipa::path(
    delete,
    path = "/users/{user}",
    operation_id = "eraseUser",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 200, description = "What was erased; nothing of an unknown user", body = Receipt),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused: nothing was erased, or what is left goes by itself, after a restart if need be", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn delete(app: &Arc<App>, call: &mut Call) -> Answer {
    let user = query::user_of_path(call.path())?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    let erasure = app.services.users.erase(key, &user).await?;
    Ok(json(&Receipt::new(user.as_str(), &erasure)))
}
