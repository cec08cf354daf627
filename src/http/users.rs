//! What is known of one user, and how it is forgotten.

use super::admission::ReadRoom;
use super::app::App;
use super::pieces::Pieces;
use super::problem::{Problem, answer, json};
use super::query;
use crate::engine::Leave;
use crate::model::{Section, TsMs, UserCap, UserId};
use crate::shard::{Refusal, UserCall, UserEvent, UserLog, UserPage};
use axum::extract::{OriginalUri, RawQuery, State};
use axum::response::Response;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

const A_MILLISECOND: Duration = Duration::from_millis(1);
/// The most keys on a page.
const MOST: usize = 1_000;

// As documented; it is written as it is read.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
struct UserCaps<'a> {
    #[schema(example = "u1")]
    user: &'a str,
    /// By key.
    caps: Vec<UserCap>,
}

/// An answer to [`get_caps`] as it grows.
struct CapsAnswer {
    pieces: Pieces,
    is_empty: bool,
}

impl CapsAnswer {
    fn add(&mut self, cap: &UserCap) -> bool {
        let comma: &[u8] = if std::mem::take(&mut self.is_empty) { b"" } else { b"," };
        self.pieces.write_all(comma).is_ok() && serde_json::to_writer(&mut self.pieces, cap).is_ok()
    }
}

/// Every key capped now for a user
#[utoipa::path(
    get,
    path = "/users/{user}/caps",
    operation_id = "getUserCaps",
    tag = "users",
    params(("user" = String, Path, description = "User id, percent-encoded", example = "u1")),
    responses(
        (status = 200, description = "The capped keys, with until when and by which rule; none of an unknown user", body = UserCaps),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid, or the answer takes more memory than all reads may have", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_caps(State(app): State<Arc<App>>, uri: OriginalUri) -> Response {
    answer(caps(&app, query::user_of_path(uri.path())).await)
}

async fn caps(app: &App, user: Result<UserId<'static>, Problem>) -> Result<Response, Problem> {
    let user = user?;
    let mut pieces = Pieces::new(app.admission.read_room());
    let head = |pieces: &mut Pieces| {
        pieces.write_all(b"{\"user\":").ok()?;
        serde_json::to_writer(&mut *pieces, user.as_str()).ok()?;
        pieces.write_all(b",\"caps\":[").ok()
    };
    head(&mut pieces).ok_or_else(|| pieces.room.refusal())?;
    let answer = CapsAnswer { pieces, is_empty: true };
    let (CapsAnswer { mut pieces, .. }, has_room) = app.reader.user_caps(&user, answer, CapsAnswer::add).await?;
    if !has_room {
        return Err(pieces.room.refusal());
    }
    pieces.write_all(b"]}").map_err(|_| pieces.room.refusal())?;
    Ok(pieces.into_response())
}

/// What is held about a user, by key.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "user": "u1",
    "logs": [{"key": "da:77", "kinds": [{
        "kind": "impression", "lifetime": 2,
        "events": [
            {"ts": 1732233600000u64, "hash": "00c3f2a1b0d4e5f6", "leaves": [{"rule": "default", "at": 1732665600000u64}]},
            {"ts": 1732237200000u64, "hash": "9f86d081884c7d65", "expires_at": 1732237260000u64, "leaves": [{"rule": "default", "at": 1732237260000u64}]}
        ]
    }]}],
    "calls": [{"id": "req-9", "kind": "impression", "das": ["77"], "kept_until": 1732240860000u64}],
    "cursor": null
}))]
struct UserAnswer<'a> {
    user: &'a str,
    /// By key, those of ads first.
    #[schema(value_type = Vec<LogAnswer>)]
    logs: Logs<'a>,
    /// Calls of `/reserve` whose answers are kept, by id; after the last log.
    calls: Vec<CallAnswer>,
    /// Asks for the next page; null at the end.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct CallAnswer {
    #[schema(example = "req-9")]
    id: String,
    #[schema(value_type = String, example = "impression")]
    kind: crate::model::Kind,
    /// The ads that it reserved.
    das: Vec<String>,
    /// The same call gets the same answer until then.
    #[schema(value_type = u64)]
    kept_until: TsMs,
}

impl From<UserCall> for CallAnswer {
    fn from(UserCall { id, kind, das, kept_until }: UserCall) -> Self {
        Self { id, kind, das, kept_until }
    }
}

/// The logs of a page, each made and written after the other.
struct Logs<'a>(RefCell<&'a mut dyn Iterator<Item = UserLog>>);

impl Serialize for Logs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut logs = serializer.serialize_seq(None)?;
        for log in &mut **self.0.borrow_mut() {
            let kinds = log.sections().iter().map(|section| KindAnswer {
                kind: section.kind,
                lifetime: section.lifetime(),
                events: Events { log: &log, section },
            });
            logs.serialize_element(&LogAnswer { key: &log.key, kinds: kinds.collect() })?;
        }
        logs.end()
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct LogAnswer<'a> {
    #[schema(example = "da:77")]
    key: &'a str,
    kinds: Vec<KindAnswer<'a>>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct KindAnswer<'a> {
    #[schema(value_type = String, example = "impression")]
    kind: crate::model::Kind,
    /// Events counted since the log was made, kept or not.
    lifetime: u64,
    /// The newest `history_limit`, oldest first, and then the reservations.
    #[schema(value_type = Vec<HeldEvent>)]
    events: Events<'a>,
}

/// The events of a kind, each made and written after the other: with many rules they say much.
struct Events<'a> {
    log: &'a UserLog,
    section: &'a Section,
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.log.events(self.section).map(HeldEvent::from))
    }
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct HeldEvent {
    #[schema(value_type = u64)]
    ts: TsMs,
    /// 64 bits, in hex, of the ad and the event's id: all that is held of an id. Null where it had none.
    hash: Option<String>,
    /// Of a reservation: when it lapses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    expires_at: Option<TsMs>,
    /// When it leaves the window of each rule that counts it now.
    leaves: Vec<Leave>,
}

impl From<UserEvent> for HeldEvent {
    fn from(UserEvent { ts, hash, expires_at, leaves }: UserEvent) -> Self {
        Self { ts, hash: hash.map(|hash| format!("{hash:016x}")), expires_at, leaves }
    }
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
struct PageParams {
    /// The most logs and calls of an answer, 1 to 1,000; 100 without it. A page ends sooner where it has 10,000 events
    limit: Option<u32>,
    /// Where to go on: `cursor` of the answer before
    cursor: Option<String>,
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
pub(super) async fn get(State(app): State<Arc<App>>, uri: OriginalUri, RawQuery(raw): RawQuery) -> Response {
    answer(held(&app, query::user_of_path(uri.path()), raw.as_deref().unwrap_or_default()).await)
}

async fn held(app: &App, user: Result<UserId<'static>, Problem>, query: &str) -> Result<Response, Problem> {
    let user = user?;
    let (after, limit) = query::page(query, MOST)?;
    let name = user.as_str().to_owned();
    let tell = move |mut page: UserPage, room: ReadRoom| {
        let mut logs = page.logs();
        let logs = Logs(RefCell::new(&mut logs));
        let calls = page.calls.into_iter().map(CallAnswer::from).collect();
        let cursor = page.next.as_ref().map(query::cursor);
        Pieces::json(&UserAnswer { user: &name, logs, calls, cursor }, room)
    };
    app.reader.user(&user, after, limit, app.admission.read_room(), tell).await?
}

/// What was held of a user, and is held no longer.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Receipt<'a> {
    #[schema(example = "u1")]
    user: &'a str,
    /// An event with a time up to here is answered `erased` from now on, for at least 35 days.
    #[schema(value_type = u64, example = 1732233600000u64)]
    erased_until: TsMs,
    #[schema(example = 3)]
    logs: u64,
    /// In the logs of ads.
    #[schema(example = 7)]
    events: u64,
    /// Under way, of ads.
    reservations: u64,
    /// Answers of `/reserve` that were kept.
    calls: u64,
    #[schema(example = 1)]
    caps: u64,
    /// How often something of the user could not be read: it was erased all the same, and is not in the counts. Only where it
    /// was so.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Erase a user
///
/// Removes logs, timers, reservations and, in the background, the entries in Redis. What stays is a keyed hash of the user
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
        (status = 503, description = "Too busy, or writes are refused; nothing was erased", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(State(app): State<Arc<App>>, uri: OriginalUri) -> Response {
    answer(erase(&app, query::user_of_path(uri.path())).await)
}

async fn erase(app: &App, user: Result<UserId<'static>, Problem>) -> Result<Response, Problem> {
    let user = user?;
    let _permit = app.admission.write().ok_or(Refusal::Busy)?;
    let erasure = app.router.erase(&user).await?;
    // An event without a time of its own that comes after the answer is a new one: it must not be of the same millisecond.
    if erasure.until == app.reader.clock().now() {
        tokio::time::sleep(A_MILLISECOND).await;
    }
    Ok(json(&Receipt {
        user: user.as_str(),
        erased_until: erasure.until,
        logs: erasure.logs,
        events: erasure.events,
        reservations: erasure.reservations,
        calls: erasure.calls,
        caps: erasure.caps,
        unreadable: erasure.unreadable,
    }))
}
