//! Row keys: shard, user, a zero byte, key. No id has a zero byte, so the rows of one user are adjacent, and no user's
//! rows have another user's prefix.

use crate::model::{CapKey, ShardId, UserId};
use std::borrow::Cow;
use std::ops::Range;

/// Replaces `da:`; every other key begins with a lower-case letter.
const DA: u8 = 1;

/// The whole key of a row of `logs` and `caps`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey(Box<[u8]>);

impl RowKey {
    /// The row key of a user and a key.
    pub fn new(user: &UserId<'_>, key: &CapKey<'_>) -> Self {
        let mut bytes = Vec::with_capacity(user.as_str().len() + key.as_str().len() + 2);
        Self::write(&mut bytes, user.as_str(), key.as_str());
        Self(bytes.into())
    }

    /// Appends the row key of a checked user and key.
    pub fn write(out: &mut Vec<u8>, user: &str, key: &str) {
        match key.strip_prefix("da:") {
            Some(da) => Self::write_da(out, user, da),
            None => {
                write_user(out, user);
                out.extend_from_slice(key.as_bytes());
            }
        }
    }

    /// Appends the row key of an ad itself.
    pub fn write_da(out: &mut Vec<u8>, user: &str, da: &str) {
        write_user(out, user);
        out.push(DA);
        out.extend_from_slice(da.as_bytes());
    }

    /// The bytes, without the shard.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The user and the key of a row key; `None` if the bytes are not a row key.
    pub fn parse(bytes: &[u8]) -> Option<(&str, Cow<'_, str>)> {
        let rest = bytes.get(1..)?;
        let zero = memchr::memchr(0, rest)?;
        let user = std::str::from_utf8(&rest[..zero]).ok()?;
        let key = &rest[zero + 1..];
        let key = match key.split_first()? {
            (&DA, da) => Cow::Owned(format!("da:{}", std::str::from_utf8(da).ok()?)),
            _ => Cow::Borrowed(std::str::from_utf8(key).ok()?),
        };
        Some((user, key))
    }

    /// The row key of another key of the same user.
    pub fn sibling(row_key: &[u8], key: &str) -> Vec<u8> {
        let mut bytes = user_prefix(row_key).to_vec();
        match key.strip_prefix("da:") {
            Some(da) => {
                bytes.push(DA);
                bytes.extend_from_slice(da.as_bytes());
            }
            None => bytes.extend_from_slice(key.as_bytes()),
        }
        bytes
    }

    /// Writes the key of a row key into `out`, which spares the allocation of [`RowKey::key_of`].
    pub fn key_into(bytes: &[u8], out: &mut String) -> Option<()> {
        let zero = memchr::memchr(0, bytes.get(1..)?)?;
        let key = &bytes[zero + 2..];
        out.clear();
        let rest = match key.split_first()? {
            (&DA, da) => {
                out.push_str("da:");
                da
            }
            _ => key,
        };
        out.push_str(std::str::from_utf8(rest).ok()?);
        Some(())
    }

    /// The first eight bytes, which sort as the whole does. Most comparisons need no more.
    pub fn leading(bytes: &[u8]) -> u64 {
        let mut leading = [0; 8];
        let len = bytes.len().min(8);
        leading[..len].copy_from_slice(&bytes[..len]);
        u64::from_be_bytes(leading)
    }

    /// The prefix of every row of this user.
    pub fn user_prefix(bytes: &[u8]) -> &[u8] {
        user_prefix(bytes)
    }

    /// The user of a row key.
    pub fn user_of(bytes: &[u8]) -> Option<&str> {
        let rest = bytes.get(1..)?;
        std::str::from_utf8(&rest[..memchr::memchr(0, rest)?]).ok()
    }

    /// The key of a row key.
    pub fn key_of(bytes: &[u8]) -> Option<Cow<'_, str>> {
        Self::parse(bytes).map(|(_, key)| key)
    }
}

/// Row keys in one buffer, by number.
#[derive(Debug, Clone, Default)]
pub struct RowKeys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl RowKeys {
    /// Adds the row key of a checked user and key.
    pub fn push(&mut self, user: &str, key: &str) {
        RowKey::write(&mut self.bytes, user, key);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds the row key of an ad itself.
    pub fn push_da(&mut self, user: &str, da: &str) {
        self.push_da_in(ShardId::of_user(user.as_bytes()), user, da);
    }

    /// The same for a user whose shard is known.
    pub fn push_da_in(&mut self, shard: ShardId, user: &str, da: &str) {
        self.bytes.push(shard.0);
        self.bytes.extend_from_slice(user.as_bytes());
        self.bytes.extend_from_slice(&[0, DA]);
        self.bytes.extend_from_slice(da.as_bytes());
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds the row key of another key, of a level other than ads, for the user of an earlier row key.
    pub fn push_sibling(&mut self, number: usize, key: &str) {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        let len = user_prefix(self.get(number)).len();
        self.bytes.extend_from_within(start..start + len);
        self.bytes.extend_from_slice(key.as_bytes());
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds the row key of a call of `/reserve`, where the id takes the place of the key.
    pub fn push_id(&mut self, user: &str, id: &str) {
        write_user(&mut self.bytes, user);
        self.bytes.extend_from_slice(id.as_bytes());
        self.ends.push(self.bytes.len() as u32);
    }

    /// A row key by its number.
    pub fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[number] as usize]
    }

    /// The row keys in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|number| self.get(number))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// The prefix of every row of the user of this row key.
pub(crate) fn user_prefix(row_key: &[u8]) -> &[u8] {
    let zero = row_key.get(1..).and_then(|rest| memchr::memchr(0, rest));
    &row_key[..zero.map_or(row_key.len(), |zero| zero + 2)]
}

fn write_user(out: &mut Vec<u8>, user: &str) {
    out.push(ShardId::of_user(user.as_bytes()).0);
    out.extend_from_slice(user.as_bytes());
    out.push(0);
}

/// The prefix of every row of one user: shard, user, a zero byte.
#[derive(Debug, Clone)]
pub(crate) struct UserPrefix(Vec<u8>);

impl UserPrefix {
    pub(crate) fn new(user: &str) -> Self {
        let mut prefix = Vec::with_capacity(user.len() + 2);
        write_user(&mut prefix, user);
        Self(prefix)
    }

    /// The prefix for the user of a row key.
    pub(crate) fn of_row_key(row_key: &[u8]) -> Self {
        Self(user_prefix(row_key).to_vec())
    }

    pub(crate) fn shard(&self) -> ShardId {
        ShardId(self.0[0])
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bounds of the user's rows in three parts, in the order of keys. (In the order of row keys, `da:..` comes
    /// first; in that of keys, it is between other levels.)
    pub(crate) fn rows_by_key(&self) -> [Range<Vec<u8>>; 3] {
        let Range { start, end } = self.rows();
        let with = |bytes: &[u8]| [start.as_slice(), bytes].concat();
        let (ads, others, da) = (with(&[DA]), with(&[DA + 1]), with(b"da:"));
        [others.clone()..da.clone(), ads..others, da..end]
    }

    /// The bounds of all rows of the user.
    pub(crate) fn rows(&self) -> Range<Vec<u8>> {
        let mut end = self.0.clone();
        // The last byte is zero. No row of the user has a one in its place.
        end.pop();
        end.push(1);
        self.0.clone()..end
    }
}

/// The prefix of every row of one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShardPrefix(pub ShardId);

impl ShardPrefix {
    /// The bounds of all rows of the shard.
    pub(crate) fn rows(self) -> Range<Vec<u8>> {
        let end = match self.0.0.checked_add(1) {
            Some(next) => vec![next],
            // Higher than any row of shard 255.
            None => vec![0xff; 16],
        };
        vec![self.0.0]..end
    }

    /// The bounds of the rows after a key, or of all rows.
    pub(crate) fn rows_after(self, after: Option<&[u8]>) -> Range<Vec<u8>> {
        let Range { start, end } = self.rows();
        // The smallest key after a key is the key and a zero byte.
        let start = after.map_or(start, |after| [after, &[0]].concat());
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: &str, key: &str) -> RowKey {
        RowKey::new(&UserId::new(user).unwrap(), &CapKey::new(key).unwrap())
    }

    #[test]
    fn a_row_key_gives_back_its_user_and_key() {
        for (user, key) in [("u1", "da:77"), ("a/b:{c}%", "campaign:x:y"), ("é😀", "da:\u{a0}")] {
            assert_eq!(RowKey::parse(row(user, key).as_bytes()), Some((user, Cow::Borrowed(key))));
        }
        assert_eq!(RowKey::sibling(row("u1", "da:77").as_bytes(), "c:1"), row("u1", "c:1").as_bytes());
        assert_eq!(RowKey::sibling(row("u1", "c:1").as_bytes(), "da:77"), row("u1", "da:77").as_bytes());
        let mut keys = RowKeys::default();
        keys.push("u1", "c:1");
        keys.push_da("u2", "77");
        assert_eq!((keys.get(0), keys.get(1)), (row("u1", "c:1").as_bytes(), row("u2", "da:77").as_bytes()));
        keys.push_sibling(1, "c:2");
        keys.push_sibling(0, "c:3");
        assert_eq!((keys.get(2), keys.get(3)), (row("u2", "c:2").as_bytes(), row("u1", "c:3").as_bytes()));
        assert_eq!(RowKey::parse(b""), None);
        assert_eq!(RowKey::parse(b"\x05user"), None);
    }

    #[test]
    fn the_bytes_of_a_row_key_never_change() {
        assert_eq!(row("u1", "da:77").as_bytes(), b"\xf0u1\0\x0177");
        assert_eq!(row("u1", "campaign:42").as_bytes(), b"\xf0u1\0campaign:42");
    }

    #[test]
    fn the_rows_of_a_user_by_key_are_in_three_parts() {
        let parts = UserPrefix::new("u1").rows_by_key();
        for (key, part) in
            [("a:1", 0), ("da1:x", 0), ("d:z", 0), ("da:\u{1}", 1), ("da:~", 1), ("da_x:1", 2), ("db:1", 2)]
        {
            let row_key = [b"\xf0u1\0".as_slice(), key.replacen("da:", "\u{1}", 1).as_bytes()].concat();
            let within: Vec<_> = parts.iter().map(|range| range.contains(&row_key)).collect();
            assert_eq!(within, [part == 0, part == 1, part == 2], "{key}");
        }
    }

    #[test]
    fn the_rows_of_a_user_are_a_range_that_no_other_user_is_in() {
        let range = UserPrefix::new("u1").rows();
        assert!(range.contains(&row("u1", "da:77").0.into_vec()));
        assert!(range.contains(&row("u1", "zz:\u{10FFFF}").0.into_vec()));
        let mut longer = row("u10", "da:1").0.into_vec();
        longer[0] = range.start[0];
        assert!(!range.contains(&longer));
    }
}
