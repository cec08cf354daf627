//! What every request goes through: its header is bounded, it is measured, and it is answered even if a handler panics. The
//! calls that ad servers make all day go straight to their handlers, all others through axum's router.

use super::app::App;
use super::drain_body;
use super::problem::Problem;
use super::resource::{cap, check, events, reserve};
use super::route::{Answer, Call, FastRoute, Route};
use super::routes::{self, fast_route};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
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
pub struct HttpService {
    app: Arc<App>,
    /// By [`FastRoute`].
    fast: Arc<[FastWay; FastRoute::ALL.len()]>,
    router: axum::Router,
    /// Whether only calls of operation are answered here.
    is_admin: bool,
}

/// A route with a fast way, and its metrics: looked up once, not for each call.
struct FastWay {
    route: &'static Route,
    ok: Counter,
    seconds: Histogram,
}

impl FastWay {
    fn new(fast: FastRoute) -> Self {
        let route = fast_route(fast);
        Self {
            route,
            ok: counter!(REQUESTS, "route" => route.path, "status" => "200"),
            seconds: histogram!(SECONDS, "route" => route.path),
        }
    }
}

impl HttpService {
    /// The service of the main listener.
    pub fn new(app: &Arc<App>) -> Self {
        let fast = Arc::new(FastRoute::ALL.map(FastWay::new));
        Self { app: app.clone(), fast, router: routes::router(app), is_admin: false }
    }

    /// Answers calls of operation only: for a listener of its own, which no load reaches.
    pub fn admin(app: &Arc<App>) -> Self {
        Self { router: routes::admin_router(app), is_admin: true, ..Self::new(app) }
    }

    /// What the listener is called in metrics.
    pub(super) fn listener(&self) -> &'static str {
        if self.is_admin { "admin" } else { "main" }
    }

    /// Bytes per second at which an answer must be taken whose memory others want: as fast as bodies must come.
    pub(super) fn min_rate(&self) -> u64 {
        self.app.limits.min_body_rate
    }

    /// Answers one request. A spare connection may only make calls of operation.
    pub(super) async fn answer<B>(self, request: http::Request<B>, is_spare: bool) -> Result<Response, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        let request = request.map(Body::new);
        let fast = if self.is_admin { None } else { FastRoute::of(request.method(), request.uri().path()) };
        let (mut response, is_read) = match self.check_header(&request, is_spare) {
            Ok(()) => match fast {
                Some(fast) => {
                    let (parts, body) = request.into_parts();
                    let mut call = Call { route: self.fast[fast as usize].route, parts, body };
                    let response = caught(self.run_fast(fast, &mut call)).await;
                    let Call { parts, body, .. } = call;
                    let is_read = body.is_end_stream() || drain_body::drain(body, expects(&parts.headers)).await;
                    (response, is_read)
                }
                None => {
                    let expects = expects(request.headers());
                    let (request, lent) = drain_body::lend(request);
                    let routed = async { self.router.clone().oneshot(request).await.into_response() };
                    let response = caught(routed).await;
                    (response, lent.drain(expects).await)
                }
            },
            Err(problem) => {
                let expects = expects(request.headers());
                (problem.into_response(), drain_body::drain(request.into_body(), expects).await)
            }
        };
        // The rest of a body would be taken for the next request, so the connection is closed and the answer says so.
        if !is_read || is_spare {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.measure(fast, &response, start);
        Ok(response)
    }

    /// Checks what holds for every request, whatever it asks for.
    fn check_header(&self, request: &Request, is_spare: bool) -> Result<(), Problem> {
        let hosts = header_fits(request, self.app.limits.max_header)?;
        // RFC 9112, 3.2: with two Host fields, a proxy and we might take the request for different hosts.
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            let detail = "a request of HTTP/1.1 has exactly one Host field";
            return Err(Problem::bad_request("invalid_host", detail));
        }
        if is_spare && !routes::is_operation(request.uri().path()) {
            let detail = "every connection has a request under way; try again shortly";
            return Err(Problem::unavailable("overloaded", detail));
        }
        Ok(())
    }

    async fn run_fast(&self, fast: FastRoute, call: &mut Call) -> Response {
        self.try_fast(fast, call).await.unwrap_or_else(Problem::into_response)
    }

    /// Runs the handler without the box that [`Route::handler`] needs.
    async fn try_fast(&self, fast: FastRoute, call: &mut Call) -> Answer {
        let app = &self.app;
        let _permit = call.enter(app)?;
        match fast {
            FastRoute::Events => events::post(app, call).await,
            FastRoute::Check => check::post(app, call).await,
            FastRoute::Reserve => reserve::reserve(app, call).await,
            FastRoute::Cap => cap::get_by_path(app, call).await,
        }
    }

    fn measure(&self, fast: Option<FastRoute>, response: &Response, start: Instant) {
        let status = response.status();
        let seconds = start.elapsed().as_secs_f64();
        match fast {
            Some(fast) => {
                let way = &self.fast[fast as usize];
                way.seconds.record(seconds);
                if status == StatusCode::OK {
                    way.ok.increment(1);
                } else {
                    counter!(REQUESTS, "route" => way.route.path, "status" => status.as_str().to_owned()).increment(1);
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

/// Checks the size of a header. Gives the number of its Host fields.
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

/// Whether the client may wait for `100 Continue`.
fn expects(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

/// Runs a handler; answers in its place if it panics.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for() {
        let response = caught(async { panic!("as planned") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
