//! The parts of the cluster against a real broker: the log's topic, membership, who owns what.

mod members;
mod process;
mod topic;
