//! What an upstream keeps for each client session or principal: opened on first use, shared by
//! its calls, ended when nobody holds it any more.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::{runtime::Handle, time::Instant};

use super::{SessionKey, failure::CallFailure, shared::Slot};

/// All sessions at one upstream.
#[derive(Debug)]
pub(crate) struct Sessions<T> {
    born: Instant,
    open: DashMap<SessionKey, Arc<Held<T>>, ahash::RandomState>,
}

#[derive(Debug)]
struct Held<T> {
    slot: Slot<T>,
    /// Seconds after `born` at which it was last used.
    used: AtomicU64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { slot: Slot::default(), used: AtomicU64::new(0) }
    }
}

impl<T> Default for Sessions<T> {
    fn default() -> Self {
        Self { born: Instant::now(), open: DashMap::default() }
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// The session of `key` for a call that begins, if it is open. From now on it counts as used.
    pub(crate) fn enter(&self, key: &SessionKey) -> Option<Arc<T>> {
        let held = self.held(key)?;
        self.touch(&held);
        held.slot.peek()
    }

    fn touch(&self, held: &Held<T>) {
        held.used.store(self.born.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// The session of `key`; callers that come while `open` runs, on `runtime`, share it.
    pub(crate) async fn get<F>(
        &self,
        key: &SessionKey,
        runtime: impl FnOnce() -> Handle,
        open: impl FnOnce() -> F,
    ) -> Result<Arc<T>, CallFailure>
    where
        F: Future<Output = Result<Arc<T>, CallFailure>> + Send + 'static,
    {
        let held = match self.held(key) {
            Some(held) => held,
            None => Arc::clone(&self.open.entry(key.clone()).or_default()),
        };
        self.touch(&held);
        held.slot.get(runtime, open).await
    }

    /// The session of `key`, if it is open.
    pub(crate) fn peek(&self, key: &SessionKey) -> Option<Arc<T>> {
        self.held(key)?.slot.peek()
    }

    /// The session is of no more use: the next call opens another.
    pub(crate) fn forget(&self, key: &SessionKey, lost: &Arc<T>) {
        if let Some(held) = self.held(key) {
            held.slot.forget(lost);
        }
    }

    fn held(&self, key: &SessionKey) -> Option<Arc<Held<T>>> {
        self.open.get(key).map(|held| Arc::clone(&held))
    }

    /// Ends the session of `key` when its calls are done.
    pub(crate) fn close(&self, key: &SessionKey) {
        if let Some((_, held)) = self.open.remove(key) {
            held.slot.take();
        }
    }

    /// Ends all sessions when their calls are done.
    pub(crate) fn close_all(&self) {
        self.open.clear();
    }

    /// Ends sessions that were not used for `idle` and have no call in flight.
    pub(crate) fn sweep(&self, idle: Duration) {
        let now = self.born.elapsed().as_secs();
        self.open.retain(|_, held| {
            let unused = now.saturating_sub(held.used.load(Ordering::Relaxed));
            // One handle is the slot's, one is ours.
            let in_use = held.slot.peek().is_some_and(|session| Arc::strong_count(&session) > 2);
            in_use || unused < idle.as_secs()
        });
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.iter().filter(|held| held.slot.peek().is_some()).count()
    }
}
