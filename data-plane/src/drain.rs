//! How a proxy ends: not ready, a pause for load balancers, no more accepting, running calls
//! to their end, and then the process's threads.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use tokio::sync::watch;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Shared by everything that must know that the end has begun, or that holds it up.
#[derive(Clone, Debug)]
pub(crate) struct Drain(Arc<State>);

#[derive(Debug)]
struct State {
    leaving: AtomicBool,
    requested: CancellationToken,
    closing: watch::Sender<bool>,
    work: TaskTracker,
    delay: Duration,
    limit: Duration,
}

impl Drain {
    /// `delay`: from not ready to the end of accepting; `limit`: from there to the end.
    pub(crate) fn new(delay: Duration, limit: Duration) -> Self {
        Self(Arc::new(State {
            leaving: AtomicBool::new(false),
            requested: CancellationToken::new(),
            closing: watch::Sender::new(false),
            work: TaskTracker::new(),
            delay,
            limit,
        }))
    }

    /// Asks the proxy to end; a second request does nothing.
    pub(crate) fn request(&self) {
        self.0.leaving.store(true, Relaxed);
        self.0.requested.cancel();
    }

    /// Whether load balancers should send no more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Relaxed)
    }

    /// True once no connection is accepted any more.
    pub(crate) fn closing(&self) -> ShutdownWatch {
        self.0.closing.subscribe()
    }

    /// `work`, or nothing once no connection is accepted any more.
    pub(crate) async fn unless_closing<T>(
        &self,
        work: &mut (impl Future<Output = T> + Unpin),
    ) -> Option<T> {
        let mut closing = self.closing();
        let mut closed = pin!(closing.wait_for(|closing| *closing));
        let mut told: Option<Waker> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut *work).poll(cx) {
                return Poll::Ready(Some(done));
            }
            // To look at the signal takes a lock that all connections share. Whoever is told
            // already need not look before the end has begun.
            let is_told = told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if is_told && !self.is_leaving() {
                return Poll::Pending;
            }
            told = Some(cx.waker().clone());
            closed.as_mut().poll(cx).map(|_| None)
        })
        .await
    }

    /// Something that the end waits for while it is held.
    pub(crate) fn hold(&self) -> TaskTrackerToken {
        self.0.work.token()
    }

    /// Goes through the phases; returns when all work is done or the limit is reached.
    async fn run(&self) {
        self.0.requested.cancelled().await;
        tracing::info!(delay = ?self.0.delay, "draining");
        tokio::time::sleep(self.0.delay).await;
        self.0.closing.send_replace(true);
        self.0.work.close();
        if tokio::time::timeout(self.0.limit, self.0.work.wait()).await.is_err() {
            tracing::warn!(connections = self.0.work.len(), "drain limit reached, closing");
        }
    }
}

/// Runs the drain as pingora's signal source, so that pingora stops only when it is over.
pub(crate) struct DrainWatch<F> {
    pub(crate) drain: Drain,
    /// Run after the last call: closes what calls needed.
    pub(crate) finish: F,
}

#[async_trait]
impl<F, R> ShutdownSignalWatch for DrainWatch<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = ()> + Send,
{
    async fn recv(&self) -> ShutdownSignal {
        self.drain.run().await;
        if tokio::time::timeout(Duration::from_secs(8), (self.finish)()).await.is_err() {
            tracing::warn!("upstreams did not end in time");
        }
        ShutdownSignal::GracefulTerminate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_held_work_but_not_for_ever() {
        let drain = Drain::new(Duration::from_secs(1), Duration::from_secs(30));
        let held = drain.hold();
        let run = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run().await }
        });
        drain.request();
        assert!(drain.is_leaving());
        assert_eq!(drain.unless_closing(&mut std::future::pending::<()>()).await, None);
        assert!(!run.is_finished());
        drop(held);
        run.await.unwrap();

        let drain = Drain::new(Duration::ZERO, Duration::from_secs(30));
        let _held = drain.hold();
        drain.request();
        let start = tokio::time::Instant::now();
        drain.run().await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }
}
