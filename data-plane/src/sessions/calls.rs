//! The calls that run in a session: a place for each, and how each is cancelled.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::{Asks, Live, channel::Reader};
use crate::upstream::Question;

#[derive(Debug)]
pub(super) struct Running {
    id: Bytes,
    pub(super) cancel: Arc<Cancel>,
}

#[derive(Debug, Default)]
pub(super) struct Cancel {
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
    pub(super) cancel: Arc<Cancel>,
}

impl Live {
    /// Takes a place for a call of the request `id`.
    pub(crate) fn begin(self: &Arc<Self>, id: Bytes, limit: usize) -> Result<Ticket, TicketError> {
        let mut calls = self.calls.lock();
        if self.has_ended() {
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
}

impl Cancel {
    pub(super) fn fire(&self) {
        self.is_cancelled.store(true, Release);
        self.waker.wake();
    }

    /// Lets the call tell its client; gives the message back if the call is over.
    pub(super) fn take_back(&self, told: Bytes) -> Option<Bytes> {
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
        if self.cancel.is_cancelled.load(Acquire) {
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
    use super::{super::Sessions, *};

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
