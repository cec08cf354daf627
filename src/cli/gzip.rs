//! Files packed with gzip: one member or several, and zeros behind the last one, which tapes and block devices leave.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Unpacks a stream of gzip members. What ends in the midst of one is an error, and so is what follows the last one and
/// is not zeros.
pub(super) struct Gunzip<R>(State<R>);

enum State<R> {
    Member(Box<GzDecoder<R>>),
    /// Behind a member.
    Between(R),
    Ended,
}

impl<R: BufRead> Gunzip<R> {
    pub fn new(packed: R) -> Self {
        Self(State::Member(Box::new(GzDecoder::new(packed))))
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            // What fails is over: nobody reads on in the midst of something else.
            match std::mem::replace(&mut self.0, State::Ended) {
                State::Member(mut member) => match member.read(into) {
                    Ok(0) => self.0 = State::Between(member.into_inner()),
                    Err(why) if why.kind() != io::ErrorKind::Interrupted => return Err(why),
                    read => {
                        self.0 = State::Member(member);
                        return read;
                    }
                },
                State::Between(mut packed) => {
                    let zeros = match packed.fill_buf() {
                        Ok([]) => return Ok(0),
                        Ok(bytes) => bytes.iter().take_while(|byte| **byte == 0).count(),
                        Err(why) if why.kind() == io::ErrorKind::Interrupted => 0,
                        Err(why) => return Err(why),
                    };
                    self.0 = match zeros {
                        0 => State::Member(Box::new(GzDecoder::new(packed))),
                        _ => {
                            packed.consume(zeros);
                            State::Between(packed)
                        }
                    };
                }
                State::Ended => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{BufReader, Write};

    fn member(text: &str) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    /// What comes out, and whether it ends in an error; read by small pieces, as streams may come.
    fn unpack(packed: &[u8]) -> (String, bool) {
        let mut text = Vec::new();
        let failed = Gunzip::new(BufReader::with_capacity(7, packed)).read_to_end(&mut text).is_err();
        (String::from_utf8(text).unwrap(), failed)
    }

    #[test]
    fn members_follow_each_other_and_zeros_follow_them() {
        let (one, two, none) = (member("one\n"), member("two\n"), member(""));
        let zeros = vec![0; 1_000];
        assert_eq!(unpack(&one), ("one\n".to_owned(), false));
        assert_eq!(unpack(&[&one[..], &two, &none, &two].concat()), ("one\ntwo\ntwo\n".to_owned(), false));
        assert_eq!(unpack(&[&one[..], &zeros].concat()), ("one\n".to_owned(), false));
        assert_eq!(unpack(&[&one[..], &zeros, &two, &zeros].concat()), ("one\ntwo\n".to_owned(), false));
    }

    #[test]
    fn what_is_cut_off_or_followed_by_something_else_is_an_error() {
        let (one, two) = (member("one\n"), member(&"two\n".repeat(1_000)));
        for cut in 1..two.len() {
            let (text, failed) = unpack(&[&one[..], &two[..cut]].concat());
            assert!(failed && text.starts_with("one\n"), "{cut}");
        }
        let (text, failed) = unpack(&[&one[..], b"more"].concat());
        assert!(failed && text == "one\n");
        let mut damaged = one.clone();
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert!(unpack(&damaged).1);
    }
}
