//! Where a user lives: one of 256 shards, for ever.

/// How many shards there are. Part of the format on disk.
pub const SHARDS: usize = 256;

/// A shard: what is locked, written by one, moved and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The shard of a user: what Kafka's default partitioner gives for 256 partitions, so that a topic keyed by
    /// user with 2^k partitions lines up with the shards.
    pub fn of_user(user: &[u8]) -> Self {
        Self(((murmur2(user) & 0x7fff_ffff) % SHARDS as u32) as u8)
    }

    /// All shards, in order.
    pub fn all() -> impl Iterator<Item = ShardId> {
        (0..=u8::MAX).map(ShardId)
    }

    /// The number as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Some of the shards: those that a store, a writer or a mirror works for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ShardSet([u64; SHARDS / 64]);

impl ShardSet {
    /// No shard.
    pub const NONE: ShardSet = ShardSet([0; SHARDS / 64]);
    /// All 256 shards.
    pub const ALL: ShardSet = ShardSet([u64::MAX; SHARDS / 64]);

    /// Whether the shard is in the set.
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0[shard.index() / 64] >> (shard.index() % 64) & 1 == 1
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        self.0[shard.index() / 64] |= 1 << (shard.index() % 64);
    }

    /// Removes a shard.
    pub fn remove(&mut self, shard: ShardId) {
        self.0[shard.index() / 64] &= !(1 << (shard.index() % 64));
    }

    /// How many shards are in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no shard is in the set.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The shards of one of `partitions` partitions of a topic keyed by user; 2^k of them, 256 at most.
    pub fn of_partition(partition: usize, partitions: usize) -> Self {
        ShardId::all().filter(|shard| shard.index() % partitions == partition).collect()
    }

    /// All shards that are not in this set.
    pub fn complement(&self) -> Self {
        Self(self.0.map(|word| !word))
    }

    /// How many shards of this set come before one: of all shards it is the shard's number.
    pub fn position(&self, shard: ShardId) -> usize {
        self.iter().take_while(|&other| other < shard).count()
    }

    /// Those that the writer number `writer` of `writers` has: the shards are dealt out in turn. Part of the format on
    /// disk, where a writer's mark says how far it is.
    pub fn of_writer(&self, writer: usize, writers: usize) -> Self {
        self.iter().enumerate().filter(|(position, _)| position % writers == writer).map(|(_, shard)| shard).collect()
    }

    /// The shards in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + use<> {
        let mut words = self.0;
        std::iter::from_fn(move || {
            let at = words.iter().position(|&word| word != 0)?;
            let bit = words[at].trailing_zeros();
            words[at] &= words[at] - 1;
            Some(ShardId((at * 64) as u8 + bit as u8))
        })
    }
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::NONE;
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

impl std::fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(|shard| shard.0)).finish()
    }
}

/// MurmurHash2, 32 bits, with the seed of Apache Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (i, &byte) in rest.iter().enumerate() {
        h ^= u32::from(byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_shards_has_those_put_in_in_ascending_order() {
        let shards = [255, 0, 64, 63, 128, 1].map(ShardId);
        let mut set: ShardSet = shards.into_iter().collect();
        assert_eq!(set.iter().map(|shard| shard.0).collect::<Vec<_>>(), [0, 1, 63, 64, 128, 255]);
        assert_eq!((set.len(), set.is_empty()), (6, false));
        assert!(ShardId::all().all(|shard| set.contains(shard) == shards.contains(&shard)));
        shards.into_iter().for_each(|shard| set.remove(shard));
        assert_eq!(set, ShardSet::NONE);
        assert!(ShardSet::ALL.iter().eq(ShardId::all()) && ShardSet::ALL.len() == SHARDS);
    }

    #[test]
    fn the_shards_of_all_partitions_and_those_of_all_writers_are_each_shard_once() {
        for partitions in [1, 2, 32, 256] {
            let sets: Vec<_> = (0..partitions).map(|partition| ShardSet::of_partition(partition, partitions)).collect();
            let shards: ShardSet = sets.iter().flat_map(ShardSet::iter).collect();
            assert_eq!((shards, sets.iter().map(ShardSet::len).sum::<usize>()), (ShardSet::ALL, SHARDS));
            let of_writers = (0..3).map(|writer| sets[0].of_writer(writer, 3));
            assert_eq!(of_writers.clone().flat_map(|shards| shards.iter()).collect::<ShardSet>(), sets[0]);
            assert_eq!(of_writers.map(|shards| shards.len()).sum::<usize>(), SHARDS / partitions);
            assert_eq!(sets[0].complement().len(), SHARDS - SHARDS / partitions);
        }
        assert!(ShardSet::ALL.of_writer(1, 3).iter().all(|shard| shard.index() % 3 == 1));
        assert_eq!(ShardSet::of_partition(1, 2).position(ShardId(5)), 2);
    }

    /// The values that Kafka's own UtilsTest publishes.
    #[test]
    fn murmur2_is_kafkas() {
        let vectors: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (data, hash) in vectors {
            assert_eq!(murmur2(data) as i32, hash, "{}", String::from_utf8_lossy(data));
        }
    }
}
