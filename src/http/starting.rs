//! Answers while the service starts: a restore may take minutes, and whoever probes or calls must be told how far it is.
//!
//! Probes and metrics are answered as later, by TLS and for whoever may ask; every other call is 503 `starting`. Each connection
//! has one answer, so that none is left when the service itself takes the listener over.

use super::access::Access;
use super::drain_body;
use super::gate::{Client, Credentials, Gate};
use super::problem::{Problem, json};
use super::routes;
use super::tls::{Tls, Transport, names_of};
use crate::api::ProbeAnswer;
use crate::auth::Scope;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long one may last: a header, and one answer.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// How long those that are open may last once the service takes over.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a service that starts is waiting for.
#[derive(Debug, Clone, PartialEq)]
pub struct StartStep {
    /// The stable code that `/readyz` has.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// How far a restore is; null otherwise.
    pub restore: Value,
}

/// How far the start is. Clones share it.
#[derive(Debug, Clone)]
pub struct StartProgress(Arc<Mutex<StartStep>>);

/// What `/readyz` has beside the problem.
#[derive(Serialize)]
struct Far {
    restore: Value,
}

impl Default for StartProgress {
    fn default() -> Self {
        let detail = "the service is starting; try again shortly".to_owned();
        Self(Arc::new(Mutex::new(StartStep { code: "starting", detail, restore: Value::Null })))
    }
}

impl StartProgress {
    /// Says what is done now. Returns whether that is something else than before, not only further.
    pub fn set(&self, step: StartStep) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = now.code != step.code;
        *now = step;
        is_new
    }

    fn step(&self) -> StartStep {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Who answers at a listener while the service starts.
pub struct Starter {
    /// How far the start is.
    pub progress: StartProgress,
    /// The metrics so far.
    pub metrics: PrometheusHandle,
    /// Whether operators ask here: where they have a listener of their own, the other one has neither probes nor metrics.
    pub is_for_operators: bool,
    /// What connections are encrypted with, if they are.
    pub tls: Option<Arc<Tls>>,
    /// Says who calls.
    pub gate: Gate,
}

/// Answers until `stop`.
pub async fn serve_starting(listener: TcpListener, starter: Starter, stop: CancellationToken) {
    let starter = Arc::new(starter);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // Closed by nobody.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let starter = starter.clone();
                connections.spawn(async move {
                    let _place = place;
                    // One that is slower is closed.
                    let _ = tokio::time::timeout(CONNECTION_MAX, starter.answer_one(stream)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    // What is not answered by then is cut off.
    let _ = tokio::time::timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
}

impl Starter {
    async fn answer_one(&self, stream: TcpStream) {
        let Some((stream, client)) = self.open(stream).await else { return };
        let service = service_fn(|request: Request<Incoming>| async {
            let (parts, body) = request.into_parts();
            let mut response = self.answer(&parts, &client);
            drain_body::drain(Body::new(body), parts.headers.contains_key(header::EXPECT)).await;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok::<_, Infallible>(response)
        });
        let served = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CONNECTION_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended while the service starts");
        }
    }

    /// Agrees on keys where connections are encrypted; then on HTTP/1.1, as spare connections do.
    async fn open(&self, stream: TcpStream) -> Option<(Transport, Client)> {
        let Some(tls) = &self.tls else { return Some((Transport::Plain(stream), Client::default())) };
        match TlsAcceptor::from(tls.config(true)).accept(stream).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates();
                let names = chain.and_then(|chain| chain.first()).map(names_of).unwrap_or_default();
                Some((Transport::Tls(Box::new(stream)), Client::named(names)))
            }
            Err(error) => {
                tracing::debug!(%error, "a handshake of TLS failed while the service starts");
                None
            }
        }
    }

    fn answer(&self, parts: &Parts, client: &Client) -> Response {
        match parts.uri.path() {
            path if !self.is_for_operators && routes::is_operation(path) => routes::at_admin_listener().into_response(),
            "/healthz" => json(&ProbeAnswer { status: "ok" }),
            "/readyz" => {
                let StartStep { code, detail, restore } = self.progress.step();
                Problem::unavailable(code, detail).with(Far { restore }).into_response()
            }
            "/metrics" => self.metrics(parts, client).unwrap_or_else(Problem::into_response),
            _ => Problem::unavailable("starting", self.progress.step().detail).into_response(),
        }
    }

    fn metrics(&self, parts: &Parts, client: &Client) -> Result<Response, Problem> {
        self.gate.caller(&Credentials::of(parts), client)?.may(Access::Scope(Scope::Metrics))?;
        let text = self.metrics.render();
        Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
    }
}
