//! What a handler leaves unread of a body is read and thrown away before the answer goes out: a connection that is closed
//! with data unread is reset, and then who sent too much never sees the answer that says so.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// A body that is said to be no longer than this is in the kernel's hands, and the connection reads it up by itself.
const SMALL: u64 = 16 << 10;
/// So much is thrown away, and for so long; who sends more, or more slowly, is cut off.
const MOST: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(5);

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
    if !may_be_left(request.headers()) {
        return (request, Leftover(None));
    }
    let back = Slot::default();
    let (parts, body) = request.into_parts();
    let lent = Lent { body: Some(body), back: back.clone() };
    (Request::from_parts(parts, Body::new(lent)), Leftover(Some(back)))
}

/// Who waits for `100 Continue` has sent nothing yet, and need not be asked to.
fn may_be_left(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_long = length.map_or(headers.contains_key(header::TRANSFER_ENCODING), |length| length > SMALL);
    is_long && !headers.contains_key(header::EXPECT)
}

impl Leftover {
    /// Reads up what came back.
    pub(super) async fn discard(self) {
        let body = self.0.and_then(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(mut body) = body.filter(|body| !body.is_end_stream()) else { return };
        let all = async {
            let mut left = MOST;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST, all).await;
    }
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
