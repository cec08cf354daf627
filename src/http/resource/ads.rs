//! `/ads`: the catalogue, which keys an ad has besides its own.

use crate::api::{Ad, AdAnswer, AdBody, AdLine, AdLines, AdsAnswer, AdsChanged, BackfillProgress};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pieces::Pieces;
use crate::http::precondition::{expect, is_known};
use crate::http::problem::{Problem, json};
use crate::http::query;
use crate::http::route::{Answer, Call};
use crate::model::DaId;
use crate::service::AdView;
use crate::store::Room;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

/// The most ads of a page.
const PAGE_MAX: usize = 1_000;

impl From<AdView> for AdAnswer {
    fn from(AdView { da, row, backfill }: AdView) -> Self {
        let backfill = backfill.map(|(done, total)| BackfillProgress { done, total });
        Self { da, keys: row.keys, name: row.name, backfill }
    }
}

fn bytes_of(view: &AdView) -> usize {
    let texts = view.da.len() + view.row.name.as_ref().map_or(0, String::len);
    size_of::<AdView>() + 2 * (texts + view.row.keys.iter().map(|key| key.len() + size_of::<String>()).sum::<usize>())
}

/// Ads of the catalogue, by ad
#[utoipa::path(
    get,
    path = "/ads",
    operation_id = "listAds",
    tag = "ads",
    params(query::AdsParams),
    responses(
        (status = 200, description = "A page of all ads, or of those with a key", body = AdsAnswer),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The key, the limit or the cursor is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn list(app: &Arc<App>, call: &mut Call) -> Answer {
    let query::AdsQuery { key, after, limit } = query::ads(call.query(), PAGE_MAX)?;
    let mut room = app.admission.read_budget();
    let (page, more) = app.services.ads.page(key, after, limit).await?;
    if !room.take(page.iter().map(bytes_of).sum()) {
        return Err(room.refusal());
    }
    let cursor = page.last().filter(|_| more).map(|last| last.da.clone());
    Pieces::json(&AdsAnswer { ads: page.into_iter().map(AdAnswer::from).collect(), cursor }, room)
}

/// One ad of the catalogue
#[utoipa::path(
    get,
    path = "/ads/{da}",
    operation_id = "getAd",
    tag = "ads",
    params(
        ("da" = String, Path, description = "Ad id, percent-encoded", example = "77"),
        ("If-None-Match" = Option<String>, Header, description = "Versions that the caller has"),
    ),
    responses(
        (status = 200, description = "The ad, and in `ETag` its version", body = AdAnswer),
        (status = 304, description = "The caller has this version"),
        (status = 400, description = "Not percent-encoded UTF-8", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The catalogue does not have it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    let da = da_of_path(call.path())?;
    let view = app.services.ads.get(da).await?;
    let status = if is_known(&call.parts.headers, &view.etag()) { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    Ok(with_etag(status, view))
}

/// Make or change an ad
///
/// The keys are counted for every later event of the ad, and judged with every later candidate, besides those that the call
/// names. What was counted before stays where it was counted. `If-Match` with the `ETag` of an earlier answer refuses to overwrite
/// what somebody else has changed since; `If-None-Match: *` only makes a new one.
#[utoipa::path(
    put,
    path = "/ads/{da}",
    operation_id = "putAd",
    tag = "ads",
    params(
        ("da" = String, Path, description = "Ad id, percent-encoded", example = "77"),
        ("If-Match" = Option<String>, Header, description = "Versions that may be changed, or `*` for any"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet"),
        ("backfill" = Option<bool>, Query, description = "Whether held events of the ad are counted under its keys, too, in the background; none is counted twice"),
    ),
    request_body(content = AdBody, content_type = "application/json"),
    responses(
        (status = 200, description = "It was changed, or was like this already", body = AdAnswer),
        (status = 201, description = "It is new", body = AdAnswer),
        (status = 400, description = "The body is no JSON, or a precondition that is none", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing, unknown or invalid, or there are too many ads", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn put(app: &Arc<App>, call: &mut Call) -> Answer {
    let (da, expect) = (da_of_path(call.path())?, expect(&call.parts.headers)?);
    let backfill = query::flag(call.query(), "backfill", false)?;
    let body = body::read_json(app, call).await?;
    let Parsed { value: ad, _budget } = if body.is_large() {
        body.parse_in_background(app, move |text| Ad::read(&da, text)).await?
    } else {
        Parsed { value: Ad::read(&da, body.text()?)?, _budget: body.budget }
    };
    let ads = &app.services.ads;
    ads.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    let (is_new, view) = ads.put(key, ad, expect, backfill).await?;
    Ok(with_etag(if is_new { StatusCode::CREATED } else { StatusCode::OK }, view))
}

/// Make or change many ads
///
/// NDJSON, an ad a line, at most 10,000. A bad line rejects itself alone; all others come into force at once, in one write. With
/// `replace=true` every ad that no line names is removed in the same write; one whose line is bad stays as it is.
#[utoipa::path(
    put,
    path = "/ads",
    operation_id = "putAds",
    tag = "ads",
    params(
        ("replace" = Option<bool>, Query, description = "Whether ads that no line names are removed"),
        ("backfill" = Option<bool>, Query, description = "Whether held events of the ads are counted under their keys, too, in the background; none is counted twice"),
    ),
    request_body(content = AdLine, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "How many of each", body = AdsChanged),
        (status = 400, description = "The body cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 10,000 lines, or than 1 MiB; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`replace` is invalid, or there would be too many ads", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too busy, or writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn put_many(app: &Arc<App>, call: &mut Call) -> Answer {
    let replace = query::flag(call.query(), "replace", false)?;
    let backfill = query::flag(call.query(), "backfill", false)?;
    let Parsed { value: lines, _budget } = body::read_lines(app, call, AdLines::read).await?;
    let ads = &app.services.ads;
    ads.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    Ok(json(&ads.put_many(key, lines, replace, backfill).await?))
}

/// Remove an ad
///
/// Later events of it are counted under its own key, and those that they name. What was counted stays.
#[utoipa::path(
    delete,
    path = "/ads/{da}",
    operation_id = "deleteAd",
    tag = "ads",
    params(
        ("da" = String, Path, description = "Ad id, percent-encoded", example = "77"),
        ("If-Match" = Option<String>, Header, description = "Versions that may be removed, or `*` for any"),
    ),
    responses(
        (status = 204, description = "It is removed"),
        (status = 400, description = "Not percent-encoded UTF-8, or a precondition that is none", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The catalogue does not have it", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The precondition does not hold; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The id is invalid", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn delete(app: &Arc<App>, call: &mut Call) -> Answer {
    let (da, expect) = (da_of_path(call.path())?, expect(&call.parts.headers)?);
    let ads = &app.services.ads;
    ads.accepts_changes()?;
    let _permit = call.route.admit(app)?;
    let key = call.caller.key_id().map(str::to_owned);
    ads.delete(key, da, expect).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn da_of_path(path: &str) -> Result<DaId<'static>, Problem> {
    query::da(query::segments(path)?.into_iter().next().unwrap_or_default())
}

fn with_etag(status: StatusCode, view: AdView) -> Response {
    let etag = HeaderValue::from_str(&view.etag());
    let mut response = match status {
        StatusCode::NOT_MODIFIED => status.into_response(),
        _ => json(&AdAnswer::from(view)),
    };
    *response.status_mut() = status;
    if let Ok(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
