//! Background work by name. Nothing else in this crate spawns.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long tasks may take to end after they were told to.
const GRACE: Duration = Duration::from_secs(10);

/// The running tasks of one control plane. Clones are handles to the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: Arc<Mutex<Option<&'static str>>>,
}

/// A task ended although nobody had asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the background task `{0}` ended: this is a bug, see the log above")]
pub struct TaskEnded(pub &'static str);

impl Default for Tasks {
    fn default() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), failed: Arc::default() }
    }
}

impl Tasks {
    /// Ends when the tasks must.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task for the whole life of the control plane. It must watch
    /// [`Tasks::stop`]; if it ends or panics before, everything stops.
    pub fn run(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), Arc::clone(&self.failed));
        let watch = Watch { name, stop, failed };
        self.tracker.spawn(async move {
            let _watch = watch;
            task.await;
        });
    }

    /// Runs a task that may end whenever it is done, e.g. one connection.
    pub fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// The first task that ended before its time, if one did.
    pub fn failure(&self) -> Option<TaskEnded> {
        self.failed.lock().map(TaskEnded)
    }

    /// Tells all tasks to end and waits for them, at most 10 s.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(GRACE, self.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = self.tracker.len(), "some background tasks did not end in time");
        }
    }
}

/// Notices the end of a task, panics included.
struct Watch {
    name: &'static str,
    stop: CancellationToken,
    failed: Arc<Mutex<Option<&'static str>>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.stop.is_cancelled() {
            return;
        }
        tracing::error!(task = self.name, "a background task ended before its time");
        self.failed.lock().get_or_insert(self.name);
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_stops_everything() {
        let tasks = Tasks::default();
        tasks.run("short", async {});
        tasks.stop().cancelled().await;
        assert_eq!(tasks.failure(), Some(TaskEnded("short")));
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_failure() {
        let tasks = Tasks::default();
        let stop = tasks.stop();
        tasks.run("long", async move { stop.cancelled().await });
        tasks.shutdown().await;
        assert_eq!(tasks.failure(), None);
    }
}
