//! Starts components in order, and ends them in reverse order.
//!
//! A component has its options, `run(self, drain)`, a handle that is cheap to clone, and an error of its own. `run` goes on
//! until `drain` is cancelled, then finishes what it has begun and returns. What is not a task, such as a runtime or a unit,
//! ends by a call.

use crate::alarm::Alarm;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The components that run. Where a start fails, [`Supervisor::stop`] undoes what was started before.
pub struct Supervisor<E> {
    /// For its own waiting alone: the runtimes of the components may end before it does.
    runtime: Runtime,
    /// In the order in which they were started. Those of one stage end together.
    stages: Vec<Vec<Component<E>>>,
    alarm: Alarm,
    failed: CancellationToken,
}

struct Component<E> {
    name: &'static str,
    drain: CancellationToken,
    work: Work<E>,
}

enum Work<E> {
    Task { task: JoinHandle<Result<(), E>>, deadline: Duration },
    End(Box<dyn FnOnce() -> Result<(), E>>),
}

/// How a component ended that did not end well.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// Which component.
    pub name: &'static str,
    /// What became of it.
    pub why: Why<E>,
}

/// What became of a component.
#[derive(Debug, PartialEq, Eq)]
pub enum Why<E> {
    /// It says so itself.
    Error(E),
    /// It panicked.
    Panicked,
    /// It did not end in time; it is left behind.
    Late,
}

impl<E: Display + Send + 'static> Supervisor<E> {
    /// A supervisor of nothing yet. A component that panics raises `alarm`, which `/healthz` tells.
    pub fn new(alarm: Alarm) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        Ok(Self { runtime, stages: Vec::new(), alarm, failed: CancellationToken::new() })
    }

    /// Starts a component on a runtime. It ends before all that were started earlier, `deadline` after it is told to at the
    /// latest.
    pub fn start<F>(
        &mut self,
        name: &'static str,
        on: &Handle,
        deadline: Duration,
        run: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        self.stages.push(Vec::new());
        self.start_beside(name, on, deadline, run);
    }

    /// Starts a component that ends together with the one before it.
    pub fn start_beside<F>(
        &mut self,
        name: &'static str,
        on: &Handle,
        deadline: Duration,
        run: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let drain = CancellationToken::new();
        let (run, watched, failed) = (run(drain.clone()), self.alarm.watch(name), self.failed.clone());
        let task = on.spawn(async move {
            let _watched = watched;
            let result = run.await;
            if let Err(error) = &result {
                tracing::debug!(component = name, %error, "a component failed");
                failed.cancel();
            }
            result
        });
        self.add(Component { name, drain, work: Work::Task { task, deadline } });
    }

    /// Adds what runs already and ends by a call, which may block.
    pub fn add_running(&mut self, name: &'static str, end: impl FnOnce() -> Result<(), E> + 'static) {
        self.stages.push(Vec::new());
        self.add(Component { name, drain: CancellationToken::new(), work: Work::End(Box::new(end)) });
    }

    fn add(&mut self, component: Component<E>) {
        match self.stages.last_mut() {
            Some(stage) => stage.push(component),
            None => self.stages.push(vec![component]),
        }
    }

    /// Cancelled once a component has ended with an error. One that panicked does not end the others: the alarm says that
    /// the process is to be restarted.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Waits on this thread.
    pub fn wait<F: Future>(&self, what: F) -> F::Output {
        self.runtime.block_on(what)
    }

    /// Tells a component to end before its turn, and does not wait for it.
    pub fn drain(&self, name: &str) {
        self.stages.iter().flatten().filter(|component| component.name == name).for_each(|one| one.drain.cancel());
    }

    /// Ends all components, the last one first, and says which did not end well, in the order of their ends.
    pub fn stop(self) -> Vec<Failure<E>> {
        let mut failures = Vec::new();
        for stage in self.stages.into_iter().rev() {
            stage.iter().for_each(|component| component.drain.cancel());
            for Component { name, work, .. } in stage {
                let why = match work {
                    Work::End(end) => end().err().map(Why::Error),
                    Work::Task { task, deadline } => self.runtime.block_on(ended(task, deadline)),
                };
                match &why {
                    None | Some(Why::Error(_)) => {}
                    Some(Why::Panicked) => tracing::error!(component = name, "a component ended by a panic"),
                    Some(Why::Late) => tracing::error!(component = name, "a component did not end in time"),
                }
                failures.extend(why.map(|why| Failure { name, why }));
            }
        }
        failures
    }
}

/// Waits for the end of a task.
async fn ended<E>(task: JoinHandle<Result<(), E>>, deadline: Duration) -> Option<Why<E>> {
    match tokio::time::timeout(deadline, task).await {
        Ok(Ok(result)) => result.err().map(Why::Error),
        Ok(Err(_)) => Some(Why::Panicked),
        Err(_) => Some(Why::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const SOON: Duration = Duration::from_secs(20);

    struct World {
        runtime: Runtime,
        alarm: Alarm,
        supervisor: Supervisor<String>,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl World {
        fn new() -> Self {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let alarm = Alarm::default();
            Self { runtime, supervisor: Supervisor::new(alarm.clone()).unwrap(), alarm, told: Arc::default() }
        }

        /// A component that tells of its end.
        fn start(&mut self, name: &'static str, beside: bool) {
            let told = self.told.clone();
            let run = |drain: CancellationToken| async move {
                drain.cancelled().await;
                told.lock().unwrap().push(name.to_owned());
                Ok(())
            };
            match beside {
                true => self.supervisor.start_beside(name, self.runtime.handle(), SOON, run),
                false => self.supervisor.start(name, self.runtime.handle(), SOON, run),
            }
        }
    }

    #[test]
    fn components_end_in_reverse_order_and_those_of_a_stage_together() {
        let mut world = World::new();
        let told = world.told.clone();
        world.supervisor.add_running("unit", move || {
            told.lock().unwrap().push("unit".to_owned());
            Ok(())
        });
        for (name, beside) in [("a", false), ("b", false), ("c", false)] {
            world.start(name, beside);
        }
        assert_eq!(world.supervisor.stop(), []);
        assert_eq!(*world.told.lock().unwrap(), ["c", "b", "a", "unit"]);

        // Two of one stage that wait for each other would never end one after the other.
        let mut world = World::new();
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        for (name, beside) in [("a", false), ("b", true)] {
            let barrier = barrier.clone();
            let run = |drain: CancellationToken| async move {
                drain.cancelled().await;
                barrier.wait().await;
                Ok(())
            };
            match beside {
                true => world.supervisor.start_beside(name, world.runtime.handle(), SOON, run),
                false => world.supervisor.start(name, world.runtime.handle(), SOON, run),
            }
        }
        assert_eq!(world.supervisor.stop(), []);
    }

    #[test]
    fn one_that_fails_is_known_at_once_and_the_others_still_end_in_order() {
        let mut world = World::new();
        world.start("a", false);
        world.supervisor.start("b", world.runtime.handle(), SOON, |_| async { Err("no".to_owned()) });
        world.start("c", false);
        let failed = world.supervisor.failed();
        world.supervisor.wait(async { tokio::time::timeout(SOON, failed.cancelled()).await.unwrap() });
        assert_eq!(world.alarm.raised(), None);
        assert_eq!(world.supervisor.stop(), [Failure { name: "b", why: Why::Error("no".to_owned()) }]);
        assert_eq!(*world.told.lock().unwrap(), ["c", "a"]);
    }

    #[test]
    fn one_that_panics_raises_the_alarm_and_one_that_hangs_is_left_behind() {
        let mut world = World::new();
        world.start("a", false);
        world.supervisor.start("hangs", world.runtime.handle(), Duration::from_millis(20), |_| std::future::pending());
        world.supervisor.start("panics", world.runtime.handle(), SOON, |drain| async move {
            drain.cancelled().await;
            panic!("as the test wants it");
        });
        let failed = world.supervisor.failed();
        let failures = world.supervisor.stop();
        assert_eq!(
            failures,
            [Failure { name: "panics", why: Why::Panicked }, Failure { name: "hangs", why: Why::Late }]
        );
        assert_eq!((world.alarm.raised(), failed.is_cancelled()), (Some("panics"), false));
        assert_eq!(*world.told.lock().unwrap(), ["a"]);
    }

    #[test]
    fn one_can_be_told_to_end_before_its_turn() {
        let mut world = World::new();
        world.start("a", false);
        world.start("b", false);
        world.supervisor.drain("a");
        let told = world.told.clone();
        world.supervisor.wait(async {
            let ended = async {
                while told.lock().unwrap().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(SOON, ended).await.unwrap();
        });
        assert_eq!(world.supervisor.stop(), []);
        assert_eq!(*world.told.lock().unwrap(), ["a", "b"]);
    }
}
