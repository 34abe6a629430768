//! What an upstream keeps for each client session or principal: opened on first use, shared by
//! its calls, ended when nobody holds it any more.

use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahash::AHashMap;
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
    /// Milliseconds after `born` at which it was last used.
    used: AtomicU64,
    /// Whose it is, where that matters.
    subject: OnceLock<Box<str>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { slot: Slot::default(), used: AtomicU64::new(0), subject: OnceLock::new() }
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

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self, held: &Held<T>) {
        held.used.store(self.now(), Ordering::Relaxed);
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

    /// Notes whose the session of `key` will be.
    pub(crate) fn belongs_to(&self, key: &SessionKey, subject: &str) {
        let held = Arc::clone(&self.open.entry(key.clone()).or_default());
        self.touch(&held);
        held.subject.get_or_init(|| subject.into());
    }

    /// Ends a session so that `subject` can have one: the longest unused of who has most, if
    /// that is more than `subject` has, or of its own.
    pub(crate) fn make_room(&self, subject: &str) {
        let mut counts: AHashMap<Box<str>, usize> = AHashMap::new();
        let mut idle = Vec::new();
        for entry in &self.open {
            let (Some(owner), Some(session)) = (entry.subject.get(), entry.slot.peek()) else {
                continue;
            };
            *counts.entry(owner.clone()).or_default() += 1;
            // One handle is the slot's, one is ours.
            if Arc::strong_count(&session) <= 2 {
                idle.push((owner.clone(), entry.used.load(Ordering::Relaxed), entry.key().clone()));
            }
        }
        let count = |owner: &str| counts.get(owner).copied().unwrap_or_default();
        let own = count(subject);
        let taken =
            idle.into_iter().filter(|(owner, ..)| **owner == *subject || count(owner) > own);
        let last = taken.min_by_key(|(owner, used, _)| (usize::MAX - count(owner), *used));
        if let Some((owner, _, key)) = last {
            tracing::info!(subject = &*owner, "ended an idle session, since others need its place");
            self.close(&key);
        }
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
        let (now, idle) = (self.now(), idle.as_millis());
        self.open.retain(|_, held| {
            let unused = now.saturating_sub(held.used.load(Ordering::Relaxed));
            // One handle is the slot's, one is ours.
            let in_use = held.slot.peek().is_some_and(|session| Arc::strong_count(&session) > 2);
            in_use || u128::from(unused) < idle
        });
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.iter().filter(|held| held.slot.peek().is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> SessionKey {
        SessionKey::Client([number; 16])
    }

    async fn open(sessions: &Sessions<u8>, number: u8, subject: &str) -> Arc<u8> {
        sessions.belongs_to(&key(number), subject);
        let open = || async move { Ok(Arc::new(number)) };
        let session = sessions.get(&key(number), Handle::current, open).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        session
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_most_makes_room_with_what_is_idle() {
        let sessions = Sessions::default();
        let busy = open(&sessions, 1, "ann").await;
        for number in 2..=3 {
            open(&sessions, number, "ann").await;
        }
        for number in 4..=5 {
            open(&sessions, number, "bob").await;
        }
        sessions.make_room("eve");
        assert!(sessions.peek(&key(2)).is_none() && sessions.len() == 4);
        // Nobody has more than she, so it is one of her own.
        sessions.make_room("ann");
        assert!(sessions.peek(&key(3)).is_none() && sessions.len() == 3);
        sessions.make_room("ann");
        assert!(sessions.peek(&key(4)).is_none());
        sessions.make_room("ann");
        assert_eq!((sessions.len(), *busy), (2, 1), "who is busy or has no more stays");
    }
}
