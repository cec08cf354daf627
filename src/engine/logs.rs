//! What a command needs of the logs that it touches, wherever they are: in a writer's working set, or all in memory.

use crate::model::{Log, TsMs};

/// The logs of one user that a command may touch, as reads and writes see them.
pub trait Logs {
    /// Names a log.
    type At: Copy + PartialEq;

    /// The log there; an empty one where there is none.
    fn log(&self, at: Self::At) -> &Log;

    /// Changes a log; what follows from it is judged anew.
    fn change(&mut self, at: Self::At, change: impl FnOnce(&mut Log));

    /// Until when the enforced rules cap the key by its log as it is now.
    fn capped_until(&self, at: Self::At) -> Option<TsMs>;

    /// The log of another key of the user whose log `at` is.
    fn sibling(&self, at: Self::At, key: &str) -> Option<Self::At>;
}
