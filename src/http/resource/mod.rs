//! The handlers, a file a resource. A handler reads its call, has it admitted, has `crate::service` do it, and writes the
//! answer.

pub(super) mod audit;
pub(super) mod cap;
pub(super) mod check;
pub(super) mod events;
pub(super) mod metrics;
pub(super) mod probes;
pub(super) mod reserve;
pub(super) mod rules;
pub(super) mod snapshots;
pub(super) mod status;
pub(super) mod users;
pub(super) mod whoami;
