//! What says that a thread ended by a panic, for good: the process must be restarted.

use std::sync::{Arc, OnceLock};

/// Raised once, never lowered. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Alarm(Arc<OnceLock<String>>);

impl Alarm {
    /// Says whose work ended; the first is remembered.
    pub fn raise(&self, whose: &str) {
        if self.0.set(whose.to_owned()).is_ok() {
            tracing::error!(thread = whose, "a thread ended by a panic: this process must be restarted");
        }
    }

    /// Whose work ended, if anybody's did.
    pub fn raised(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Watches over the thread, or the task, that holds what is returned.
    pub fn watch(&self, whose: impl Into<String>) -> Watched {
        Watched { alarm: self.clone(), whose: whose.into() }
    }
}

/// Raises the alarm where it is dropped by a panic.
#[derive(Debug)]
pub struct Watched {
    alarm: Alarm,
    whose: String,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.alarm.raise(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_raises_it_and_one_that_ended_does_not() {
        let alarm = Alarm::default();
        for (name, panics) in [("good", false), ("bad", true), ("worse", true)] {
            let watched = alarm.watch(name);
            let thread = std::thread::spawn(move || {
                let _watched = watched;
                assert!(!panics, "as the test wants it");
            });
            assert_eq!(thread.join().is_err(), panics);
            assert_eq!(alarm.raised(), (name != "good").then_some("bad"));
        }
    }

    #[tokio::test]
    async fn a_task_that_panicked_raises_it_too() {
        let alarm = Alarm::default();
        let watched = alarm.watch("task");
        let task = tokio::spawn(async move {
            let _watched = watched;
            tokio::task::yield_now().await;
            panic!("as the test wants it");
        });
        assert!(task.await.is_err());
        assert_eq!(alarm.raised(), Some("task"));
    }
}
