//! What waits for a reader: little, since what it has not taken stays in the ring and in the log.

use bytes::Bytes;
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};

/// With so many bytes waiting nothing more is put in.
const FULL: usize = 128 << 10;

#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    room: Notify,
}

/// The end of a queue that is written to.
#[derive(Debug)]
pub(super) struct Sender {
    pieces: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<Waiting>,
}

/// The body of an answer that ends with its stream.
#[derive(Debug)]
pub struct StreamBody {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<Waiting>,
}

pub(super) fn queue() -> (Sender, StreamBody) {
    let ((sender, receiver), waiting) = (mpsc::unbounded_channel(), Arc::<Waiting>::default());
    (Sender { pieces: sender, waiting: waiting.clone() }, StreamBody { pieces: receiver, waiting })
}

impl Sender {
    /// Puts in a piece. The caller sees to it that there is room; the last words of a stream need none.
    pub fn put(&self, piece: Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        self.waiting.bytes.fetch_add(piece.len(), Ordering::AcqRel);
        // Whether the reader is gone is asked by `gone`.
        let _ = self.pieces.send(piece.into());
    }

    pub fn has_room(&self) -> bool {
        self.waiting.bytes.load(Ordering::Acquire) < FULL
    }

    /// Waits until the reader has taken something since the queue was full. Cancel-safe.
    pub async fn room(&self) {
        while !self.has_room() {
            self.waiting.room.notified().await;
        }
    }

    /// Waits until the reader is gone. Cancel-safe.
    pub async fn gone(&self) {
        self.pieces.closed().await;
    }

    pub fn is_gone(&self) -> bool {
        self.pieces.is_closed()
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        if let Some(piece) = &piece {
            let before = self.waiting.bytes.fetch_sub(piece.len(), Ordering::AcqRel);
            if before >= FULL {
                // Kept for one who is about to wait.
                self.waiting.room.notify_one();
            }
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_full_queue_has_room_once_its_reader_took_enough() {
        let (sender, mut body) = queue();
        sender.put(vec![0; FULL - 1]);
        assert!(sender.has_room());
        sender.put(vec![0; FULL]);
        assert!(!sender.has_room());
        let taken = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(taken.len(), FULL - 1);
        assert!(!sender.has_room());
        body.frame().await.unwrap().unwrap();
        sender.room().await;
        drop(body);
        sender.gone().await;
        assert!(sender.is_gone());
    }

    #[tokio::test]
    async fn a_body_ends_with_what_was_put_in() {
        let (sender, body) = queue();
        sender.put(b"one ".to_vec());
        sender.put(Vec::new());
        sender.put(b"two".to_vec());
        drop(sender);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "one two");
    }
}
