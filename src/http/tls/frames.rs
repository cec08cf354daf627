//! Where in a stream of HTTP/2 we are: between frames, in the bytes of a body, or in what must not take for ever to arrive.

/// Bytes that a client sends before its first frame (RFC 9113, 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows the frames of a client.
#[derive(Debug, Default)]
pub(in crate::http) struct FrameWatch {
    preface: usize,
    /// What there is of the next frame's head.
    head: [u8; HEAD],
    head_bytes: usize,
    /// Bytes of the frame under way that are still to come.
    payload_left: usize,
    is_data: bool,
    /// A header is not whole: more frames must follow.
    is_header_open: bool,
}

impl FrameWatch {
    /// Takes the next bytes.
    pub(in crate::http) fn take(&mut self, mut bytes: &[u8]) {
        let preface = bytes.len().min(PREFACE - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let some = bytes.len().min(self.payload_left);
                self.payload_left -= some;
                bytes = &bytes[some..];
                continue;
            }
            let some = bytes.len().min(HEAD - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + some].copy_from_slice(&bytes[..some]);
            self.head_bytes += some;
            bytes = &bytes[some..];
            if self.head_bytes == HEAD {
                self.begin_frame();
            }
        }
    }

    fn begin_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.head_bytes = 0;
        self.is_data = kind == DATA;
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.is_header_open = flags & END_HEADERS == 0;
        }
    }

    /// Whether something is begun, other than a body, and not whole.
    pub(in crate::http) fn is_amid_header(&self) -> bool {
        self.preface < PREFACE || self.head_bytes > 0 || self.is_header_open || self.payload_left > 0 && !self.is_data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + payload, 7);
        frame
    }

    #[test]
    fn what_is_begun_is_known_however_it_is_cut() {
        let parts: [(Vec<u8>, bool); 6] = [
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), true),
            (frame(4, 0, 18), true),
            (frame(HEADERS, 0, 300), true),
            (frame(CONTINUATION, END_HEADERS, 20), true),
            (frame(DATA, 0, 1_000), false),
            (frame(6, 0, 8), true),
        ];
        for step in [1, 2, 5, 9, 4_000] {
            let mut watch = FrameWatch::default();
            assert!(watch.is_amid_header());
            for (index, (part, is_header)) in parts.iter().enumerate() {
                let (before, last) = part.split_at(part.len() - 1);
                for piece in before.chunks(step) {
                    watch.take(piece);
                }
                assert_eq!(watch.is_amid_header(), *is_header, "{index} {step}");
                watch.take(last);
                // A header without its end goes on in the next frame.
                assert_eq!(watch.is_amid_header(), index == 2, "{index} {step}");
            }
        }
    }
}
