//! What every request goes through: bounded in its header, measured, and answered even where a handler panics. And the
//! short way to the calls that ad servers make all day: they are known by their method and path, without the router and its
//! layers.

use super::app::{self, App};
use super::leftover;
use super::problem::Problem;
use super::{cap, check, events, reserve};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body::Body as _;
use metrics::{Counter, Histogram, counter, histogram};
use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use tower::ServiceExt;

const REQUESTS: &str = "freqcap_http_requests_total";
const SECONDS: &str = "freqcap_http_request_seconds";

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    app: Arc<App>,
    figures: Arc<[Figures; Hot::ALL.len()]>,
    rest: axum::Router,
    /// Whether only calls of operation are answered here.
    is_admin: bool,
}

/// A call with a short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hot {
    Events,
    Check,
    Reserve,
    Cap,
}

/// What is counted of a call with a short way.
struct Figures {
    ok: Counter,
    seconds: Histogram,
}

impl Hot {
    const ALL: [Self; 4] = [Self::Events, Self::Check, Self::Reserve, Self::Cap];

    fn of(request: &Request) -> Option<Self> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/events") => Some(Self::Events),
            (&Method::POST, "/check") => Some(Self::Check),
            (&Method::POST, "/reserve") => Some(Self::Reserve),
            (&Method::GET, path) => {
                let (user, da) = path.strip_prefix("/cap/")?.split_once('/')?;
                (!user.is_empty() && !da.is_empty() && !da.contains('/')).then_some(Self::Cap)
            }
            _ => None,
        }
    }

    /// As the router has it.
    fn route(self) -> &'static str {
        match self {
            Self::Events => "/events",
            Self::Check => "/check",
            Self::Reserve => "/reserve",
            Self::Cap => "/cap/{user}/{da}",
        }
    }
}

impl Front {
    pub fn new(app: &Arc<App>) -> Self {
        let figures = |hot: Hot| Figures {
            ok: counter!(REQUESTS, "route" => hot.route(), "status" => "200"),
            seconds: histogram!(SECONDS, "route" => hot.route()),
        };
        Self { app: app.clone(), figures: Arc::new(Hot::ALL.map(figures)), rest: app::router(app), is_admin: false }
    }

    /// Answers what operators ask, and nothing else: for a listener of its own, which no load reaches.
    pub fn admin(app: &Arc<App>) -> Self {
        Self { rest: app::admin_router(app), is_admin: true, ..Self::new(app) }
    }

    /// What the listener is called in metrics.
    pub(super) fn listener(&self) -> &'static str {
        if self.is_admin { "admin" } else { "main" }
    }

    /// Answers one request. A connection that got one of the places kept free only asks how the service is.
    pub(super) async fn answer<B>(self, request: http::Request<B>, is_spare: bool) -> Result<Response, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        let request = request.map(Body::new);
        let hot = if self.is_admin { None } else { Hot::of(&request) };
        let (mut response, is_read) = match self.admit(&request, is_spare) {
            Ok(()) => match hot {
                Some(hot) => {
                    let (parts, mut body) = request.into_parts();
                    let response = caught(self.dispatch(hot, &parts, &mut body)).await;
                    let is_read = body.is_end_stream() || leftover::discard(body, expects(&parts.headers)).await;
                    (response, is_read)
                }
                None => {
                    let expects = expects(request.headers());
                    let (request, leftover) = leftover::lend(request);
                    let rest = async { self.rest.clone().oneshot(request).await.into_response() };
                    let response = caught(rest).await;
                    (response, leftover.discard(expects).await)
                }
            },
            Err(problem) => {
                let expects = expects(request.headers());
                (problem.into_response(), leftover::discard(request.into_body(), expects).await)
            }
        };
        // What is left of the body would be taken for the next request: the connection ends, and says so.
        if !is_read || is_spare {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.measure(hot, &response, start);
        Ok(response)
    }

    /// What every request must keep to, whatever it asks for.
    fn admit(&self, request: &Request, is_spare: bool) -> Result<(), Problem> {
        let hosts = header_fits(request, self.app.limits.max_header)?;
        // RFC 9112, 3.2: two readings of whose request it is are one too many.
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            let detail = "a request of HTTP/1.1 has exactly one Host field";
            return Err(Problem::bad_request("invalid_host", detail));
        }
        if is_spare && !app::is_operation(request.uri().path()) {
            let detail = "every connection has a request under way; try again shortly";
            return Err(Problem::unavailable("overloaded", detail));
        }
        Ok(())
    }

    async fn dispatch(&self, hot: Hot, parts: &Parts, body: &mut Body) -> Response {
        let app = &self.app;
        match hot {
            Hot::Events => events::answer_to(app, &parts.headers, body).await,
            Hot::Check => check::answer_to(app, &parts.headers, body).await,
            Hot::Reserve => reserve::answer_to(app, &parts.headers, body).await,
            Hot::Cap => cap::get_admitted(app, &parts.uri).await,
        }
    }

    fn measure(&self, hot: Option<Hot>, response: &Response, start: Instant) {
        let status = response.status();
        let seconds = start.elapsed().as_secs_f64();
        match hot {
            Some(hot) => {
                let figures = &self.figures[hot as usize];
                figures.seconds.record(seconds);
                if status == StatusCode::OK {
                    figures.ok.increment(1);
                } else {
                    counter!(REQUESTS, "route" => hot.route(), "status" => status.as_str().to_owned()).increment(1);
                }
            }
            None => {
                let route = response.extensions().get::<MatchedPath>();
                let route = route.map_or_else(|| "none".to_owned(), |route| route.as_str().to_owned());
                histogram!(SECONDS, "route" => route.clone()).record(seconds);
                counter!(REQUESTS, "route" => route, "status" => status.as_str().to_owned()).increment(1);
            }
        }
    }
}

/// Leaves with an answer by which route it came.
pub(super) async fn note_route(route: Option<MatchedPath>, request: Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Whether a header is within its bounds; with how many Host fields it has.
fn header_fits(request: &Request, most: usize) -> Result<usize, Problem> {
    let mut bytes = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let mut hosts = 0;
    for (name, value) in request.headers() {
        bytes += name.as_str().len() + value.len() + 4;
        hosts += usize::from(name == header::HOST);
    }
    if bytes > most {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let detail = format!("the request line and header have more than {most} bytes");
        return Err(Problem::new(status, "header_too_large", detail));
    }
    Ok(hosts)
}

/// Whether who asks may wait to be told to go on.
fn expects(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

/// Runs a handler, and answers for it where it panics.
async fn caught(handler: impl Future<Output = Response>) -> Response {
    let mut handler = pin!(handler);
    std::future::poll_fn(|context| {
        // A handler that panicked is not polled again, and what it shares with others is not left half done by a panic.
        match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(panicked(&*panic)),
        }
    })
    .await
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_ways_are_those_of_the_router() {
        let hot = |method: &str, uri: &str| {
            Hot::of(&http::Request::builder().method(method).uri(uri).body(Body::empty()).unwrap())
        };
        for (method, uri, expected) in [
            ("POST", "/events", Some(Hot::Events)),
            ("POST", "/events?x=1", Some(Hot::Events)),
            ("GET", "/events", None),
            ("POST", "/events/", None),
            ("POST", "/check", Some(Hot::Check)),
            ("POST", "/reserve", Some(Hot::Reserve)),
            ("GET", "/cap/u1/77?key=c:1", Some(Hot::Cap)),
            ("GET", "/cap/a%2Fb/77", Some(Hot::Cap)),
            ("HEAD", "/cap/u1/77", None),
            ("GET", "/cap/u1/77/8", None),
            ("GET", "/cap//77", None),
            ("GET", "/cap/u1/", None),
            ("GET", "/cap/u1", None),
            ("GET", "/cap", None),
        ] {
            assert_eq!(hot(method, uri), expected, "{method} {uri}");
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for() {
        let response = caught(async { panic!("as planned") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
