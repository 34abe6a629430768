//! Who is told that something was changed can use it: the answer waits for the proxy in this
//! process.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tokio::{sync::watch, time::timeout};

use crate::{fleet::Fleet, store::Store};

/// How long an answer waits at most: the change is made all the same.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// What an answer waits for.
#[derive(Clone)]
pub(crate) struct Settling {
    head: watch::Receiver<u64>,
    fleet: Fleet,
}

impl Settling {
    pub(crate) fn new(store: &Store, fleet: Fleet) -> Self {
        Self { head: store.head().subscribe(), fleet }
    }

    fn revision(&self) -> u64 {
        *self.head.borrow()
    }
}

/// Holds an answer back until what was committed since its request is served by the proxy in this
/// process. Proxies elsewhere are not waited for: `lockgate get proxies` tells what each runs.
pub(crate) async fn settled(State(it): State<Settling>, request: Request, next: Next) -> Response {
    let before = it.revision();
    let answer = next.run(request).await;
    let after = it.revision();
    if after > before && timeout(SETTLE_WITHIN, it.fleet.settled(after)).await.is_err() {
        tracing::warn!(revision = after, "the proxy in this process lags behind");
    }
    answer
}
