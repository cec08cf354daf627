//! Drains the body that a handler did not read, before the answer goes out: TCP resets a connection that is closed with data
//! unread, and then a client that sent too much would never see the answer that says so.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// Maximum bytes to drain. A client that sends more is cut off.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// Maximum time to drain.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Maximum time without data: a client may wait for the answer before it sends more.
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Slot = Arc<Mutex<Option<Body>>>;

/// Takes a lent body back.
pub(super) struct LentBody(Option<Slot>);

/// A body that goes back to its slot when the handler drops it.
struct Lent {
    body: Option<Body>,
    back: Slot,
}

/// Lends a request's body to the router, which owns what it is given.
pub(super) fn lend(request: Request) -> (Request, LentBody) {
    if request.body().is_end_stream() {
        return (request, LentBody(None));
    }
    let back = Slot::default();
    let (parts, body) = request.into_parts();
    let lent = Lent { body: Some(body), back: back.clone() };
    (Request::from_parts(parts, Body::new(lent)), LentBody(Some(back)))
}

impl LentBody {
    /// Drains what came back. True if the whole body was read.
    pub(super) async fn drain(self, expects: bool) -> bool {
        let body = self.0.and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        match body {
            Some(body) => drain(body, expects).await,
            None => true,
        }
    }
}

/// Drains a body. True if its end was reached. A client that waits for `100 Continue` (`expects`) may not have sent anything
/// yet, and is not asked to.
pub(super) async fn drain(mut body: Body, expects: bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if expects {
        return false;
    }
    let all = async {
        let mut left = DRAIN_BYTES_MAX;
        loop {
            match tokio::time::timeout(PAUSE_MAX, body.frame()).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                Ok(Some(Err(_))) | Err(_) => return false,
            }
            if left == 0 {
                return false;
            }
        }
    };
    tokio::time::timeout(DRAIN_TIME_MAX, all).await.unwrap_or(false)
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}
