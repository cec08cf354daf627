//! The store in a bucket: taken beside writers, restored after the loss of the disk, one writer at a time.

mod commands;
mod crash;
mod damage;
mod failing;
#[cfg(feature = "kafka")]
mod kafka;
mod mirror;
mod proxy;
mod shipping;
mod way;
mod world;
mod writers;
