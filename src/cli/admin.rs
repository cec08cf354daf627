//! The listeners beside the main one, each on a thread of its own: no load on another keeps it waiting.

use super::serve::ServeError;
use crate::http::{self, App, HttpService, ServerOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How many may ask at once.
const CONNECTIONS: usize = 64;
/// Memory for headers that are not whole yet: of all of them.
const HEADER_MEMORY: usize = 2 << 20;

/// A running listener.
pub(super) struct SideListener {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Starts the listener for operators and the one for the internet, where they are asked for.
pub(super) fn start(
    app: &Arc<App>,
    admin: Option<SocketAddr>,
    public: Option<SocketAddr>,
    server: &ServerOptions,
) -> Result<Vec<SideListener>, ServeError> {
    let mut running = Vec::new();
    if let Some(addr) = admin {
        let options = ServerOptions { max_connections: CONNECTIONS, header_memory: HEADER_MEMORY, ..server.clone() };
        running.push(SideListener::start("admin", HttpService::admin(app), addr, options)?);
    }
    if let Some(addr) = public {
        running.push(SideListener::start("public", HttpService::public(app), addr, server.clone())?);
    }
    Ok(running)
}

impl SideListener {
    fn start(
        name: &'static str,
        service: HttpService,
        addr: SocketAddr,
        options: ServerOptions,
    ) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(4)
            .enable_all()
            .build()
            .map_err(ServeError::Runtime)?;
        let cannot_listen = |source| ServeError::Listen { addr, source };
        let listener = runtime.block_on(TcpListener::bind(addr)).map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        match name {
            "admin" => tracing::info!("for operators at http://{addr}"),
            _ => tracing::info!("for the internet at http://{addr}"),
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(http::serve(listener, service, &options, stopped.cancelled_owned()));
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(serve).map_err(ServeError::Runtime)?;
        Ok(Self { stop, thread })
    }

    /// Ends it, once everything else has ended.
    pub(super) fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::error!("a listener ended by a panic");
        }
    }
}
