//! Who is told of something can use it: answers wait for the proxy in this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::{sync::watch, time::timeout};

use crate::{fleet::Fleet, store::Store};

/// How long an answer waits at most: what was changed is changed all the same.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// What answers wait for.
#[derive(Clone)]
pub(crate) struct Settling {
    head: watch::Receiver<u64>,
    fleet: Fleet,
    /// The newest revision that was waited for in vain, so that a proxy that hangs delays what is
    /// asked after a change, and not all that is ever asked.
    missed: Arc<AtomicU64>,
}

impl Settling {
    pub(crate) fn new(store: &Store, fleet: Fleet) -> Self {
        Self { head: store.head().subscribe(), fleet, missed: Arc::default() }
    }

    async fn settle(&self) {
        let revision = *self.head.borrow();
        if revision <= self.missed.load(Ordering::Relaxed) {
            return;
        }
        if timeout(SETTLE_WITHIN, self.fleet.settled(revision)).await.is_err() {
            self.missed.fetch_max(revision, Ordering::Relaxed);
            tracing::warn!(revision, "the proxy in this process lags behind");
        }
    }
}

/// Holds an answer back until all that it can tell of is served by the proxy in this process: also
/// what others changed, such as a discovery that somebody waits for. Proxies elsewhere are not waited
/// for: `lockgate get proxies` tells what each runs.
pub(crate) async fn settled(State(it): State<Settling>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    it.settle().await;
    answer
}
