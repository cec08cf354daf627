//! What a handler leaves unread of a body is read and thrown away before the answer goes out: a connection that is closed
//! with data unread is reset, and then who sent too much never sees the answer that says so.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// So much is thrown away, and for so long; who sends more, or more slowly, is cut off.
const MOST: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(5);
/// So long nothing may come: who waits for the answer before sending more gets it then.
const PAUSE: Duration = Duration::from_secs(1);

type Slot = Arc<Mutex<Option<Body>>>;

/// Where a body comes back to.
pub(super) struct Leftover(Option<Slot>);

/// A body that comes back from whoever drops it.
struct Lent {
    body: Option<Body>,
    back: Slot,
}

/// Lends a request's body to its handler, where that may leave something of it.
pub(super) fn lend(request: Request) -> (Request, Leftover) {
    if request.body().is_end_stream() {
        return (request, Leftover(None));
    }
    let back = Slot::default();
    let (parts, body) = request.into_parts();
    let lent = Lent { body: Some(body), back: back.clone() };
    (Request::from_parts(parts, Body::new(lent)), Leftover(Some(back)))
}

impl Leftover {
    /// Reads up what came back. Whether the whole body was read.
    pub(super) async fn discard(self, expects: bool) -> bool {
        let body = self.0.and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        match body {
            Some(body) => discard(body, expects).await,
            None => true,
        }
    }
}

/// Reads up what is left of a body. Whether it was read to its end. Who waits for `100 Continue` (`expects`) may have sent
/// nothing yet, and need not be asked to.
pub(super) async fn discard(mut body: Body, expects: bool) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if expects {
        return false;
    }
    let all = async {
        let mut left = MOST;
        loop {
            match tokio::time::timeout(PAUSE, body.frame()).await {
                Ok(None) => return true,
                Ok(Some(Ok(frame))) => left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len)),
                Ok(Some(Err(_))) | Err(_) => return false,
            }
            if left == 0 {
                return false;
            }
        }
    };
    tokio::time::timeout(LONGEST, all).await.unwrap_or(false)
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
