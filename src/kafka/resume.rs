//! How reading a partition begins, by what is known of it and what Kafka has of it now.

use crate::store::{Frontier, RecordCheck};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumeFrom {
    /// From this offset on. Where a record is to be checked it is the one there.
    Read { at: u64, check: Option<RecordCheck>, lost: u64 },
    /// It ends before what was read of it: it is another topic.
    Changed,
}

/// `low` is the offset of the oldest record that is kept, `end` the one that the next record gets.
pub(super) fn resume_from(frontier: &Frontier, low: u64, end: u64) -> ResumeFrom {
    if frontier.next > end {
        return ResumeFrom::Changed;
    }
    match frontier.last {
        Some(last) if last.offset >= low => ResumeFrom::Read { at: last.offset, check: Some(last), lost: 0 },
        // What came before was deleted, as time goes: there is nothing to compare with.
        _ => {
            let at = frontier.next.max(low);
            ResumeFrom::Read { at, check: None, lost: at - frontier.next }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_topic_says_where_to_begin() {
        let last = RecordCheck { offset: 8, ts: 1, hash: 2 };
        let frontier = Frontier { next: 10, last: Some(last) };
        let read = |at, check, lost| ResumeFrom::Read { at, check, lost };
        assert_eq!(resume_from(&frontier, 0, 10), read(8, Some(last), 0));
        assert_eq!(resume_from(&frontier, 8, 99), read(8, Some(last), 0));
        assert_eq!(resume_from(&frontier, 9, 99), read(10, None, 0));
        assert_eq!(resume_from(&frontier, 13, 99), read(13, None, 3));
        assert_eq!(resume_from(&frontier, 0, 9), ResumeFrom::Changed);
        let fresh = Frontier { next: 10, last: None };
        assert_eq!(resume_from(&fresh, 0, 10), read(10, None, 0));
        assert_eq!(resume_from(&fresh, 12, 12), read(12, None, 2));
    }
}
