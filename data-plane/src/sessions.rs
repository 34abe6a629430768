//! The live state of legacy sessions: what runs, how to stop it, and which ids have ended.
//!
//! A session's facts are sealed in its id, so a session that is not in this
//! table (after a restart, or of another proxy) is adopted without a word. What an idle one wants
//! to hear of is kept aside.

mod asleep;
mod audience;
mod calls;
pub(crate) mod channel;
pub(crate) mod listeners;
mod questions;
mod tasks;
mod watching;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering::Relaxed},
};

use dashmap::DashMap;
use parking_lot::Mutex;

use self::{
    asleep::{Asleep, Sleepers},
    calls::Running,
    channel::{Channel, End},
    listeners::Listeners,
    questions::Questions,
    watching::{Lists, Subscriptions},
};
pub(crate) use self::{
    calls::{Ticket, TicketError},
    questions::Asks,
    watching::Subscription,
};
use crate::tasks::KnownTasks;

/// In the place of the last use of a session that must be looked up again.
const OVER: i64 = i64::MIN;

/// Ended ids beyond which those of other proxies are not taken.
const ENDED: usize = 1_000_000;

/// The random part of a session id.
pub(crate) type SessionId = [u8; 16];

/// All sessions that this proxy owns.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: DashMap<SessionId, Arc<Live>>,
    /// Ids that were deleted, until the configuration tells of them, or the time in ms at which
    /// they would have expired.
    ended: DashMap<SessionId, i64>,
    sleepers: Sleepers,
    listeners: Arc<Listeners>,
    /// The proxy ends: streams are told to come back elsewhere.
    is_leaving: Arc<AtomicBool>,
}

/// One session that has been used here.
#[derive(Debug)]
pub(crate) struct Live {
    /// Or [`OVER`].
    last_used_ms: AtomicI64,
    /// It was idle, and upstreams do not know yet that it is back.
    is_woken: AtomicBool,
    calls: Mutex<Vec<Running>>,
    questions: Mutex<Questions>,
    channel: Mutex<Channel>,
    is_leaving: Arc<AtomicBool>,
    lists: Mutex<Option<Lists>>,
    subscriptions: Mutex<Subscriptions>,
    level: AtomicU8,
    tasks: Mutex<KnownTasks>,
}

impl Sessions {
    /// The session's live state; `None` if the session was deleted. If there is none it is made,
    /// from what is kept of a session that was idle: nobody meets one that is half awake.
    pub(crate) fn enter(&self, id: SessionId, now_ms: i64) -> Option<Arc<Live>> {
        if let Some(live) = self.live.get(&id).filter(|live| live.touch(now_ms)) {
            return Some(Arc::clone(&live));
        }
        let entry = self.live.entry(id);
        // With the place locked: who ends a session notes that before it looks for the place.
        if self.ended.contains_key(&id) {
            return None;
        }
        let live = entry.or_insert_with(|| {
            let asleep = self.sleepers.take(&id);
            Arc::new(Live::new(now_ms, Arc::clone(&self.is_leaving), asleep))
        });
        Some(Arc::clone(&live))
    }

    /// Ends a session for good: its calls are cancelled, its id is refused until it expires. Tells
    /// whether it was in use.
    pub(crate) fn end(&self, id: SessionId, expire_ms: i64) -> bool {
        self.ended.insert(id, expire_ms);
        let live = self.live.remove(&id);
        if let Some((_, live)) = &live {
            live.end();
        }
        self.sleepers.take(&id);
        live.is_some()
    }

    /// How many more ended ids of other proxies are kept.
    pub(crate) fn room_for_ended(&self) -> usize {
        ENDED.saturating_sub(self.ended.len())
    }

    /// Ends the live sessions that `has_ended` knows, which it gives. Their ids are refused by
    /// whoever told of them.
    pub(crate) fn end_where(&self, has_ended: impl Fn(&SessionId) -> bool) -> Vec<SessionId> {
        let mut ended = Vec::new();
        // Before the others, so that none of them wakes in between.
        self.sleepers.end_where(&has_ended);
        self.live.retain(|id, live| {
            let ends = has_ended(id);
            if ends {
                live.end();
                ended.push(*id);
            }
            !ends
        });
        ended
    }

    /// Forgets ended ids that have expired or that others refuse, who say so by `is_known`, and
    /// sessions idle since `idle_since_ms`, which it gives.
    pub(crate) fn sweep(
        &self,
        now_ms: i64,
        idle_since_ms: i64,
        is_known: impl Fn(&SessionId) -> bool,
    ) -> Vec<SessionId> {
        self.ended.retain(|id, expire_ms| *expire_ms > now_ms && !is_known(id));
        let mut idle = Vec::new();
        self.live.retain(|id, live| {
            let is_read = live.prune_streams();
            live.tasks.lock().prune();
            if is_read {
                return true;
            }
            let Some(since_ms) = live.rest(idle_since_ms) else { return true };
            if let Some(asleep) = live.fall_asleep(since_ms) {
                self.sleepers.add(*id, asleep);
            }
            idle.push(*id);
            false
        });
        self.sleepers.prune(now_ms);
        idle
    }

    /// The proxy ends: clients that listen are told to come back, which leads them elsewhere.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Relaxed);
        self.live.iter().for_each(|live| live.end_streams(End::Leaving));
        self.listeners.end_all();
    }

    /// How many modern clients listen.
    pub(crate) fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }
}

impl Live {
    fn new(now_ms: i64, is_leaving: Arc<AtomicBool>, asleep: Option<Asleep>) -> Self {
        let is_woken = AtomicBool::new(asleep.is_some());
        let asleep = asleep.unwrap_or_default();
        let missed = asleep.missed();
        let Asleep { since_ms: _, level, subscriptions, tasks } = asleep;
        Self {
            last_used_ms: AtomicI64::new(now_ms),
            is_woken,
            calls: Mutex::default(),
            questions: Mutex::default(),
            channel: Mutex::new(Channel::after(missed)),
            is_leaving,
            lists: Mutex::default(),
            subscriptions: Mutex::new(subscriptions.into_iter().map(|it| (it, None)).collect()),
            level: AtomicU8::new(level),
            tasks: Mutex::new(tasks),
        }
    }

    /// Notes a use without the table; false if the session must be looked up again.
    pub(crate) fn touch(&self, now_ms: i64) -> bool {
        let used = |last_ms| (last_ms != OVER).then_some(now_ms);
        self.last_used_ms.fetch_update(Relaxed, Relaxed, used).is_ok()
    }

    /// Ends it for now, unless somebody has used it since; gives when that was last. Whoever still
    /// holds it must look it up again, and whoever has just used it keeps it.
    fn rest(&self, idle_since_ms: i64) -> Option<i64> {
        let calls = self.calls.lock();
        let last_ms = self.last_used_ms.load(Relaxed);
        let is_idle = last_ms <= idle_since_ms && calls.is_empty();
        let is_over =
            || self.last_used_ms.compare_exchange(last_ms, OVER, Relaxed, Relaxed).is_ok();
        (is_idle && is_over()).then_some(last_ms)
    }

    fn has_ended(&self) -> bool {
        self.last_used_ms.load(Relaxed) == OVER
    }

    fn end(&self) {
        let calls = self.calls.lock();
        self.last_used_ms.store(OVER, Relaxed);
        calls.iter().for_each(|call| call.cancel.fire());
        drop(calls);
        self.forget_all_questions();
        self.subscriptions.lock().clear();
        self.end_streams(End::Done);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_session_that_was_deleted_elsewhere_ends_here_too() {
        let sessions = Sessions::default();
        let (gone, stays) =
            (sessions.enter([1; 16], 0).unwrap(), sessions.enter([2; 16], 0).unwrap());
        assert_eq!(sessions.end_where(|id| *id == [1; 16]), [[1; 16]]);
        assert!(!gone.touch(1) && stays.touch(1));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_deleted_session_stays_deleted_until_its_id_expires() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let ticket = live.begin(Bytes::from_static(b"1"), 2).unwrap();
        sessions.end([1; 16], 100);
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(ticket.poll_cancelled(&cx).is_ready());
        assert_eq!(live.begin(Bytes::from_static(b"2"), 2).unwrap_err(), TicketError::Ended);
        assert!(sessions.enter([1; 16], 50).is_none());
        assert!(sessions.sweep(99, 0, |_| false).is_empty());
        assert!(sessions.enter([1; 16], 99).is_none());
        sessions.sweep(101, 0, |_| false);
        assert!(sessions.ended.is_empty());
        sessions.end([1; 16], 100);
        sessions.sweep(99, 0, |id| *id == [1; 16]);
        assert!(sessions.ended.is_empty());
    }

    #[test]
    fn who_has_just_used_a_session_keeps_it() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    sessions.sweep(10, 5, |_| false);
                }
            });
            let mut live = live;
            for now_ms in 0..100_000 {
                // Between old times, of which it may be swept, and a new one.
                let now_ms = if now_ms % 2 == 0 { now_ms % 5 } else { 10 };
                if !live.touch(now_ms) {
                    live = sessions.enter([1; 16], now_ms).unwrap();
                }
                if now_ms == 10 {
                    assert!(live.begin(Bytes::from_static(b"1"), 2).is_ok());
                }
            }
            stop.store(true, Relaxed);
        });
    }

    #[test]
    fn idle_sessions_are_swept_but_not_while_they_work() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        sessions.enter([2; 16], 0).unwrap();
        let ticket = live.begin(Bytes::from_static(b"1"), 2).unwrap();
        assert_eq!(sessions.sweep(10, 5, |_| false), [[2; 16]]);
        drop(ticket);
        live.touch(7);
        assert!(sessions.sweep(10, 5, |_| false).is_empty());
        assert_eq!(sessions.sweep(20, 15, |_| false), [[1; 16]]);
        assert_eq!(sessions.len(), 0);
    }
}
