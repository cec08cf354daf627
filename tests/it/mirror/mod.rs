//! The mirror against real Redis servers: whatever happens to Redis or to the connection, it ends up holding exactly
//! the keys that are capped.

mod cluster;
mod denied;
mod failures;
mod forgets;
mod measure;
mod owner;
mod proxy;
mod state;
mod world;
