//! What is told of the memory budget: in the log at the start, in `/status` and in the metrics.

use crate::allocator;
use crate::config::{BudgetSource, MemoryPlan, Part};
use crate::http::App;
use crate::service::StatusBoard;
use crate::shard::Units;
use crate::store::ByteSize;
use metrics::{describe_gauge, gauge};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// From so much on freed memory may be kept for a second; it is little of the budget then, and handing it back takes time.
const AMPLE: ByteSize = ByteSize::mib(1024);

/// Has the allocator keep less where there is little.
pub(super) fn prepare(plan: &MemoryPlan) {
    if plan.budget < AMPLE {
        allocator::give_back_at_once();
    }
}

/// Says what the budget is, and what to do where the container may not bear it.
pub(super) fn announce(plan: &MemoryPlan) {
    let (budget, source) = (plan.budget, plan.source.name());
    tracing::info!(%budget, source, "the process keeps to this budget of memory");
    if let Some(limit) = &plan.container
        && plan.budget.0 > limit.bytes / 4 * 3
    {
        let (file, limit) = (limit.file.display(), ByteSize(limit.bytes >> 10 << 10));
        let advice = match plan.source {
            BudgetSource::Setting(_) => "lower --memory, or raise the container's limit",
            _ => "raise the container's limit",
        };
        tracing::warn!(%budget, %limit, %file, "the budget leaves the container little memory for anything else: {advice}");
    }
}

/// Says what the metrics of the budget mean.
pub(super) fn describe_metrics() {
    describe_gauge!("freqcap_memory_budget_bytes", "Memory that the whole process is to keep to");
    describe_gauge!(
        "freqcap_memory_share_bytes",
        "What a part may use of the memory budget; `process` is what is left"
    );
}

/// Puts the budget and its shares on the board and among the metrics.
pub(super) fn publish(plan: MemoryPlan, board: &StatusBoard, app: &Arc<App>, units: &Units) {
    describe_metrics();
    gauge!("freqcap_memory_budget_bytes").set(plan.budget.0 as f64);
    for share in plan.shares() {
        gauge!("freqcap_memory_share_bytes", "part" => share.part.name()).set(share.bytes as f64);
    }
    gauge!("freqcap_memory_share_bytes", "part" => "process").set(plan.process_bytes() as f64);
    // Not the app itself, which has the board: it would never end, nor would the writers that it can send to.
    let (app, stores) = (Arc::downgrade(app), units.stores().cloned().collect::<Vec<_>>());
    board.add("memory", move || {
        let overlays: Vec<_> = stores.iter().map(|store| store.overlay_figures()).collect();
        let rows = overlays.iter().map(|overlay| overlay.active_bytes + overlay.frozen_bytes).sum::<usize>();
        let filters = overlays.iter().map(|overlay| overlay.filter_bytes).sum::<usize>();
        // All units share the cache and the limit of the write buffers.
        let first = stores.first();
        told(&plan, |part| match part {
            Part::BlockCache => first.map(|store| store.cache_bytes()),
            Part::Overlay => Some(rows as u64),
            Part::ExistenceFilter => Some(filters as u64),
            Part::WriteBuffers => first.map(|store| store.write_buffer_bytes()),
            Part::Bodies => app.upgrade().map(|app| app.body_bytes()),
            Part::Mailboxes => app.upgrade().map(|app| app.mailbox_bytes()),
            Part::Reads => app.upgrade().map(|app| app.read_bytes()),
            Part::Connections | Part::Snapshots => None,
        })
    });
}

/// The part `memory` of `/status`; who answers adds what the process has in use.
fn told(plan: &MemoryPlan, used: impl Fn(Part) -> Option<u64>) -> Value {
    let mut shares = Map::new();
    for share in plan.shares() {
        let set_by = share.set_by.as_deref().unwrap_or("budget");
        let told = json!({"bytes": share.bytes, "set_by": set_by, "used_bytes": used(share.part)});
        shares.insert(share.part.name().to_owned(), told);
    }
    let container =
        plan.container.as_ref().map(|limit| json!({"limit_bytes": limit.bytes, "file": limit.file.to_string_lossy()}));
    json!({
        "budget_bytes": plan.budget.0,
        "set_by": plan.source.name(),
        "container": container,
        "process_bytes": plan.process_bytes(),
        "shares": shares,
    })
}
