//! Quantiles of very many numbers in little memory.

/// Up to this many numbers their quantiles are exact.
const EXACT: usize = 8_192;
/// Buckets of each power of two: beyond [`EXACT`] numbers a quantile is off by less than 1 %.
const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;

/// Takes numbers, and gives quantiles of them.
#[derive(Debug)]
pub(super) enum QuantileSketch {
    /// Every number.
    Exact(Vec<u64>),
    /// How many numbers there are in each bucket.
    Buckets(Box<[u64]>),
}

impl Default for QuantileSketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl QuantileSketch {
    pub(super) fn add(&mut self, number: u64) {
        match self {
            Self::Exact(numbers) if numbers.len() < EXACT => numbers.push(number),
            Self::Exact(numbers) => {
                let mut buckets = vec![0u64; (64 - STEP_BITS as usize + 1) * STEPS].into_boxed_slice();
                numbers.iter().for_each(|&number| buckets[bucket_of(number)] += 1);
                buckets[bucket_of(number)] += 1;
                *self = Self::Buckets(buckets);
            }
            Self::Buckets(buckets) => buckets[bucket_of(number)] += 1,
        }
    }

    /// The smallest number that at least so many of a hundred do not exceed; `None` without numbers.
    pub(super) fn percentile(&mut self, percent: u64) -> Option<u64> {
        let rank = |count: u64| (count * percent).div_ceil(100).max(1);
        match self {
            Self::Exact(numbers) => {
                numbers.sort_unstable();
                numbers.get(rank(numbers.len() as u64) as usize - 1).copied()
            }
            Self::Buckets(buckets) => {
                let mut left = rank(buckets.iter().sum());
                buckets.iter().enumerate().find_map(|(bucket, &count)| {
                    left = left.saturating_sub(count);
                    (left == 0).then(|| highest_of(bucket))
                })
            }
        }
    }
}

/// Numbers below [`STEPS`] have a bucket each; above, each power of two is cut into [`STEPS`].
fn bucket_of(number: u64) -> usize {
    let shift = (u64::BITS - number.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = (number >> shift) as usize;
    shift as usize * STEPS + step
}

/// The highest number of a bucket.
fn highest_of(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1) as u32;
    let step = (bucket - shift as usize * STEPS) as u64;
    (step << shift) | ((1u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_has_its_highest_number_and_not_the_next() {
        for number in (0..100_000).chain((10..63).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1])) {
            let bucket = bucket_of(number);
            let highest = highest_of(bucket);
            assert_eq!(bucket_of(highest), bucket, "{number}");
            assert_eq!(bucket_of(highest + 1), bucket + 1, "{number}");
            assert!(highest >= number && highest - number <= number / 100, "{number}: {highest}");
        }
    }

    proptest! {
        #[test]
        fn a_percentile_is_that_of_the_sorted_numbers(mut numbers in prop::collection::vec(0u64..5_000_000_000, 1..30_000)) {
            let mut sketch = QuantileSketch::default();
            numbers.iter().for_each(|&number| sketch.add(number));
            numbers.sort_unstable();
            for percent in [1, 50, 95, 100] {
                let exact = numbers[(numbers.len() * percent).div_ceil(100).max(1) - 1];
                let found = sketch.percentile(percent as u64).unwrap();
                if numbers.len() <= EXACT {
                    prop_assert_eq!(found, exact);
                } else {
                    prop_assert!(found >= exact && found - exact <= exact / 100, "{} {}", found, exact);
                }
            }
        }
    }
}
