//! The mirror against real Redis servers: whatever happens to Redis or to the connection, it ends up holding exactly
//! the keys that are capped.

#[path = "mirror/cluster.rs"]
mod cluster;
#[path = "mirror/denied.rs"]
mod denied;
#[path = "mirror/failures.rs"]
mod failures;
#[path = "mirror/forgets.rs"]
mod forgets;
#[path = "mirror/measure.rs"]
mod measure;
#[path = "mirror/owner.rs"]
mod owner;
#[path = "mirror/proxy.rs"]
mod proxy;
#[path = "support/redis_server.rs"]
mod server;
#[path = "mirror/state.rs"]
mod state;
#[path = "mirror/world.rs"]
mod world;
