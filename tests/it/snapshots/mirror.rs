//! Redis after a restore: what the store lost must not stay there.

use super::world::{World, take};
use crate::support::mirrored::is_mirrored;
use crate::support::redis_server::Server as Redis;
use serde_json::json;
use std::collections::BTreeSet;

#[test]
fn after_a_restore_redis_holds_what_the_restored_store_has() {
    let mut world = World::of_directory();
    world.flags = ["--limit", "1"].map(str::to_owned).to_vec();
    let redis = Redis::start();
    let url = redis.url();
    let flags = ["--redis", url.as_str(), "--snapshot-every", "1h", "--takeover"];
    let server = world.start("data", &flags);
    let users: BTreeSet<String> = ["before", "after"].map(str::to_owned).into();
    server.count(&json!([{"user": "before", "da": "1"}]));
    take(&server);
    // Capped, and lost with the disk.
    server.count(&json!([{"user": "after", "da": "1"}]));
    assert_eq!(is_mirrored(&server, &redis, true, &users).len(), 2);
    server.kill();
    world.lose_disk("data");
    let server = world.start("data", &flags);
    assert_eq!(is_mirrored(&server, &redis, true, &users).len(), 1);
    let passes = &server.ok("/status")["mirror"]["full_passes"];
    assert!(passes.as_object().unwrap().values().any(|count| count.as_u64() > Some(0)), "{passes}");
}
