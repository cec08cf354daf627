//! The listener for probes and metrics alone, on a thread of its own: no load on the other one keeps it waiting.

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

/// Why the listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address of `--admin-listen`.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no thread or runtime for it.
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
}

/// The running listener.
pub(super) struct Admin {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Admin {
    /// On a listener that is bound already, or on the address.
    pub(super) fn start(
        app: &Arc<App>,
        addr: SocketAddr,
        bound: Option<std::net::TcpListener>,
        server: &ServerOptions,
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
        tracing::info!("probes and metrics also at http://{addr}");
        let options = ServerOptions { max_connections: CONNECTIONS, header_memory: HEADER_MEMORY, ..server.clone() };
        let (service, stop) = (HttpService::admin(app), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(http::serve(listener, service, &options, stopped.cancelled_owned()));
        });
        let thread = thread.map_err(AdminError::Runtime)?;
        Ok(Self { stop, thread })
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
            tracing::error!("the listener for probes ended by a panic");
        }
    }
}
