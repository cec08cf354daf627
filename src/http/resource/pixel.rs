//! `/i.gif`: a pixel that counts what is signed in its URL; and `POST /sign`, which makes such URLs.

use crate::api::{SignAnswer, SignBody};
use crate::http::app::App;
use crate::http::body::{self, Parsed};
use crate::http::pixel_query::{self, PixelParams, PixelQuery};
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call, Route};
use crate::pixel::PixelError;
use crate::service::{CountError, PixelCall};
use crate::shard::Refusal;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::sync::Arc;

/// A transparent image of one pixel.
const GIF: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// The field that says what became of a pixel.
const RESULT: &str = "freqcap-result";

/// What every answer to a pixel has: nobody keeps it, and any page may ask for it.
fn headers() -> [(HeaderName, HeaderValue); 5] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache, must-revalidate, max-age=0")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
        (header::EXPIRES, HeaderValue::from_static("0")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
    ]
}

/// Count a pixel
///
/// `e` and `s` are as `POST /sign` makes them, or an ad server with a key of its own. A URL counts once, however often it is called.
/// The answer comes once the event is durable. With `f=i` it is always an image; what became of it says the field
/// `freqcap-result`: `counted`, `duplicate`, `late`, `erased`, `ignored`, `opted_out`, `bad_signature`, `expired`,
/// `rejected` or `busy`. Macros that nobody replaced (`${..}`, `[..]`, `{..}`, `%%..%%`, `AUDIT`) are as absent.
#[utoipa::path(
    get,
    path = "/i.gif",
    operation_id = "countPixel",
    tag = "events",
    params(PixelParams),
    responses(
        (status = 200, description = "An image of one pixel, 43 bytes", content_type = "image/gif", body = String),
        (status = 204, description = "With `f=b`: what became of it says `freqcap-result`"),
        (status = 401, description = "With `f=b`: `bad_signature`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "With `f=b`: `expired`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "With `f=b`: a log has as many kinds as it may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "With `f=b`: too busy, or writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn get(app: &Arc<App>, call: &mut Call) -> Answer {
    Ok(count(app, call.route, call.query()).await)
}

/// Count a pixel by a beacon
///
/// As `GET /i.gif`, for `navigator.sendBeacon`. The body is ignored.
#[utoipa::path(
    post,
    path = "/i.gif",
    operation_id = "countPixelByBeacon",
    tag = "events",
    params(PixelParams),
    responses(
        (status = 200, description = "An image of one pixel, 43 bytes", content_type = "image/gif", body = String),
        (status = 204, description = "With `f=b`: what became of it says `freqcap-result`"),
        (status = 401, description = "With `f=b`: `bad_signature`", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "With `f=b`: `expired`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "With `f=b`: a log has as many kinds as it may", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "With `f=b`: too busy, or writes are refused", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn post(app: &Arc<App>, call: &mut Call) -> Answer {
    Ok(count(app, call.route, call.query()).await)
}

/// What a page of another origin may do
#[utoipa::path(
    options,
    path = "/i.gif",
    operation_id = "pixelOptions",
    tag = "events",
    responses(
        (status = 204, description = "GET and POST, from any origin"),
        (status = 404, description = "There is no such resource", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn options(_app: &Arc<App>, _call: &mut Call) -> Answer {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let fields = response.headers_mut();
    fields.extend(headers());
    fields.insert(header::ALLOW, HeaderValue::from_static("GET, POST, OPTIONS"));
    fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    Ok(response)
}

async fn count(app: &App, route: &Route, query: &str) -> Response {
    let query = pixel_query::read(query);
    let counted = count_event(app, route, &query).await;
    let result = match &counted {
        Ok(result) => *result,
        Err(refused) => refused.result,
    };
    app.services.pixels.count(result, query.macros);
    let mut response = match counted {
        Err(Refused { problem, .. }) if query.is_notice => problem.into_response(),
        Ok(_) if query.is_notice => StatusCode::NO_CONTENT.into_response(),
        // A broken image on a page is worse than anything that could be told.
        _ => image(),
    };
    let fields = response.headers_mut();
    fields.extend(headers());
    fields.insert(RESULT, HeaderValue::from_static(result));
    response
}

fn image() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(GIF)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    response
}

/// Why a pixel was not counted.
struct Refused {
    /// As `freqcap-result` has it.
    result: &'static str,
    problem: Problem,
}

impl From<PixelError> for Refused {
    fn from(why: PixelError) -> Self {
        let told = why.to_string();
        match why {
            PixelError::Expired => Self { result: "expired", problem: Problem::new(StatusCode::GONE, "expired", told) },
            _ => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "bad_signature", told);
                Self { result: "bad_signature", problem }
            }
        }
    }
}

impl From<CountError> for Refused {
    fn from(why: CountError) -> Self {
        let result = match why {
            CountError::Rejected(_) => "rejected",
            CountError::Refused(_) => "busy",
        };
        Self { result, problem: why.into() }
    }
}

async fn count_event(app: &App, route: &Route, query: &PixelQuery<'_>) -> Result<&'static str, Refused> {
    let PixelQuery { e, s, t, .. } = query;
    let mut json = String::new();
    let event = app.services.pixels.event(PixelCall { e, s, t: t.as_deref() }, &mut json)?;
    let counting = &app.services.counting;
    let Ok(_permit) = route.admit(app) else { return Err(counting.refuse_event(Refusal::Busy).into()) };
    let event = counting.event(event).map_err(CountError::Rejected)?;
    Ok(counting.count_event(event).await?.result)
}

/// Make URLs of pixels
///
/// A URL counts its event once, whoever calls it. An ad server that has a key of its own may sign by itself.
#[utoipa::path(
    post,
    path = "/sign",
    operation_id = "sign",
    tag = "events",
    request_body(content = SignBody, content_type = "application/json"),
    responses(
        (status = 200, description = "A URL for each event, in their order", body = SignAnswer),
        (status = 400, description = "The body is no JSON, or cannot be unpacked", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There is no key to sign with", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 1 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Unknown content type or encoding", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A member is missing or invalid, there are more than 1,000 events, or a URL would be too long", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Too many reads are under way", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn sign(app: &Arc<App>, call: &mut Call) -> Answer {
    let body = body::read_json(app, call).await?;
    let Parsed { value: SignBody { events, ttl_ms }, _budget } = if body.is_large() {
        body.parse_in_background(app, SignBody::read).await?
    } else {
        Parsed { value: SignBody::read(body.text()?)?, _budget: body.budget }
    };
    let _permit = call.route.admit(app)?;
    let signing = app.services.pixels.signing(ttl_ms)?;
    let mut urls = Vec::with_capacity(events.len());
    for (number, event) in events.iter().enumerate() {
        let url = signing.url(&event.user, &event.candidate, &event.id, event.kind);
        urls.push(url.ok_or_else(|| {
            let detail = format!("events[{number}]: the URL would be too long: its ids and keys have over 1,100 bytes");
            Problem::unprocessable("pixel_too_long", detail)
        })?);
    }
    Ok(json(&SignAnswer { urls }))
}
