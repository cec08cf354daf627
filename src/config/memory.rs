//! The memory budget: how much the process may use, and how its parts share it.
//!
//! Every part has a weight: its share of a budget of 1 GiB. A budget is split in proportion to the weights, within a
//! minimum and maximum for each part. A part with a setting of its own gets exactly that, and the others share the
//! rest. Some memory is kept for the process itself: code, threads, what the allocator cannot give back, compaction.

use super::cgroup::ContainerLimit;
use crate::store::ByteSize;

/// The budget without a setting and without a container limit.
pub const DEFAULT_BUDGET: ByteSize = ByteSize::mib(1024);
/// The smallest budget.
pub const LEAST_BUDGET: ByteSize = ByteSize::mib(128);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A part of the process that has a share of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Blocks of files, cached by RocksDB.
    BlockCache,
    /// Logs that changed and are not in a file yet.
    Overlay,
    /// Filters of which logs are on disk.
    ExistenceFilter,
    /// RocksDB's memtables.
    WriteBuffers,
    /// Request bodies under way.
    Bodies,
    /// Rows and answers of reads under way.
    Reads,
    /// Events that wait for a writer.
    Mailboxes,
    /// Buffers of connections, and headers that are not whole yet.
    Connections,
    /// Parts of files on their way into the bucket of snapshots.
    Snapshots,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 9] = [
        Part::BlockCache,
        Part::Overlay,
        Part::ExistenceFilter,
        Part::WriteBuffers,
        Part::Bodies,
        Part::Reads,
        Part::Mailboxes,
        Part::Connections,
        Part::Snapshots,
    ];

    /// The name in `/status` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Part::BlockCache => "block_cache",
            Part::Overlay => "overlay",
            Part::ExistenceFilter => "existence_filter",
            Part::WriteBuffers => "write_buffers",
            Part::Bodies => "bodies",
            Part::Reads => "reads",
            Part::Mailboxes => "mailboxes",
            Part::Connections => "connections",
            Part::Snapshots => "snapshots",
        }
    }

    /// The setting that sets its size.
    pub fn setting(self) -> &'static str {
        match self {
            Part::BlockCache => "block_cache",
            Part::Overlay => "overlay_size",
            Part::ExistenceFilter => "existence_filter",
            Part::WriteBuffers => "write_buffer",
            Part::Bodies => "max_bodies",
            Part::Reads => "read_memory",
            Part::Mailboxes => "mailbox_memory",
            Part::Connections => "connection_memory",
            Part::Snapshots => "snapshot_memory",
        }
    }

    /// Its share of 1 GiB; the sum is what [`own`] leaves.
    fn weight(self) -> u64 {
        MIB * match self {
            Part::BlockCache => 384,
            Part::Overlay => 128,
            Part::ExistenceFilter => 112,
            Part::WriteBuffers => 96,
            Part::Connections => 88,
            Part::Bodies => 64,
            Part::Reads => 40,
            Part::Mailboxes => 32,
            // What it takes does not grow with the budget: see `Planner::least`.
            Part::Snapshots => 0,
        }
    }

    /// With less, the part does not work, or is of no use.
    pub(super) fn least(self) -> u64 {
        MIB * match self {
            Part::BlockCache => 12,
            Part::ExistenceFilter => 8,
            Part::Overlay => 6,
            Part::WriteBuffers | Part::Reads | Part::Connections => 4,
            Part::Bodies | Part::Mailboxes => 2,
            Part::Snapshots => 0,
        }
    }

    /// With more, the part does not get better.
    fn most(self) -> u64 {
        MIB * match self {
            // The cache may use whatever is left.
            Part::BlockCache => 1 << 24,
            // The larger the overlay, the longer a start after a crash takes.
            Part::Overlay => 512,
            Part::ExistenceFilter => 4096,
            // The write-ahead log is limited to 128 MiB, which limits the buffers.
            Part::WriteBuffers => 96,
            Part::Bodies | Part::Reads | Part::Snapshots => 256,
            Part::Mailboxes | Part::Connections => 128,
        }
    }
}

/// Bytes of RocksDB's write buffers for each byte of the setting `write_buffer`. That is the size of the journal's
/// buffer; there are up to two of it, and smaller ones of the other tables.
pub(super) const WRITE_BUFFERS: u64 = 3;

/// Bytes of the buffers of an idle connection.
const CONNECTION_BYTES: u64 = 16 * KIB;

/// What one takes besides that is encrypted: a record of TLS each way.
const TLS_BYTES: u64 = 32 * KIB;

/// Minimum bytes for headers that are not whole yet, of all connections together.
const HEADERS_LEAST: u64 = MIB;

/// Where the budget comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetSource {
    /// A setting, as its source writes it.
    Setting(String),
    /// Half of the container's limit.
    Container,
    /// [`DEFAULT_BUDGET`].
    Default,
}

/// One part's share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub part: Part,
    /// Maximum bytes that the part may use.
    pub bytes: u64,
    /// The setting that sets it, as its source writes it; `None` if it follows from the budget.
    pub set_by: Option<String>,
}

/// A budget and its shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Maximum memory of the whole process.
    pub budget: ByteSize,
    /// Where the budget comes from.
    pub source: BudgetSource,
    /// The container's limit, if there is one.
    pub container: Option<ContainerLimit>,
    shares: [Share; Part::ALL.len()],
    /// The number of connections is set, so it does not follow from the budget.
    pub(super) connections_are_set: bool,
}

/// The settings do not fit in the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLittle {
    /// The smallest budget that fits.
    pub needed: ByteSize,
}

/// Bytes kept for the process itself.
pub(super) fn own(budget: u64) -> u64 {
    48 * MIB + budget / 32
}

/// Splits a budget. `fixed` returns the size of a part that is set, `least` a minimum that follows from other settings.
pub(super) fn split(
    budget: u64,
    fixed: impl Fn(Part) -> Option<u64>,
    least: impl Fn(Part) -> u64,
) -> Result<[u64; Part::ALL.len()], TooLittle> {
    let available = budget.saturating_sub(own(budget));
    let smallest = shares_at(0, &fixed, &least);
    if sum(&smallest) > available {
        return Err(TooLittle { needed: needed_for(sum(&smallest)) });
    }
    // Finds the largest scale whose shares fit. Their sum never falls as the scale grows.
    let (mut fits, mut exceeds) = (0, 1 << (SCALE_BITS + 14));
    while exceeds - fits > 1 {
        let middle = fits + (exceeds - fits) / 2;
        if sum(&shares_at(middle, &fixed, &least)) <= available { fits = middle } else { exceeds = middle }
    }
    Ok(shares_at(fits, &fixed, &least))
}

/// The scale of a 1 GiB budget, as a power of two.
const SCALE_BITS: u32 = 20;

/// The share of each part at a scale: proportional to its weight, in whole KiB, within its minimum and maximum.
fn shares_at(scale: u64, fixed: &impl Fn(Part) -> Option<u64>, least: &impl Fn(Part) -> u64) -> [u64; Part::ALL.len()] {
    Part::ALL.map(|part| {
        fixed(part).unwrap_or_else(|| {
            let proportional = u64::try_from((u128::from(part.weight()) * u128::from(scale)) >> SCALE_BITS);
            let wanted = proportional.unwrap_or(u64::MAX) / KIB * KIB;
            wanted.min(part.most()).max(part.least()).max(least(part))
        })
    })
}

fn sum(shares: &[u64]) -> u64 {
    shares.iter().fold(0, |sum, share| sum.saturating_add(*share))
}

/// The smallest budget in whole MiB with room for shares of this size.
fn needed_for(shares: u64) -> ByteSize {
    let first = shares.saturating_add(48 * MIB).div_ceil(MIB).saturating_mul(32).div_ceil(31);
    let mut needed = first;
    while needed < first + 8 && needed.checked_mul(MIB).is_some_and(|bytes| bytes - own(bytes) < shares) {
        needed += 1;
    }
    ByteSize(needed.saturating_mul(MIB)).max(LEAST_BUDGET)
}

impl MemoryPlan {
    pub(super) fn new(
        (budget, source): (ByteSize, BudgetSource),
        container: Option<ContainerLimit>,
        fixed: impl Fn(Part) -> Option<(u64, String)>,
        least: impl Fn(Part) -> u64,
    ) -> Result<Self, TooLittle> {
        let bytes = split(budget.0, |part| fixed(part).map(|(bytes, _)| bytes), least)?;
        let mut shares = Part::ALL.map(|part| Share { part, bytes: 0, set_by: fixed(part).map(|(_, by)| by) });
        for (share, bytes) in shares.iter_mut().zip(bytes) {
            share.bytes = bytes;
        }
        Ok(Self { budget, source, container, shares, connections_are_set: false })
    }

    /// The shares of all parts.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The share of a part.
    pub fn bytes(&self, part: Part) -> ByteSize {
        self.shares.iter().find(|share| share.part == part).map_or(ByteSize(0), |share| ByteSize(share.bytes))
    }

    /// Bytes left for the process itself.
    pub fn process_bytes(&self) -> u64 {
        self.shares.iter().fold(self.budget.0, |left, share| left.saturating_sub(share.bytes))
    }

    /// The size of the journal's write buffer.
    pub fn write_buffer(&self) -> ByteSize {
        ByteSize(self.bytes(Part::WriteBuffers).0 / WRITE_BUFFERS)
    }
}

impl Default for MemoryPlan {
    /// The default budget, without settings.
    fn default() -> Self {
        let shares = Part::ALL.map(|part| Share { part, bytes: part.weight(), set_by: None });
        let (budget, source) = (DEFAULT_BUDGET, BudgetSource::Default);
        Self { budget, source, container: None, shares, connections_are_set: false }
    }
}

pub(super) fn buffers_of(connections: usize) -> u64 {
    CONNECTION_BYTES.saturating_mul(connections as u64)
}

impl MemoryPlan {
    /// How many connections there may be, if the setting asks for `max`, and the bytes for headers that are not whole yet.
    pub fn connections(&self, max: usize, are_encrypted: bool) -> (usize, usize) {
        let each = if are_encrypted { CONNECTION_BYTES + TLS_BYTES } else { CONNECTION_BYTES };
        let share = self.bytes(Part::Connections).0;
        // At least a quarter of it is for headers.
        let fit = usize::try_from(share / 4 * 3 / each).unwrap_or(usize::MAX).max(1);
        let connections = if self.connections_are_set { max } else { max.min(fit) };
        let headers = share.saturating_sub(each.saturating_mul(connections as u64)).max(HEADERS_LEAST);
        (connections, usize::try_from(headers).unwrap_or(usize::MAX))
    }
}

impl BudgetSource {
    /// The setting to name if the budget is too small.
    pub(super) fn at(&self) -> &str {
        match self {
            Self::Setting(at) => at,
            Self::Container => "memory (half of the container's limit)",
            Self::Default => "the default of memory",
        }
    }

    /// The name in `/status`.
    pub fn name(&self) -> &str {
        match self {
            Self::Setting(at) => at,
            Self::Container => "container",
            Self::Default => "default",
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
