//! The listeners beside the main one, each on a thread of its own: no load on another keeps it waiting.

use crate::http::{self, App, HttpService, ServerOptions};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How many may ask at once.
const CONNECTIONS: usize = 64;
/// How many of the internet may be connected at once.
const PUBLIC_CONNECTIONS: usize = 1_024;
/// Memory for headers that are not whole yet: of all of them.
const HEADER_MEMORY: usize = 2 << 20;

/// Why a listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another address")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no thread or runtime for it.
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
}

/// A running listener.
pub(super) struct SideListener {
    name: &'static str,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Starts the listener for operators and the one for the internet, where they are asked for.
pub(super) fn start(
    app: &Arc<App>,
    admin: Option<SocketAddr>,
    admin_bound: Option<std::net::TcpListener>,
    public: Option<SocketAddr>,
    server: &ServerOptions,
) -> Result<Vec<SideListener>, AdminError> {
    let small = || ServerOptions { max_connections: CONNECTIONS, header_memory: HEADER_MEMORY, ..server.clone() };
    let mut running = Vec::new();
    if let Some(addr) = admin {
        running.push(SideListener::start(("admin", "operators"), HttpService::admin(app), addr, admin_bound, small())?);
    }
    if let Some(addr) = public {
        let options = ServerOptions { max_connections: PUBLIC_CONNECTIONS.min(server.max_connections), ..small() };
        running.push(SideListener::start(("public", "the internet"), HttpService::public(app), addr, None, options)?);
    }
    Ok(running)
}

impl SideListener {
    fn start(
        (name, for_whom): (&'static str, &str),
        service: HttpService,
        addr: SocketAddr,
        bound: Option<std::net::TcpListener>,
        options: ServerOptions,
    ) -> Result<Self, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(4)
            .enable_all()
            .build()
            .map_err(AdminError::Runtime)?;
        let cannot_listen = |source| AdminError::Listen { addr, source };
        let listener = runtime.block_on(async {
            match bound {
                Some(bound) => TcpListener::from_std(bound),
                None => TcpListener::bind(addr).await,
            }
        });
        let listener = listener.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        tracing::info!("for {for_whom} at {scheme}://{addr}");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(http::serve(listener, service, &options, stopped.cancelled_owned()));
        });
        let thread = thread.map_err(AdminError::Runtime)?;
        Ok(Self { name, stop, thread })
    }

    /// What it is called as a component.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs until `drain`, then ends.
    pub(super) async fn run<E>(self, drain: CancellationToken) -> Result<(), E> {
        drain.cancelled().await;
        // It finishes its answers on a thread of its own.
        let _ = tokio::task::spawn_blocking(|| self.stop()).await;
        Ok(())
    }

    /// Ends it, once everything else has ended.
    fn stop(self) {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::error!("a listener ended by a panic");
        }
    }
}
