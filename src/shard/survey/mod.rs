//! Questions about all users: reach, frequency, what a rule would do. A *survey* reads all logs once, on a thread that gives
//! way to others, and answers every question that was asked by then.
//!
//! ```text
//! service    asks, and runs the thread
//! board      who asked what, which pass is under way, the answers that are kept
//! pass       one pass over all shards
//! counters   which counter wants which log
//! top        the keys of a level that reach most users
//! pace       pauses where others wait for a core
//! question   what is asked and answered
//! ```

mod board;
mod counters;
mod pace;
mod pass;
mod question;
mod service;
mod top;

pub use board::{Progress, SurveyBusy};
pub use question::{Answer, Found, Question};
pub(in crate::shard) use service::Surveyor;
pub use service::{Asked, Survey};
pub use top::{TopKey, TopReach};
