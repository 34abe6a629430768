//! The calls on one pipe: sorts what the server says by id and token.

mod asking;

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    mcp::{
        Kind, Message, Notice,
        message::{Notification, parse},
        notice,
        object::unquote,
        subscription::subscription_of,
        task,
    },
    upstream::{
        SessionKey,
        audience::Said,
        batch,
        era::{self, Speech},
        failure::CallFailure,
        fetch::Bounds,
        health::Health,
        question,
        spawner::{Ended, Listener},
    },
};

use self::asking::Asking;
use super::{
    asked::{Asked, cancelled},
    turns::{Turn, Turns},
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

/// A call in flight. Dropping it before the answer tells the server that nobody waits.
#[derive(Debug)]
pub(crate) struct Ticket {
    connection: Arc<Connection>,
    /// The call's id on this pipe, and its progress token.
    pub(crate) id: u64,
    heard: mpsc::Receiver<Heard>,
    is_sent: bool,
    is_answered: bool,
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
        });
        (connection, fed)
    }

    /// From now on the server may send several messages in one.
    pub(super) fn take_batches(&self) {
        self.has_batches.store(true, Ordering::Relaxed);
    }

    /// Hears several messages that came in one.
    fn hear_batch(&self, line: &Bytes) {
        let (messages, failure) = batch::readable(line);
        for message in messages {
            self.hear(message);
        }
        if let (Some(failure), Some(call)) = (failure, self.only_call()) {
            call.try_send(Err(failure)).ok();
        }
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
        self.calls.insert(id, Caller { heard: sender, work, is_suspect: false });
        Ticket { connection: Arc::clone(self), id, heard, is_sent: false, is_answered: false }
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

    /// The only call in flight, to which things without a name must belong. Our own requests,
    /// some of which last as long as the pipe, count only where there is nothing else.
    fn only_call(&self) -> Option<mpsc::Sender<Heard>> {
        let is_work = self.calls.iter().any(|call| call.work.is_some());
        let mut calls = self.calls.iter().filter(|call| call.work.is_some() == is_work);
        let only = calls.next().map(|call| call.heard.clone());
        only.filter(|_| calls.next().is_none())
    }

    /// The call that waits for the result of the task that a message belongs to.
    fn call_of_task(&self, message: &Message) -> Option<u64> {
        let task = unquote(task::related(message)?.of(message.text()))?;
        let is_it = |work: &Option<Work>| matches!(work, Some(Work::Task(it)) if **it == *task);
        self.calls.iter().find(|call| is_it(&call.work)).map(|call| *call.key())
    }

    fn heard_by(&self, call: u64) -> Option<mpsc::Sender<Heard>> {
        Some(self.calls.get(&call)?.heard.clone())
    }

    fn hear(&self, message: Message) {
        match &message.kind {
            Kind::Response(_) => self.hear_response(message),
            Kind::Notification(notification) => {
                // A client that reads slowly misses some; there is always room for the answer.
                match self.call_of(&message, notification) {
                    Some(call) if call.capacity() > 1 => drop(call.try_send(Ok(message))),
                    Some(_) => (),
                    None => self.notice(message),
                }
            }
            Kind::Request(_) => self.hear_request(message),
        }
    }

    fn hear_response(&self, message: Message) {
        let id = message.id().and_then(number);
        let late = self.next_id.load(Ordering::Relaxed);
        match id.and_then(|id| self.calls.remove(&id)) {
            Some((_, call)) => {
                self.note_quiet(&call, &message);
                drop(call.heard.try_send(Ok(message)));
            }
            // A late answer to a cancelled call.
            None if id.is_some_and(|id| id < late) => (),
            None => {
                if let Some(call) = self.only_call() {
                    call.try_send(Err(CallFailure::WrongId)).ok();
                }
            }
        }
    }

    fn call_of(
        &self,
        message: &Message,
        notification: &Notification,
    ) -> Option<mpsc::Sender<Heard>> {
        let notice = Notice::of(notification.method.as_str())?;
        // What belongs to a subscription of ours is for who holds it.
        let subscription = subscription_of(message).and_then(number);
        if let Some(heard) = subscription.and_then(|call| self.heard_by(call)) {
            return Some(heard);
        }
        match notice {
            Notice::Progress => {
                let token = notification.params.progress_token?;
                self.heard_by(number(message.raw(token))?)
            }
            Notice::Log if !self.is_of_one_client() => self.only_call(),
            Notice::Cancelled => {
                let asked = cancelled(message)?;
                self.heard_by(self.asked.find(&asked)?.1?)
            }
            Notice::Log | Notice::ElicitationComplete => match self.asking() {
                Asking::Call(call) | Asking::With(call) => self.heard_by(call),
                Asking::Nobody => None,
            },
            Notice::ToolsChanged | Notice::PromptsChanged | Notice::ResourcesChanged => {
                self.health.list_changed(self.owner.as_ref(), notice);
                None
            }
            Notice::ResourceUpdated => {
                // Else it is for the owner alone.
                if self.owner.is_none() {
                    self.health.updated(message);
                }
                None
            }
            Notice::TaskStatus => {
                self.health.task_changed(message);
                None
            }
            Notice::Acknowledged => None,
        }
    }

    /// Passes on what belongs to no call, if it can be said whose it is.
    fn notice(&self, message: Message) {
        let Some(owner) = &self.owner else { return };
        let notice = message.method().and_then(|method| Notice::of(method.as_str()));
        let Some(notice) = notice else {
            return self.health.say(owner, Said::Extension(Box::new(message)));
        };
        match notice {
            Notice::ToolsChanged
            | Notice::PromptsChanged
            | Notice::ResourcesChanged
            | Notice::TaskStatus => (),
            Notice::Progress
            | Notice::Log
            | Notice::Cancelled
            | Notice::ElicitationComplete
            | Notice::ResourceUpdated
            | Notice::Acknowledged => {
                self.health.say(owner, Said::Notice(notice, Box::new(message)));
            }
        }
    }

    /// A server that does not read its answers is told by the next call's failure.
    pub(super) fn refuse(&self, message: &Message) {
        self.notify(question::refusal_of(message)).ok();
    }
}

/// An id as we give it.
fn number(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

impl Listener for Connection {
    fn line(&self, line: Bytes) {
        let is_ours = memchr::memmem::find(&line, b"\"jsonrpc\"").is_some();
        if is_ours && batch::is_batch(&line) && self.has_batches.load(Ordering::Relaxed) {
            return self.hear_batch(&line);
        }
        match parse(line) {
            Ok(message) => self.hear(message),
            // Many servers print their own words among the messages.
            Err(_) if !is_ours => tracing::debug!("a server sent something else than messages"),
            Err(error) => {
                if let Some(call) = self.only_call() {
                    call.try_send(Err(CallFailure::NotJsonRpc(error.to_string()))).ok();
                }
            }
        }
    }

    fn ended(&self, end: Ended) {
        self.end(CallFailure::Exited(end));
    }
}

impl Ticket {
    /// Sends the call's message.
    pub(crate) fn send(&mut self, message: Bytes) -> Result<(), CallFailure> {
        self.connection.notify(message)?;
        self.is_sent = true;
        // The end may have come between taking the ticket and sending.
        match self.connection.ended() {
            Some(_) => Err(self.connection.gone()),
            None => Ok(()),
        }
    }

    /// The next message of this call. Safe to drop while waiting.
    pub(crate) async fn next(&mut self) -> Result<Message, CallFailure> {
        let heard = self.heard.recv().await.unwrap_or_else(|| Err(self.connection.gone()));
        self.is_answered |= match &heard {
            Ok(message) => matches!(message.kind, Kind::Response(_)),
            // Else the server may still be at work on it.
            Err(failure) => !matches!(failure, CallFailure::WrongId | CallFailure::NotJsonRpc(_)),
        };
        heard
    }

    async fn answer(&mut self) -> Result<Message, CallFailure> {
        loop {
            let message = self.next().await?;
            if matches!(message.kind, Kind::Response(_)) {
                return Ok(message);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.connection.calls.remove(&self.id);
        self.heard.close();
        while let Ok(Ok(message)) = self.heard.try_recv() {
            if matches!(message.kind, Kind::Request(_)) {
                self.connection.unheard(message);
            }
        }
        if self.is_sent && !self.is_answered {
            let cancelled = notice::cancelled(self.id.to_string().as_bytes());
            // A server that is gone or overloaded need not know.
            self.connection.notify(cancelled).ok();
        }
    }
}

#[cfg(test)]
mod tests;
