//! The memory budget: how much the process may take in all, and how its parts share it.
//!
//! Every part has a weight: what it gets of a budget of 1 GiB. A budget is split in proportion to the weights, within the
//! least and the most that a part can use; what a setting of its own says is taken as it is, and the others share what is
//! left. Something is kept back for the process itself: code, threads, what the allocator cannot give back, compaction.

use super::cgroup::ContainerLimit;
use crate::store::ByteSize;

/// The budget where nobody says otherwise.
pub const DEFAULT_BUDGET: ByteSize = ByteSize::mib(1024);
/// The smallest budget.
pub const LEAST_BUDGET: ByteSize = ByteSize::mib(128);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What has a share of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Blocks of files, as RocksDB read them.
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
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 8] = [
        Part::BlockCache,
        Part::Overlay,
        Part::ExistenceFilter,
        Part::WriteBuffers,
        Part::Bodies,
        Part::Reads,
        Part::Mailboxes,
        Part::Connections,
    ];

    /// As `/status` and the metrics call it.
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
        }
    }

    /// The setting that it is set by.
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
        }
    }

    /// What it gets of 1 GiB; the sum is what [`own`] leaves of that.
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
        }
    }

    /// With less it does not work, or not well enough to be of use.
    pub(super) fn least(self) -> u64 {
        MIB * match self {
            Part::BlockCache => 12,
            Part::ExistenceFilter => 8,
            Part::Overlay => 6,
            Part::WriteBuffers | Part::Reads | Part::Connections => 4,
            Part::Bodies | Part::Mailboxes => 2,
        }
    }

    /// More would do no good.
    fn most(self) -> u64 {
        MIB * match self {
            // What is not used elsewhere is here.
            Part::BlockCache => 1 << 24,
            // The larger, the longer a start after a crash takes.
            Part::Overlay => 512,
            Part::ExistenceFilter => 4096,
            // The write-ahead log is bounded by 128 MiB, and with it what the buffers can hold.
            Part::WriteBuffers => 96,
            Part::Bodies | Part::Reads => 256,
            Part::Mailboxes | Part::Connections => 128,
        }
    }
}

/// Buffers of RocksDB for each byte of the setting `write_buffer`, which is that of the journal: up to two of it, and the
/// smaller ones of the other tables.
pub(super) const WRITE_BUFFERS: u64 = 3;

/// What the buffers of a connection take that has nothing under way.
const CONNECTION_BYTES: u64 = 16 * KIB;
/// What headers that are not whole yet have together, at least.
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
    /// Whose it is.
    pub part: Part,
    /// The most that the part may take.
    pub bytes: u64,
    /// The setting that says so, as its source writes it; `None` where it follows from the budget.
    pub set_by: Option<String>,
}

/// A budget and its shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What the whole process is to keep to.
    pub budget: ByteSize,
    /// Who said so.
    pub source: BudgetSource,
    /// The container's limit, where there is one.
    pub container: Option<ContainerLimit>,
    shares: [Share; Part::ALL.len()],
    /// Somebody has said how many connections there may be: then it is not for the budget to say.
    pub(super) connections_are_set: bool,
}

/// What is asked for does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLittle {
    /// The least budget with which it would.
    pub needed: ByteSize,
}

/// What is kept for the process itself.
pub(super) fn own(budget: u64) -> u64 {
    48 * MIB + budget / 32
}

/// Splits a budget. `fixed` are the parts that are set, and `least` what others need more than they always do.
pub(super) fn split(
    budget: u64,
    fixed: impl Fn(Part) -> Option<u64>,
    least: impl Fn(Part) -> u64,
) -> Result<[u64; Part::ALL.len()], TooLittle> {
    let least = |part: Part| part.least().max(least(part));
    let share = |part: Part, scale: u64| {
        fixed(part).unwrap_or_else(|| {
            let proportional = u64::try_from((u128::from(part.weight()) * u128::from(scale)) >> SCALE_BITS);
            let wanted = proportional.unwrap_or(u64::MAX) / KIB * KIB;
            wanted.min(part.most()).max(least(part))
        })
    };
    let sum = |scale: u64| Part::ALL.into_iter().fold(0u64, |sum, part| sum.saturating_add(share(part, scale)));
    let left = budget.saturating_sub(own(budget));
    if sum(0) > left {
        return Err(TooLittle { needed: needed_for(sum(0)) });
    }
    // The largest scale whose shares fit: their sum never falls as it grows.
    let (mut fits, mut exceeds) = (0, 1 << (SCALE_BITS + 14));
    while exceeds - fits > 1 {
        let middle = fits + (exceeds - fits) / 2;
        if sum(middle) <= left { fits = middle } else { exceeds = middle }
    }
    Ok(Part::ALL.map(|part| share(part, fits)))
}

/// Of the scale, which is 1 for a budget of 1 GiB.
const SCALE_BITS: u32 = 20;

/// The least budget, in whole MiB, that has room for shares of so many bytes.
fn needed_for(shares: u64) -> ByteSize {
    let mib = shares.saturating_add(48 * MIB).div_ceil(MIB).saturating_mul(32).div_ceil(31);
    let fits = |mib: &u64| (*mib).checked_mul(MIB).is_none_or(|bytes| bytes - own(bytes) >= shares);
    let needed = (mib..mib + 8).find(fits).unwrap_or(mib);
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
        let share = |(part, bytes)| Share { part, bytes, set_by: fixed(part).map(|(_, by)| by) };
        let mut shares = Part::ALL.into_iter().zip(bytes).map(share);
        let shares = Part::ALL.map(|part| shares.next().unwrap_or(Share { part, bytes: 0, set_by: None }));
        Ok(Self { budget, source, container, shares, connections_are_set: false })
    }

    /// What each part may take.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// The share of a part.
    pub fn bytes(&self, part: Part) -> ByteSize {
        self.shares.iter().find(|share| share.part == part).map_or(ByteSize(0), |share| ByteSize(share.bytes))
    }

    /// What is left for the process itself.
    pub fn process_bytes(&self) -> u64 {
        self.shares.iter().fold(self.budget.0, |left, share| left.saturating_sub(share.bytes))
    }

    /// The size of the journal's write buffer.
    pub fn write_buffer(&self) -> ByteSize {
        ByteSize(self.bytes(Part::WriteBuffers).0 / WRITE_BUFFERS)
    }
}

impl Default for MemoryPlan {
    /// The default budget, and nothing set.
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
    pub fn connections(&self, max: usize) -> (usize, usize) {
        let share = self.bytes(Part::Connections).0;
        // At least a quarter of it is for headers.
        let fit = usize::try_from(share / 4 * 3 / CONNECTION_BYTES).unwrap_or(usize::MAX).max(1);
        let connections = if self.connections_are_set { max } else { max.min(fit) };
        let headers = share.saturating_sub(buffers_of(connections)).max(HEADERS_LEAST);
        (connections, usize::try_from(headers).unwrap_or(usize::MAX))
    }
}

impl BudgetSource {
    /// The setting to name where it is too little.
    pub(super) fn at(&self) -> &str {
        match self {
            Self::Setting(at) => at,
            Self::Container => "memory (half of the container's limit)",
            Self::Default => "the default of memory",
        }
    }

    /// As `/status` calls it.
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
