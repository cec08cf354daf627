//! How many users a key reaches and how often, and what a rule would do: sums over the logs of all users.

use super::TsMs;

/// Bins of a histogram of frequencies: 1 to 9, and 10 and more.
pub const FREQUENCY_BINS: usize = 10;
/// Hours of the curve of a day.
pub const REACH_HOURS: usize = 24;
/// An hour, in ms.
pub const HOUR_MS: u64 = 3_600_000;

/// Some users, and their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserEvents {
    /// How many users.
    pub users: u64,
    /// How many events they have.
    pub impressions: u64,
}

impl UserEvents {
    /// Adds others.
    pub fn merge(&mut self, others: &Self) {
        self.users += others.users;
        self.impressions = self.impressions.saturating_add(others.impressions);
    }

    /// Adds a user with so many events.
    pub fn add(&mut self, impressions: u64) {
        self.users += 1;
        self.impressions = self.impressions.saturating_add(impressions);
    }
}

/// Users by how many events each has: bin `n` has those with `n + 1`, the last one those with more, too.
pub type Histogram = [UserEvents; FREQUENCY_BINS];

/// Adds a user with so many events, at least one.
pub fn add_to_histogram(histogram: &mut Histogram, impressions: u64) {
    let bin = usize::try_from(impressions).unwrap_or(usize::MAX).clamp(1, FREQUENCY_BINS) - 1;
    histogram[bin].add(impressions);
}

/// How many users a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Users with an event in the window, and these events.
    pub reached: UserEvents,
    /// Users who have exactly as many events as the limit allows, in the window of its rule.
    pub at_limit: u64,
    /// Users who have more, and by how many events.
    pub over: UserEvents,
    /// Users for whom an enforced rule caps the key now.
    pub capped_now: u64,
    /// Users whose events in the window may be more than are held.
    pub saturated: u64,
}

impl Reach {
    /// Adds what is counted of other users.
    pub fn merge(&mut self, others: &Self) {
        self.reached.merge(&others.reached);
        self.at_limit += others.at_limit;
        self.over.merge(&others.over);
        self.capped_now += others.capped_now;
        self.saturated += others.saturated;
    }

    /// Events a user; 0 without users.
    pub fn average(&self) -> f64 {
        share(self.reached.impressions, self.reached.users)
    }
}

/// `part / whole`; 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// An hour of the day that ends at the instant asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReachHour {
    /// Users with an event in this hour, and these events.
    pub reached: UserEvents,
    /// Users with an event in this hour, or in one before it.
    pub cumulative: u64,
}

/// What a rule that is not in force would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trial {
    /// Users with an event of the rule's kind in its window now, on a key that it names.
    pub users: u64,
    /// The same by user and key: a rule on a level counts each key for itself.
    pub histogram: Histogram,
    /// User and key pairs that no enforced rule caps now, and that would be capped.
    pub newly_capped: u64,
    /// Pairs that are capped now, and would not be.
    pub no_longer_capped: u64,
    /// Events of the kind that are held, on keys that it names.
    pub held: u64,
    /// Of these, those that the rule would have refused, had it been in force all the time. What is refused does not count.
    pub refused: u64,
    /// When the caps of the newly capped would end: half of them by then, and 95 of a hundred.
    pub until: Option<Quantiles>,
}

/// Two quantiles of instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: TsMs,
    /// The 95th percentile.
    pub p95: TsMs,
}
