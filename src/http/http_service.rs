//! What every request goes through: its header is bounded, it is measured, and it is answered even if a handler panics. The
//! calls that ad servers make all day go straight to their handlers, all others through axum's router.

use super::access::Access;
use super::app::App;
use super::drain_body;
use super::gate::{Caller, Client, Credentials};
use super::problem::Problem;
use super::resource::{cap, check, events, reserve};
use super::route::{Answer, Call, FastRoute, Listener, Route};
use super::routes::{self, fast_route};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use http::uri::{PathAndQuery, Uri};
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
    listener: Listener,
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
        Self::at(app, Listener::Main)
    }

    /// Answers what operators ask: for a listener of its own, which no load reaches.
    pub fn admin(app: &Arc<App>) -> Self {
        Self::at(app, Listener::Admin)
    }

    /// Answers what the internet may ask, and asks nobody for a key.
    pub fn public(app: &Arc<App>) -> Self {
        Self::at(app, Listener::Public)
    }

    fn at(app: &Arc<App>, listener: Listener) -> Self {
        let fast = Arc::new(FastRoute::ALL.map(FastWay::new));
        Self { app: app.clone(), fast, router: routes::router(app, listener, app.has_admin), listener }
    }

    /// What the listener is called in metrics.
    pub(super) fn listener(&self) -> &'static str {
        self.listener.name()
    }

    /// Ends the answers that go on for as long as their readers want.
    pub(super) fn end_streams(&self) {
        if self.listener == Listener::Main {
            self.app.streams.stop();
        }
    }

    /// Bytes per second at which an answer must be taken whose memory others want: as fast as bodies must come.
    pub(super) fn min_rate(&self) -> u64 {
        self.app.limits.min_body_rate
    }

    /// Answers one request. A spare connection may only make calls of operation.
    pub(super) async fn answer<B>(
        self,
        request: http::Request<B>,
        client: &Client,
        is_spare: bool,
    ) -> Result<Response, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let start = Instant::now();
        let request = without_version(request.map(Body::new));
        let is_http2 = request.version() == Version::HTTP_2;
        let is_main = self.listener == Listener::Main;
        let fast = if is_main { FastRoute::of(request.method(), request.uri().path()) } else { None };
        let (mut response, is_read) = match self.check_header(&request, client, fast.is_some(), is_spare) {
            Ok(caller) => match fast {
                Some(fast) => {
                    let (parts, body) = request.into_parts();
                    let mut call = Call { route: self.fast[fast as usize].route, caller, parts, body };
                    let response = caught(self.run_fast(fast, &mut call)).await;
                    let Call { parts, body, .. } = call;
                    let is_read = body.is_end_stream() || drain_body::drain(body, expects(&parts.headers)).await;
                    (response, is_read)
                }
                None => {
                    let expects = expects(request.headers());
                    let (mut request, lent) = drain_body::lend(request);
                    request.extensions_mut().insert(caller);
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
        if (!is_read || is_spare) && !is_http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.measure(fast, &response, start);
        Ok(response)
    }

    /// Checks what holds for every request, whatever it asks for. Says who calls.
    fn check_header(
        &self,
        request: &Request,
        client: &Client,
        is_fast: bool,
        is_spare: bool,
    ) -> Result<Caller, Problem> {
        let (hosts, credentials) = header_fits(request, self.app.limits.max_header)?;
        // RFC 9112, 3.2: with two Host fields, a proxy and we might take the request for different hosts.
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            let detail = "a request of HTTP/1.1 has exactly one Host field";
            return Err(Problem::bad_request("invalid_host", detail));
        }
        if is_spare && !routes::is_operation(request.uri().path()) {
            let detail = "every connection has a request under way; try again shortly";
            return Err(Problem::unavailable("overloaded", detail));
        }
        // Fast routes are open to nobody, and not at the public listener.
        if !is_fast && (self.listener == Listener::Public || routes::is_open(request.uri().path())) {
            return Ok(Caller::Anyone);
        }
        self.caller(&credentials, client)
    }

    /// Says who calls. Whoever is not known is told nothing but what is open to all, not even which paths there are.
    fn caller(&self, credentials: &Credentials<'_>, client: &Client) -> Result<Caller, Problem> {
        let caller = self.app.gate.caller(credentials, client)?;
        if let Caller::Unknown(_) = caller {
            caller.may(Access::AnyKey)?;
        }
        Ok(caller)
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

/// `/v1/..` are the same paths: the interface has one version so far.
fn without_version(mut request: Request) -> Request {
    let target = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    if let Some(rest) = target.strip_prefix("/v1")
        && rest.starts_with('/')
        && let Ok(target) = rest.parse::<PathAndQuery>()
    {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.path_and_query = Some(target);
        // What was a URI with another path is one with this path.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
    request
}

/// Checks the size of a header. Gives the number of its Host fields, and what it says of who calls.
fn header_fits(request: &Request, most: usize) -> Result<(usize, Credentials<'_>), Problem> {
    let mut bytes = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let mut hosts = 0;
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let mut credentials = Credentials { authority, ..Credentials::default() };
    for (name, value) in request.headers() {
        bytes += name.as_str().len() + value.len() + 4;
        if name == header::HOST {
            hosts += 1;
            credentials.host = Some(value);
        } else if name == header::AUTHORIZATION {
            credentials.is_twice = credentials.authorization.replace(value).is_some();
        } else if name == header::ORIGIN {
            credentials.origin = Some(value);
        }
    }
    if bytes > most {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let detail = format!("the request line and header have more than {most} bytes");
        return Err(Problem::new(status, "header_too_large", detail));
    }
    Ok((hosts, credentials))
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

    #[test]
    fn the_version_of_a_path_is_passed_over() {
        for (target, same) in [
            ("/v1/cap/u%2F1/77?kind=click", "/cap/u%2F1/77?kind=click"),
            ("/v1/events", "/events"),
            ("http://h:8080/v1/rules?x=/v1/", "http://h:8080/rules?x=/v1/"),
            ("/v1/v1/rules", "/v1/rules"),
            ("/v1", "/v1"),
            ("/v10/rules", "/v10/rules"),
            ("/users/v1/caps", "/users/v1/caps"),
            ("*", "*"),
        ] {
            let request = Request::builder().uri(target).body(Body::empty()).unwrap();
            assert_eq!(without_version(request).uri().to_string(), same, "{target}");
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for() {
        let response = caught(async { panic!("as planned") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
