//! Connections: so many and no more, none that keeps us waiting for ever, and an orderly end.

use super::Front;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long what was sent may stay unread before the connection is closed.
const UNREAD: Duration = Duration::from_secs(30);

/// The bounds of connections.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub max_connections: usize,
    /// How long a request's header may take, the wait for it on an open connection included.
    pub header_timeout: Duration,
    /// The largest request header that the parser holds; below it `max_header` answers in a readable way.
    pub header_buffer: usize,
    /// How long requests under way may take to finish once the server stops.
    pub grace: Duration,
}

/// Serves until `stop` completes; then accepts no more and waits for the requests under way, `grace` at most. Returns
/// whether all of them finished.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    options: &ServerOptions,
    stop: impl Future<Output = ()>,
) -> bool {
    let permits = Arc::new(Semaphore::new(options.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(options.header_buffer);
    let open = metrics::gauge!("freqcap_http_connections");
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Some((stream, permit)) = accepted else { continue };
        // Answers are small and awaited: they must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        // A client that asks and never reads must not hold its connection for ever.
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD)) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT was refused");
        }
        let front = front.clone();
        let answer = service_fn(move |request| front.clone().answer(request));
        let connection = builder.serve_connection(TokioIo::new(stream), answer);
        let connection = graceful.watch(connection);
        let open = open.clone();
        tokio::spawn(async move {
            open.increment(1.0);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
            open.decrement(1.0);
            drop(permit);
        });
    }
    drop(listener);
    tokio::time::timeout(options.grace, graceful.shutdown()).await.is_ok()
}

/// Waits for room, then for a connection: what is not accepted waits in the kernel's queue, where it costs us nothing.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of file descriptors, most likely: trying again at once would only burn the processor.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
