//! The live state of legacy sessions: what runs, how to stop it, and which ids have ended.
//!
//! A session's facts are sealed in its id, so a session that is not in this
//! table (after a restart, or of another proxy) is adopted without a word. What an idle one wants
//! to hear of is kept aside.

mod asleep;
mod audience;
pub(crate) mod channel;
pub(crate) mod listeners;
mod questions;
mod tasks;
mod watching;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use self::{
    asleep::{Asleep, Sleepers},
    channel::{Channel, End, Reader},
    listeners::Listeners,
    questions::Questions,
    watching::{Lists, Subscriptions},
};
pub(crate) use self::{questions::Asks, watching::Subscription};
use crate::{tasks::KnownTasks, upstream::Question};

/// The random part of a session id.
pub(crate) type SessionId = [u8; 16];

/// All sessions that this proxy owns.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: DashMap<SessionId, Arc<Live>>,
    /// Ids deleted here, until the configuration tells of them, or the time in ms at which they
    /// would have expired.
    ended: DashMap<SessionId, i64>,
    sleepers: Sleepers,
    listeners: Arc<Listeners>,
    /// The proxy ends: streams are told to come back elsewhere.
    is_leaving: Arc<AtomicBool>,
}

/// One session that has been used here.
#[derive(Debug)]
pub(crate) struct Live {
    last_used_ms: AtomicI64,
    /// It was idle, and upstreams do not know yet that it is back.
    is_woken: AtomicBool,
    ended: AtomicBool,
    calls: Mutex<Vec<Running>>,
    questions: Mutex<Questions>,
    channel: Mutex<Channel>,
    is_leaving: Arc<AtomicBool>,
    lists: Mutex<Option<Lists>>,
    subscriptions: Mutex<Subscriptions>,
    level: AtomicU8,
    tasks: Mutex<KnownTasks>,
}

#[derive(Debug)]
struct Running {
    id: Bytes,
    cancel: Arc<Cancel>,
}

#[derive(Debug, Default)]
struct Cancel {
    is_cancelled: AtomicBool,
    waker: AtomicWaker,
    taken_back: Mutex<TakenBack>,
}

/// What a call has to tell its client of questions that nobody waits for any more.
#[derive(Debug, Default)]
struct TakenBack {
    told: Vec<Bytes>,
    /// The call tells nothing more.
    is_over: bool,
}

/// Why a call cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TicketError {
    TooMany,
    DuplicateId,
    Ended,
}

/// A running call's place in its session.
#[derive(Debug)]
pub(crate) struct Ticket {
    live: Arc<Live>,
    cancel: Arc<Cancel>,
}

impl Sessions {
    /// The session's live state; `None` if the session was deleted. If there is none it is made,
    /// from what is kept of a session that was idle: nobody meets one that is half awake.
    pub(crate) fn enter(&self, id: SessionId, now_ms: i64) -> Option<Arc<Live>> {
        if let Some(live) = self.live.get(&id) {
            live.last_used_ms.store(now_ms, Relaxed);
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

    /// Ends a session for good: its calls are cancelled, its id is refused until it expires.
    pub(crate) fn end(&self, id: SessionId, expire_ms: i64) {
        self.ended.insert(id, expire_ms);
        if let Some((_, live)) = self.live.remove(&id) {
            live.end();
        }
        self.sleepers.take(&id);
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
            let keep = is_read
                || live.last_used_ms.load(Relaxed) > idle_since_ms
                || !live.calls.lock().is_empty();
            if !keep {
                // Whoever still holds it must look it up again.
                live.ended.store(true, Relaxed);
                if let Some(asleep) = live.fall_asleep() {
                    self.sleepers.add(*id, asleep);
                }
                idle.push(*id);
            }
            keep
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
            ended: AtomicBool::new(false),
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
        self.last_used_ms.store(now_ms, Relaxed);
        !self.ended.load(Relaxed)
    }

    /// Takes a place for a call of the request `id`.
    pub(crate) fn begin(self: &Arc<Self>, id: Bytes, limit: usize) -> Result<Ticket, TicketError> {
        let mut calls = self.calls.lock();
        if self.ended.load(Relaxed) {
            return Err(TicketError::Ended);
        }
        if calls.len() >= limit {
            return Err(TicketError::TooMany);
        }
        if calls.iter().any(|call| call.id == id) {
            return Err(TicketError::DuplicateId);
        }
        let cancel = Arc::new(Cancel::default());
        calls.push(Running { id, cancel: Arc::clone(&cancel) });
        Ok(Ticket { live: Arc::clone(self), cancel })
    }

    /// Cancels the call of the request `id`; one that has ended is no error.
    pub(crate) fn cancel(&self, id: &[u8]) {
        let calls = self.calls.lock();
        if let Some(call) = calls.iter().find(|call| call.id == id) {
            call.cancel.fire();
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    fn end(&self) {
        let calls = self.calls.lock();
        self.ended.store(true, Relaxed);
        calls.iter().for_each(|call| call.cancel.fire());
        drop(calls);
        self.forget_all_questions();
        self.subscriptions.lock().clear();
        self.end_streams(End::Done);
    }
}

impl Cancel {
    fn fire(&self) {
        self.is_cancelled.store(true, std::sync::atomic::Ordering::Release);
        self.waker.wake();
    }

    /// Lets the call tell its client; gives the message back if the call is over.
    fn take_back(&self, told: Bytes) -> Option<Bytes> {
        let mut taken_back = self.taken_back.lock();
        if taken_back.is_over {
            return Some(told);
        }
        taken_back.told.push(told);
        drop(taken_back);
        self.waker.wake();
        None
    }

    /// The call is over. Gives what it has not told.
    fn close(&self) -> Vec<Bytes> {
        let mut taken_back = self.taken_back.lock();
        taken_back.is_over = true;
        std::mem::take(&mut taken_back.told)
    }
}

impl Ticket {
    /// Takes a question of this call's upstream: the request to send to the client, if it can
    /// be asked.
    pub(crate) fn ask(&self, question: Question, asks: Asks) -> Option<Bytes> {
        self.live.ask(question, Some(self), asks)
    }

    /// The same on a stream of the session, if its client reads one: the call has none.
    pub(crate) fn ask_aside(&self, question: Question, asks: Asks) {
        if self.live.is_listening()
            && let Some(request) = self.live.ask(question, Some(self), asks)
        {
            self.tell_aside(request);
        }
    }

    /// Tells the client on a stream of the session.
    pub(crate) fn tell_aside(&self, message: Bytes) {
        self.live.tell(message);
    }

    /// This call's upstream takes back its request `id` (raw JSON): what to tell the client.
    pub(crate) fn withdraw(&self, id: &[u8]) -> Option<Bytes> {
        self.live.withdraw(id, self)
    }

    /// What to tell the client of a question that has expired. Who polls for cancellation is
    /// woken when there is something.
    pub(crate) fn taken_back(&self) -> Option<Bytes> {
        self.cancel.taken_back.lock().told.pop()
    }

    /// The call is over: what to tell the client of its questions that are open still. What
    /// becomes of others later it is told elsewhere.
    pub(crate) fn take_back(&self) -> Vec<Bytes> {
        [self.cancel.close(), self.live.forget_questions(self)].concat()
    }

    /// Opens the stream on which this call's messages travel.
    pub(crate) fn attach(&self) -> Reader {
        self.live.attach_call()
    }

    /// Ready once the call is cancelled.
    pub(crate) fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        self.cancel.waker.register(cx.waker());
        if self.cancel.is_cancelled.load(std::sync::atomic::Ordering::Acquire) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut calls = self.live.calls.lock();
        if let Some(at) = calls.iter().position(|call| Arc::ptr_eq(&call.cancel, &self.cancel)) {
            calls.swap_remove(at);
        }
        drop(calls);
        // Whoever could tell the client is gone.
        drop(self.take_back());
    }
}

#[cfg(test)]
mod tests {
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
    fn a_session_bounds_its_calls_and_gives_places_back() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let first = live.begin(Bytes::from_static(b"1"), 2).unwrap();
        assert_eq!(live.begin(Bytes::from_static(b"1"), 2).unwrap_err(), TicketError::DuplicateId);
        let _second = live.begin(Bytes::from_static(b"\"1\""), 2).unwrap();
        assert_eq!(live.begin(Bytes::from_static(b"3"), 2).unwrap_err(), TicketError::TooMany);
        drop(first);
        assert!(live.begin(Bytes::from_static(b"3"), 2).is_ok());
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

    #[test]
    fn a_call_is_cancelled_by_its_id() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let one = live.begin(Bytes::from_static(b"1"), 9).unwrap();
        let two = live.begin(Bytes::from_static(b"2"), 9).unwrap();
        live.cancel(b"2");
        live.cancel(b"unknown");
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(one.poll_cancelled(&cx).is_pending());
        assert!(two.poll_cancelled(&cx).is_ready());
    }
}
