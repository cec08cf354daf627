//! What `/status` and `/readyz` say of the mirror and of the Kafka adapter.

use crate::service::BackFill;
use crate::stream::Streams;
use crate::{kafka, mirror, shard};
use serde_json::{Value, json};

/// What `/readyz?kafka` goes by.
pub(super) fn back_fill(kafka: kafka::Handle) -> impl Fn() -> BackFill + Send + Sync {
    move || {
        let kafka::Progress { caught_up, lag, stopped } = kafka.progress();
        BackFill { caught_up, lag, stopped }
    }
}

/// What `/status` says of the mirror: of several units their sum, and the state of the one that is the furthest from being live.
pub(super) fn mirror_status(mirrors: Vec<mirror::Handle>, health: shard::Health) -> impl Fn() -> Value + Send + Sync {
    move || {
        let now = mirror::Snapshot::joined(mirrors.iter().map(mirror::Handle::snapshot));
        // Ended where it stood.
        let state = if health.is_superseded() { "off" } else { now.state.as_str() };
        let passes: serde_json::Map<_, _> =
            now.passes.iter().map(|(reason, count)| ((*reason).to_owned(), Value::from(*count))).collect();
        json!({
            "state": state, "pending": now.pending, "lag_ms": now.lag_ms, "full_passes": passes,
            "sets": now.sets, "removes": now.removes, "errors": now.errors,
        })
    }
}

/// What `/status` says of the streams of cap changes.
pub(super) fn streams_status(streams: Streams) -> impl Fn() -> Value + Send + Sync {
    move || json!({"open": streams.open_count()})
}

/// What `/status` says of the Kafka adapter.
pub(super) fn kafka_status(kafka: kafka::Handle) -> impl Fn() -> Value + Send + Sync {
    move || {
        let kafka::Progress { caught_up, lag, stopped } = kafka.progress();
        json!({"caught_up": caught_up, "lag": lag, "stopped_partitions": stopped})
    }
}
