//! Records of a Kafka partition by what is in them, which tells whether a topic is still the one that was read.

/// Identifies a record, to tell whether a topic was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCheck {
    /// Its offset in the partition.
    pub offset: u64,
    /// Kafka's timestamp, in ms; -1 if it has none.
    pub ts: i64,
    /// XXH3 of the value, seeded with the XXH3 of the key.
    pub hash: u64,
}

pub(in crate::store) fn encode_landmarks(landmarks: &[RecordCheck]) -> Vec<u8> {
    let mut out = Vec::with_capacity(landmarks.len() * 24);
    for RecordCheck { offset, ts, hash } in landmarks {
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&ts.to_le_bytes());
        out.extend_from_slice(&hash.to_le_bytes());
    }
    out
}

pub(in crate::store) fn decode_landmarks(bytes: &[u8]) -> Option<Vec<RecordCheck>> {
    let (rows, rest) = bytes.as_chunks::<24>();
    let number = |row: &[u8; 24], at: usize| Some(u64::from_le_bytes(row[at..at + 8].try_into().ok()?));
    let landmarks = rows
        .iter()
        .map(|row| Some(RecordCheck { offset: number(row, 0)?, ts: number(row, 8)? as i64, hash: number(row, 16)? }));
    landmarks.collect::<Option<Vec<_>>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_landmarks_never_change() {
        let last = RecordCheck { offset: 299, ts: -1, hash: 0x0102 };
        let bytes = encode_landmarks(&[last]);
        assert_eq!(bytes, b"\x2b\x01\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x02\x01\0\0\0\0\0\0");
        assert_eq!((decode_landmarks(&bytes), decode_landmarks(&bytes[1..])), (Some(vec![last]), None));
    }
}
