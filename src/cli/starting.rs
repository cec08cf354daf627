//! Listens before the store is open, where that may take long: probes are answered, and every call is told to come later.

use super::access::Access;
use crate::http::{StartProgress, Starter, serve_starting};
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The listeners of the service, answered by a thread of their own until the service itself does.
pub(super) struct Starting {
    pub(super) progress: StartProgress,
    listen: TcpListener,
    admin: Option<TcpListener>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Listeners that are bound already, for the service to take over.
pub(super) struct Bound {
    pub(super) listen: TcpListener,
    pub(super) admin: Option<TcpListener>,
}

/// Why it was not listened.
#[derive(Debug, thiserror::Error)]
pub enum StartingError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no thread or runtime for it.
    #[error("starting the service: {0}")]
    Runtime(std::io::Error),
}

impl Starting {
    pub(super) fn begin(
        listen: SocketAddr,
        admin: Option<SocketAddr>,
        access: &Access,
        metrics: &PrometheusHandle,
    ) -> Result<Self, StartingError> {
        let listen = bind(listen)?;
        let admin = admin.map(bind).transpose()?;
        let (progress, stop) = (StartProgress::default(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartingError::Runtime)?;
        let scheme = if access.tls().is_some() { "https" } else { "http" };
        let mut answered = Vec::new();
        for (listener, is_for_operators) in [(Some(&listen), admin.is_none()), (admin.as_ref(), true)] {
            let Some(listener) = listener else { continue };
            let addr = listener.local_addr().map_err(StartingError::Runtime)?;
            if is_for_operators {
                tracing::info!("answering probes at {scheme}://{addr} while the service starts");
            }
            let starter = Starter {
                progress: progress.clone(),
                metrics: metrics.clone(),
                is_for_operators,
                tls: access.tls(),
                gate: access.gate(),
            };
            answered.push((listener.try_clone().map_err(StartingError::Runtime)?, starter));
        }
        let stopped = stop.clone();
        let answer = move || {
            runtime.block_on(async {
                let mut serving = tokio::task::JoinSet::new();
                for (listener, starter) in answered {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => {
                            serving.spawn(serve_starting(listener, starter, stopped.clone()));
                        }
                        Err(error) => tracing::warn!(%error, "probes are not answered before the service has started"),
                    }
                }
                serving.join_all().await;
            });
        };
        let thread = std::thread::Builder::new().name("starting".to_owned()).spawn(answer);
        Ok(Self { progress, listen, admin, stop, thread: thread.map_err(StartingError::Runtime)? })
    }

    /// Ends the answers. Who connects from now on waits for the service.
    pub(super) fn end(self) -> Bound {
        self.stop.cancel();
        if self.thread.join().is_err() {
            tracing::error!("what answered probes ended by a panic");
        }
        Bound { listen: self.listen, admin: self.admin }
    }
}

fn bind(addr: SocketAddr) -> Result<TcpListener, StartingError> {
    let failed = |source| StartingError::Listen { addr, source };
    let socket = match addr {
        SocketAddr::V4(_) => socket2::Domain::IPV4,
        SocketAddr::V6(_) => socket2::Domain::IPV6,
    };
    // As tokio does: an address whose last connections are only just closed is free.
    let socket = socket2::Socket::new(socket, socket2::Type::STREAM, None).map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&addr.into()).map_err(failed)?;
    socket.listen(1024).map_err(failed)?;
    Ok(socket.into())
}
