//! Answers that may be long. They are written in pieces, take memory from their read's budget as they grow, and give it back
//! once they are sent.

use super::problem::{Problem, json_bytes};
use super::read_budget::ReadBudget;
use crate::store::Room;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The most bytes of a piece.
const PIECE: usize = 64 << 10;

/// The capacity of the first piece. Most answers need no more.
const FIRST: usize = 512;

/// An answer that is being written.
pub(super) struct Pieces {
    whole: Vec<Bytes>,
    last: Vec<u8>,
    pub budget: ReadBudget,
}

impl Write for Pieces {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    /// JSON is written a few bytes at a time, so the budget is asked only when a piece grows.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.last.capacity() - self.last.len() {
            return self.write_and_grow(bytes);
        }
        self.last.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pieces {
    pub(super) fn new(budget: ReadBudget) -> Self {
        Self { whole: Vec::new(), last: Vec::new(), budget }
    }

    #[cold]
    fn write_and_grow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.last.len() == self.last.capacity() {
                self.grow(bytes.len())?;
            }
            let (fits, rest) = bytes.split_at(bytes.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(fits);
            bytes = rest;
        }
        Ok(())
    }

    /// Makes room for some bytes more, at least for one. The last piece is full up to its capacity.
    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        let len = self.last.len();
        if len == PIECE {
            // Whoever has written one piece will fill another.
            self.take(PIECE)?;
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
            self.whole.push(full.into());
            return Ok(());
        }
        let more = len.max(FIRST).max(bytes).min(PIECE - len);
        self.take(more)?;
        self.last.reserve_exact(more);
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        if self.budget.take(bytes) { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    /// A 200 with a JSON body, if there is memory for it.
    pub(super) fn json(body: &impl Serialize, budget: ReadBudget) -> Result<Response, Problem> {
        let mut pieces = Self::new(budget);
        match serde_json::to_writer(&mut pieces, body) {
            Ok(()) => Ok(pieces.into_response()),
            Err(error) if error.is_io() => Err(pieces.budget.refusal()),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written");
                Err(Problem::internal())
            }
        }
    }

    /// A 200 with the JSON that was written.
    pub(super) fn into_response(self) -> Response {
        let Self { mut whole, last, budget } = self;
        if whole.is_empty() && budget.is_small() {
            return json_bytes(last);
        }
        whole.push(last.into());
        let left = whole.iter().map(Bytes::len).sum::<usize>() as u64;
        let body = PiecesBody { pieces: whole.into_iter(), left, _budget: budget };
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.extensions_mut().insert(HoldsMemory { bytes: left });
        response
    }
}

/// In the extensions of a response whose body keeps others from memory until it is sent: it must be taken fast enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct HoldsMemory {
    pub bytes: u64,
}

/// An answer that is being sent.
struct PiecesBody {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
    _budget: ReadBudget,
}

impl http_body::Body for PiecesBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.next();
        self.left -= piece.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Writes an answer as handlers do, and says how long it is. For benches/instructions.rs.
#[doc(hidden)]
pub fn answer_bytes(body: &impl Serialize) -> Option<usize> {
    let memory = std::sync::Arc::new(super::read_budget::ReadMemory::new(1 << 20));
    let mut pieces = Pieces::new(ReadBudget::new(memory));
    serde_json::to_writer(&mut pieces, body).ok()?;
    Some(pieces.whole.iter().map(Bytes::len).sum::<usize>() + pieces.last.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::read_budget::ReadMemory;
    use std::sync::Arc;

    #[test]
    fn no_piece_takes_more_than_a_piece() {
        let all = Arc::new(ReadMemory::new(16 << 20));
        for step in [1usize, 7, 1_000, 40_000, 65_535, 65_536, 300_000] {
            let mut pieces = Pieces::new(ReadBudget::new(all.clone()));
            let mut written = 0;
            while written < 1 << 20 {
                pieces.write_all(&vec![b'x'; step]).unwrap();
                written += step;
                assert!(pieces.last.capacity() <= PIECE, "{step}: {}", pieces.last.capacity());
            }
            assert!(pieces.whole.iter().all(|piece| piece.len() == PIECE));
            assert_eq!(pieces.whole.len() * PIECE + pieces.last.len(), written);
        }
    }
}
