//! A connection's stream. It notes when a header begins and when an answer is written, and it replaces the bare answers that
//! hyper's parser gives by itself with problems like those of every other error.

use super::connections::{Connections, HEADER_NOTED, Seat};
use super::tls::{FrameWatch, Transport};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) struct WatchedStream {
    stream: Transport,
    /// Set with HTTP/2, where the phases of a connection follow its frames.
    frames: Option<FrameWatch>,
    seat: Arc<Seat>,
    all: Connections,
    /// What replaces the parser's own answer, and how many bytes of it are written.
    instead: Option<(Vec<u8>, usize)>,
}

impl WatchedStream {
    pub(super) fn new(stream: Transport, is_http2: bool, seat: Arc<Seat>, all: Connections) -> Self {
        let frames = is_http2.then(FrameWatch::default);
        Self { stream, frames, seat, all, instead: None }
    }
}

/// A whole answer with a problem, after which the connection is closed.
pub(super) fn raw_problem(status: u16, title: &str, code: &str, detail: &str) -> Vec<u8> {
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{code}\",\"detail\":\"{detail}\"}}"
    );
    let head = format!(
        "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// The answer that replaces one without a body from the parser itself.
fn replacement(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"HTTP/1.1 4") && !bytes.starts_with(b"HTTP/1.0 4") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?.to_ascii_lowercase();
    if !head.contains("\r\ncontent-length: 0") || head.contains("\r\ncontent-type:") {
        return None;
    }
    match &bytes[9..12] {
        b"400" => Some(raw_problem(400, "Bad Request", "invalid_request", "this is no request of HTTP/1.1")),
        b"414" => Some(raw_problem(414, "URI Too Long", "target_too_long", "the request's target is too long")),
        b"431" => Some(raw_problem(
            431,
            "Request Header Fields Too Large",
            "header_too_large",
            "the request line and header have too many bytes or fields",
        )),
        _ => None,
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buf);
        let came = buf.filled().len() - before;
        if came > 0
            && let Some(frames) = &mut self.frames
        {
            frames.take(&buf.filled()[before..]);
            if !frames.is_amid_header() {
                self.seat.header_ended();
                return polled;
            }
        }
        if came > 0 && self.seat.header_came(came) >= HEADER_NOTED {
            self.all.bound_headers();
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            this.instead = replacement(bytes).map(|answer| (answer, 0));
        }
        if let Some((answer, written)) = &mut this.instead {
            while *written < answer.len() {
                match Pin::new(&mut this.stream).poll_write(context, &answer[*written..]) {
                    Poll::Ready(Ok(some)) => *written += some,
                    other => return other,
                }
            }
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            this.seat.wrote(written);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = parts {
            return self.poll_write(context, only);
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        if let Poll::Ready(Ok(written)) = polled {
            self.seat.wrote(written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_parser_says_by_itself_is_replaced() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let told = String::from_utf8(replacement(own).unwrap()).unwrap();
        assert!(told.contains("application/problem+json") && told.ends_with("\"}"), "{told}");
        for ours in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert_eq!(replacement(ours.as_bytes()), None, "{ours}");
        }
    }
}
