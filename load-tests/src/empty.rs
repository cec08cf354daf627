//! A handler that does nothing: the ceiling of what HTTP allows on this machine.

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use std::net::SocketAddr;

pub async fn serve(listen: SocketAddr, answer: usize) -> anyhow::Result<()> {
    anyhow::ensure!(listen.ip().is_loopback(), "an empty handler is for this machine only");
    let text = Bytes::from(vec![b'x'; answer]);
    let (for_get, for_post) = (text.clone(), text);
    let answer = move |_body: Bytes| async move { for_post };
    let app = Router::new()
        .route("/cap/{user}/{da}", get(move || async move { for_get }))
        .route("/check", post(answer.clone()))
        .route("/reserve", post(answer.clone()))
        .route("/events", post(answer));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    println!("listening on http://{listen}");
    axum::serve(listener, app).await?;
    Ok(())
}
