//! Makes the memory plan of the settings and the container's limit.

use super::cgroup::ContainerLimit;
use super::error::ConfigError;
use super::memory::{
    BudgetSource, DEFAULT_BUDGET, LEAST_BUDGET, MemoryPlan, Part, TooLittle, WRITE_BUFFERS, buffers_of,
};
use super::memory_settings::MemorySettings;
use super::sources::Sources;
use crate::store::ByteSize;
use crate::{http, snapshot};

/// Files of a snapshot that are uploaded at once, unless a setting says otherwise.
const UPLOADS: u64 = 2;
/// In a smaller budget they have no share: one at a time is uploaded, out of what the process has for itself.
const LEAST_WITH_UPLOADS: ByteSize = ByteSize::mib(256);

/// Minimum bytes of the overlay, and of the write buffers, of each of several units.
const OVERLAY_OF_UNIT: u64 = 256 << 10;
const BUFFERS_OF_UNIT: u64 = WRITE_BUFFERS * (64 << 10);

/// The settings that the plan depends on.
pub(super) struct Planner<'s> {
    pub memory: &'s MemorySettings,
    pub http: &'s http::Settings,
    pub snapshots: &'s snapshot::Settings,
    pub units: usize,
    pub sources: &'s Sources<'s>,
}

impl Planner<'_> {
    /// Shares the budget among the parts, in a container with this limit.
    pub fn plan(&self, container: Option<ContainerLimit>) -> Result<MemoryPlan, ConfigError> {
        let (budget, source) = self.budget(container.as_ref());
        let shared = MemoryPlan::new(
            (budget, source.clone()),
            container,
            |part| self.fixed(part),
            |part| self.least(part, budget),
        );
        let mut plan = shared.map_err(|why| self.too_little(budget, &source, why))?;
        plan.connections_are_set = self.max_connections().is_some();
        Ok(plan)
    }

    /// The number of connections, if it is set.
    fn max_connections(&self) -> Option<usize> {
        self.sources.set_at("max_connections").map(|_| self.http.max_connections.get())
    }

    /// The bytes of a part whose size is set, and where.
    fn fixed(&self, part: Part) -> Option<(u64, String)> {
        let size = self.memory.size_of(part)?;
        let bytes = if part == Part::WriteBuffers { size.0.saturating_mul(WRITE_BUFFERS) } else { size.0 };
        Some((bytes, self.sources.set_at(part.setting())?))
    }

    /// What a part needs by other settings.
    fn least(&self, part: Part, budget: ByteSize) -> u64 {
        match part {
            // The largest body, packed and unpacked.
            Part::Bodies => self.http.max_body.0.saturating_mul(2),
            Part::Connections => self.max_connections().map_or(0, |most| buffers_of(most).saturating_add(part.least())),
            // Of several units each has a part, and with less it does not work.
            Part::Overlay if self.units > 1 => OVERLAY_OF_UNIT * self.units as u64,
            Part::WriteBuffers if self.units > 1 => BUFFERS_OF_UNIT * self.units as u64,
            Part::Snapshots if self.snapshots.snapshots.is_some() && budget >= LEAST_WITH_UPLOADS => {
                UPLOADS * snapshot::PART_BYTES
            }
            _ => 0,
        }
    }

    /// The memory of the process, and which source says so.
    fn budget(&self, container: Option<&ContainerLimit>) -> (ByteSize, BudgetSource) {
        if let (Some(budget), Some(at)) = (self.memory.memory, self.sources.set_at("memory")) {
            return (budget, BudgetSource::Setting(at));
        }
        match container.map(|limit| ByteSize(limit.bytes / 2)) {
            Some(half) if half < DEFAULT_BUDGET => (half.max(LEAST_BUDGET), BudgetSource::Container),
            _ => (DEFAULT_BUDGET, BudgetSource::Default),
        }
    }

    /// The error names every setting that would have to change.
    fn too_little(&self, budget: ByteSize, source: &BudgetSource, why: TooLittle) -> ConfigError {
        let set = Part::ALL.into_iter().filter(|part| self.fixed(*part).is_some()).map(Part::setting);
        let named: Vec<String> =
            set.chain(["max_body", "max_connections", "units"]).filter_map(|name| self.with_value(name)).collect();
        let (at, needed) = (source.at(), why.needed);
        let with = if named.is_empty() { String::new() } else { format!(" with {}", named.join(", ")) };
        ConfigError(format!(
            "{at}: a budget of {budget} is too little{with}: all shares and the process itself take {needed} at least; \
             raise --memory to that, or lower one of them"
        ))
    }

    /// A setting as its source writes it, with its value; `None` where it has its default.
    fn with_value(&self, name: &str) -> Option<String> {
        let at = self.sources.set_at(name)?;
        Some(format!("{at} {}", self.sources.text(name).0))
    }
}
