//! A handler that does nothing: the ceiling of what HTTP allows on this machine, on the same kind of runtime as the
//! service, in a process of its own.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use bytes::Bytes;
use std::net::SocketAddr;

pub fn serve(listen: SocketAddr, answer: usize) -> anyhow::Result<()> {
    anyhow::ensure!(listen.ip().is_loopback(), "an empty handler is for this machine only");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_on(listen, answer))
}

async fn serve_on(listen: SocketAddr, answer: usize) -> anyhow::Result<()> {
    let text = Bytes::from(vec![b'x'; answer]);
    let for_get = text.clone();
    let for_get = move || async move { ([(CONTENT_TYPE, "application/json")], for_get) };

    let answer = move |_body: Bytes| async move { ([(CONTENT_TYPE, "application/json")], text) };
    let app = Router::new()
        .route("/healthz", get(|| async { "{}" }))
        .route("/cap/{user}/{da}", get(for_get))
        .route("/check", post(answer.clone()))
        .route("/reserve", post(answer.clone()))
        .route("/events", post(answer));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    eprintln!("listening on http://{listen}");
    axum::serve(listener, app).await?;
    Ok(())
}
