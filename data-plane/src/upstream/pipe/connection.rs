//! The calls on one pipe: sorts what the server says by id and token.

mod asking;
mod hearing;
mod ticket;

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc::{self, error::TrySendError};

use self::hearing::number;
pub(crate) use self::ticket::Ticket;
use super::{
    asked::Asked,
    turns::{Turn, Turns},
};
use crate::{
    mcp::Message,
    upstream::{
        SessionKey,
        era::{self, Speech},
        failure::CallFailure,
        fetch::Bounds,
        health::Health,
        question,
    },
};

/// Messages that may wait for the server to read them.
const INPUT_MAX: usize = 1024;
/// Notifications that may wait for a slow client; more are dropped.
const NOTIFICATIONS_MAX: usize = 64;

/// What a call hears: messages as they came, or why there will be none.
type Heard = Result<Message, CallFailure>;

/// The state of a pipe.
#[derive(Debug)]
pub(crate) struct Connection {
    me: Weak<Self>,
    input: mpsc::Sender<Bytes>,
    /// Whose it is; `None`: everybody's.
    owner: Option<SessionKey>,
    next_id: AtomicU64,
    calls: DashMap<u64, Caller>,
    turns: Turns,
    asked: Asked,
    ended: OnceLock<CallFailure>,
    health: Arc<Health>,
    /// Whether the server may send several messages in one.
    has_batches: AtomicBool,
    /// Whether it was ever asked for more than to tell of itself.
    is_used: AtomicBool,
}

/// Where a call hears its messages.
#[derive(Clone, Debug)]
struct Caller {
    heard: mpsc::Sender<Heard>,
    /// `None` of our own requests.
    work: Option<Work>,
    /// Something was asked that this call may have meant, and nobody knows.
    is_suspect: bool,
}

/// What the server works on.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A tool, a prompt, and so on.
    Call(Arc<str>),
    /// A task is waited for. What such a server asks names the task.
    Task(Arc<str>),
}

impl Connection {
    /// A connection and the messages that have to be sent to the server. `owner` is whose
    /// calls alone are made on it.
    pub(crate) fn new(
        health: Arc<Health>,
        owner: Option<SessionKey>,
    ) -> (Arc<Self>, mpsc::Receiver<Bytes>) {
        let (input, fed) = mpsc::channel(INPUT_MAX);
        let connection = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            input,
            owner,
            next_id: AtomicU64::new(1),
            calls: DashMap::new(),
            turns: Turns::default(),
            asked: Asked::default(),
            ended: OnceLock::new(),
            health,
            has_batches: AtomicBool::new(false),
            is_used: AtomicBool::new(false),
        });
        (connection, fed)
    }

    /// From now on the server may send several messages in one.
    pub(super) fn take_batches(&self) {
        self.has_batches.store(true, Ordering::Relaxed);
    }

    /// Whether all calls come from one client: whatever the server asks, it asks that one.
    pub(super) fn is_of_one_client(&self) -> bool {
        matches!(self.owner, Some(SessionKey::Client(_)))
    }

    /// What is known of the server.
    pub(in crate::upstream) fn health(&self) -> &Health {
        &self.health
    }

    /// Whether everybody's calls are made on it.
    pub(super) fn is_of_all(&self) -> bool {
        self.owner.is_none()
    }

    /// Why the server is gone; `None` while it lives.
    pub(crate) fn ended(&self) -> Option<&CallFailure> {
        self.ended.get()
    }

    /// The server is gone. Only the first reason is told.
    pub(crate) fn end(&self, failure: CallFailure) {
        // The calls that wait see it when their channel closes.
        self.ended.set(failure).ok();
        self.calls.clear();
    }

    /// The server did not take the request with this id (raw JSON).
    pub(crate) fn fail(&self, id: Option<&[u8]>, failure: CallFailure) {
        let call = id.and_then(number).and_then(|id| self.calls.remove(&id));
        if let Some((_, call)) = call {
            call.heard.try_send(Err(failure)).ok();
        }
    }

    /// Whether the answer to the request with this id (raw JSON) is waited for.
    pub(crate) fn is_awaited(&self, id: Option<&[u8]>) -> bool {
        id.and_then(number).is_some_and(|id| self.calls.contains_key(&id))
    }

    /// Waits for the turn of a call; most need none.
    pub(super) async fn turn_of(&self, work: &Work) -> Option<Turn> {
        match work {
            Work::Call(tool) if !self.is_of_one_client() => self.turns.wait(tool).await,
            Work::Call(_) | Work::Task(_) => None,
        }
    }

    /// The turn of a call that is being asked, if nobody has it.
    pub(super) fn free_turn(&self) -> Option<Turn> {
        if self.is_of_one_client() { None } else { self.turns.free() }
    }

    /// Takes a place for a call; nothing is sent yet.
    pub(crate) fn ticket(self: &Arc<Self>, work: Option<Work>) -> Ticket {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // One place more than notifications may take: the answer always finds room.
        let (sender, heard) = mpsc::channel(NOTIFICATIONS_MAX + 1);
        if work.is_some() {
            self.is_used.store(true, Ordering::Relaxed);
        }
        self.calls.insert(id, Caller { heard: sender, work, is_suspect: false });
        Ticket::new(Arc::clone(self), id, heard)
    }

    /// Whether it has had calls, which may have changed what it shows.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Sends a request of our own and waits for its answer.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        speech: impl Into<Speech>,
        (method, members): (&str, &str),
        bounds: &Bounds,
    ) -> Result<Message, CallFailure> {
        let mut ticket = self.ticket(None);
        ticket.send(era::request(speech, &ticket.id.to_string(), method, members).into())?;
        bounds.within(ticket.answer()).await?
    }

    /// Sends a request of our own whose answer does not matter.
    pub(crate) fn say(&self, method: &str, members: &str) -> Result<(), CallFailure> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        self.notify(era::request(Speech::Legacy, &id, method, members).into())
    }

    /// Sends what nobody waits for.
    pub(crate) fn notify(&self, message: Bytes) -> Result<(), CallFailure> {
        self.input.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => CallFailure::Busy(INPUT_MAX),
            TrySendError::Closed(_) => self.gone(),
        })
    }

    fn gone(&self) -> CallFailure {
        let closed = || CallFailure::Broken("its input is closed".to_owned());
        self.ended().cloned().unwrap_or_else(closed)
    }

    /// A server that does not read its answers is told by the next call's failure.
    pub(super) fn refuse(&self, message: &Message) {
        self.notify(question::refusal_of(message)).ok();
    }
}

#[cfg(test)]
mod tests;
